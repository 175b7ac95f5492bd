//! Recorded lines as a history that the checkers understand, and all checkers over it.
//!
//! Keys and digests become numbers; every operation remembers its line. A line without a slot is
//! left to the search. Invariant: the lines of one file have one client space; all files share one
//! clock.

use super::eventual;
use super::line::{Line, LineError, LineOp, LineOutcome, LineRow};
use super::linear::{Search, search_from};
use super::order::{History, Operation, Outcome, Request, Violation};
use crate::time::Instant;
use crate::types::ReadMode;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Bound;

/// Lines of any number of files, as one history.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    entries: Vec<Entry>,
    files: Vec<String>,
    keys: Names,
    digests: Names,
    scans: Vec<Scan>,
    scans_without_rows: u64,
    is_preloaded: bool,
}

/// A scan that was answered, as the read of a key that it is for each key from its start to its last
/// row; of what lies behind that it says nothing, for a reply may end early. It never ends before its
/// first row: one without rows is for every key from its start on.
#[derive(Clone, Debug)]
struct Scan {
    read: Entry,
    start: String,
    /// By key: version and digest.
    rows: BTreeMap<String, (u64, u64)>,
}

/// What a check that found nothing has looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Operations; a scan counts as a read of every key it covers.
    pub operations: usize,
    /// Keys.
    pub keys: usize,
    /// Operations without an answer.
    pub unknown: usize,
    /// Answers without a slot: the order check does not cover them.
    pub without_slot: usize,
    /// Eventual reads: held to monotonicity, not to real time.
    pub eventual: usize,
    /// Scans with their rows.
    pub scans: u64,
    /// Scans without: not checked.
    pub scans_without_rows: u64,
    /// Keys on which the search gave up.
    pub gave_up: Vec<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    operation: Operation,
    place: Place,
    file: usize,
    line: u64,
}

/// Which checkers an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It has its slot, or needs none.
    Known,
    /// Answered, and nobody says at which slot.
    Unknown,
    /// An eventual read of which nobody says that either.
    Eventual,
}

/// Texts as numbers from 1.
#[derive(Clone, Debug, Default)]
struct Names {
    numbers: BTreeMap<String, u64>,
    texts: Vec<String>,
}

impl Recorded {
    /// Whether the store held keys before the history began; by default it was empty.
    pub fn set_preloaded(&mut self, is_preloaded: bool) {
        self.is_preloaded = is_preloaded;
    }

    /// The lines that follow are of another file, with clients of its own.
    pub fn begin_file(&mut self, name: &str) {
        self.files.push(name.to_owned());
    }

    /// Adds line `number` of the file begun last.
    ///
    /// # Errors
    /// [`LineError`] for a line whose fields do not fit each other.
    pub fn push(&mut self, number: u64, line: &Line) -> Result<(), LineError> {
        if self.files.is_empty() {
            self.begin_file("history");
        }
        let returned = line.return_ns.unwrap_or(line.invoke_ns);
        if returned < line.invoke_ns {
            return Err(LineError::Backwards { invoked: line.invoke_ns, returned });
        }
        if line.op == LineOp::Scan && (line.rows.is_none() || line.outcome != LineOutcome::Ok) {
            self.scans_without_rows += 1;
            return Ok(());
        }
        let missing = |field| LineError::Missing { op: line.op, outcome: line.outcome, field };
        if line.outcome == LineOutcome::Ok && line.return_ns.is_none() {
            return Err(missing("return_ns"));
        }
        let request = self.request(line)?;
        let outcome = self.outcome(line, &request)?;
        let (mut slot, mut has_slot) = (line.slot.unwrap_or(0), line.slot.is_some());
        if let Outcome::Written { version } = outcome {
            if line.slot.is_some_and(|slot| slot != version) {
                return Err(LineError::Slot { slot, version });
            }
            (slot, has_slot) = (version, true);
        }
        let is_answered = !matches!(outcome, Outcome::Unknown | Outcome::Refused);
        let is_read = matches!(line.op, LineOp::Get | LineOp::Scan);
        let is_eventual = line.mode == ReadMode::Eventual && is_read;
        let place = match (is_answered && !has_slot, is_eventual) {
            (false, _) => Place::Known,
            (true, false) => Place::Unknown,
            (true, true) => Place::Eventual,
        };
        let file = self.files.len() - 1;
        let operation = Operation {
            client: client_number(file, line.client),
            key: self.keys.number(&line.key),
            request,
            mode: line.mode,
            invoked: Instant::from_nanos(line.invoke_ns),
            returned: Instant::from_nanos(returned),
            slot,
            outcome,
        };
        let entry = Entry { operation, place, file, line: number };
        match &line.rows {
            Some(rows) if line.op == LineOp::Scan => self.push_scan(entry, &line.key, rows),
            Some(_) | None => {
                self.entries.push(entry);
                Ok(())
            }
        }
    }

    fn push_scan(&mut self, read: Entry, start: &str, found: &[LineRow]) -> Result<(), LineError> {
        let mut rows = BTreeMap::new();
        for row in found {
            let last = rows.last_key_value().map(|(key, _): (&String, _)| key.as_str());
            if row.key.as_str() < start || last.is_some_and(|last| last >= row.key.as_str()) {
                return Err(LineError::Rows { start: start.to_owned(), key: row.key.clone() });
            }
            self.keys.number(&row.key);
            rows.insert(row.key.clone(), (row.version, self.digests.number(&row.value_digest)));
        }
        self.scans.push(Scan { read, start: start.to_owned(), rows });
        Ok(())
    }

    /// Scans as the reads that they are, now that all keys are known.
    fn expanded(&self) -> Self {
        let mut whole = self.clone();
        for Scan { read, start, rows } in &self.scans {
            let last = rows.last_key_value();
            let end = last.map_or(Bound::Unbounded, |(last, _)| Bound::Included(last.as_str()));
            let covered = self.keys.numbers.range::<str, _>((Bound::Included(start.as_str()), end));
            whole.entries.extend(covered.map(|(text, key)| {
                let found = rows.get(text).copied();
                let outcome = found.map_or(Outcome::Absent, |(version, digest)| Outcome::Found {
                    version,
                    digest,
                });
                let operation = Operation { key: *key, outcome, ..read.operation.clone() };
                Entry { operation, ..read.clone() }
            }));
        }
        whole
    }

    fn request(&mut self, line: &Line) -> Result<Request, LineError> {
        let missing = |field| LineError::Missing { op: line.op, outcome: line.outcome, field };
        Ok(match line.op {
            LineOp::Get | LineOp::Scan => Request::Get,
            LineOp::Delete => Request::Delete,
            LineOp::Put | LineOp::Cas => {
                let text = line.value_digest.as_deref().ok_or(missing("value_digest"))?;
                let digest = self.digests.number(text);
                if line.op == LineOp::Put {
                    return Ok(Request::Put { digest });
                }
                let expected = line.expected.ok_or(missing("expected"))?;
                Request::CompareAndSet { expected, digest }
            }
        })
    }

    fn outcome(&mut self, line: &Line, request: &Request) -> Result<Outcome, LineError> {
        let missing = |field| LineError::Missing { op: line.op, outcome: line.outcome, field };
        let is_cas = matches!(request, Request::CompareAndSet { .. });
        Ok(match (line.outcome, request) {
            (LineOutcome::Unknown, _) => Outcome::Unknown,
            (LineOutcome::Fail, _) => match line.version {
                Some(current) if is_cas => Outcome::Mismatch { current },
                Some(_) | None => Outcome::Refused,
            },
            (LineOutcome::Ok, Request::Get) => match line.value_digest.as_deref() {
                Some(text) => {
                    let version = line.version.ok_or(missing("version"))?;
                    Outcome::Found { version, digest: self.digests.number(text) }
                }
                None => Outcome::Absent,
            },
            (LineOutcome::Ok, Request::Delete) => {
                line.version.map_or(Outcome::Absent, |version| Outcome::Written { version })
            }
            (LineOutcome::Ok, Request::Put { .. } | Request::CompareAndSet { .. }) => {
                Outcome::Written { version: line.version.ok_or(missing("version"))? }
            }
        })
    }

    /// Runs every checker; gives what was looked at, or what is wrong in words.
    ///
    /// # Errors
    /// The violation as text: what is wrong, the key, and the operations involved with their lines.
    pub fn check(&self) -> Result<Summary, String> {
        let expanded = (!self.scans.is_empty()).then(|| self.expanded());
        let whole = expanded.as_ref().unwrap_or(self);
        whole.verdict().map_err(|violation| whole.describe(&violation))
    }

    fn verdict(&self) -> Result<Summary, Violation> {
        let preloaded_below = self.preloaded_below();
        let of = |place: Place| self.entries.iter().filter(move |entry| entry.place == place);
        // Without its slot only what took no effect is answered: it cannot explain anything.
        let operations = of(Place::Known).map(|entry| entry.operation.clone()).collect();
        let history = History { operations, preloaded_below };
        history.check()?;
        let strong: Vec<&Operation> = self
            .entries
            .iter()
            .map(|entry| &entry.operation)
            .filter(|operation| !operation.is_eventual())
            .collect();
        let weak: Vec<&Operation> = of(Place::Eventual).map(|entry| &entry.operation).collect();
        eventual::check(&weak, &strong, preloaded_below)?;
        let mut by_key: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for &operation in &strong {
            by_key.entry(operation.key).or_default().push(operation);
        }
        let mut gave_up = Vec::new();
        for (key, operations) in &by_key {
            match search_from(operations, &self.initial(operations), STEPS_MAX) {
                Search::Linearizable => {}
                Search::GaveUp => gave_up.push(self.keys.text(*key).to_owned()),
                Search::NotLinearizable { stuck } => {
                    let what = "no linear order explains this key: none of these can come next";
                    return Err(Violation { what: what.to_owned(), operations: stuck });
                }
            }
        }
        let is_unknown = |entry: &&Entry| entry.operation.outcome == Outcome::Unknown;
        Ok(Summary {
            operations: self.entries.len(),
            keys: self.keys.texts.len(),
            unknown: self.entries.iter().filter(is_unknown).count(),
            without_slot: of(Place::Unknown).count(),
            eventual: self.entries.len() - strong.len(),
            scans: self.scans.len() as u64,
            scans_without_rows: self.scans_without_rows,
            gave_up,
        })
    }

    /// Above the lowest slot at which anything was served by the leader, versions are of this history.
    fn preloaded_below(&self) -> u64 {
        if !self.is_preloaded {
            return 0;
        }
        // A follower may serve what is much older.
        let strong = self.entries.iter().filter(|entry| !entry.operation.is_eventual());
        let served = strong.map(|entry| entry.operation.slot).filter(|slot| *slot > 0);
        served.min().map_or(u64::MAX, |first| first + 1)
    }

    /// What a key may have held before: nothing, what a version of before says, or what was read before
    /// anybody wrote it.
    fn initial(&self, operations: &[&Operation]) -> Vec<Option<u64>> {
        let mut states = vec![None];
        if !self.is_preloaded {
            return states;
        }
        let preloaded_below = self.preloaded_below();
        let mut found = BTreeSet::new();
        // When each digest was first written, and when a read first had it.
        let (mut written, mut read) = (BTreeMap::new(), BTreeMap::new());
        let earliest = |times: &mut BTreeMap<u64, Instant>, digest: u64, at: Instant| {
            times.entry(digest).and_modify(|first| *first = at.min(*first)).or_insert(at);
        };
        for operation in operations {
            if let Outcome::Found { version, digest } = operation.outcome {
                earliest(&mut read, digest, operation.returned);
                // Without slots nothing says which versions are older.
                if preloaded_below < u64::MAX && version < preloaded_below {
                    found.insert(digest);
                }
            }
            if let Request::Put { digest } | Request::CompareAndSet { digest, .. } =
                operation.request
            {
                earliest(&mut written, digest, operation.invoked);
            }
        }
        let before = read.into_iter().filter(|(digest, returned)| {
            written.get(digest).is_none_or(|invoked| returned < invoked)
        });
        found.extend(before.map(|(digest, _)| digest));
        // A value that nobody read.
        states.push(Some(0));
        states.extend(found.into_iter().map(Some));
        states
    }

    fn describe(&self, violation: &Violation) -> String {
        let first = violation.operations.first();
        let mut text = match first {
            Some(operation) => {
                format!("key '{}': {}", self.keys.text(operation.key), violation.what)
            }
            None => violation.what.clone(),
        };
        for operation in &violation.operations {
            let is_it = |entry: &&Entry| {
                let other = &entry.operation;
                (other.client, other.invoked, other.key, &other.request)
                    == (operation.client, operation.invoked, operation.key, &operation.request)
            };
            text.push_str("\n  ");
            if let Some(entry) = self.entries.iter().find(is_it) {
                let _ = write!(text, "{}:{}: ", self.files[entry.file], entry.line);
            }
            text.push_str(&self.describe_operation(operation));
        }
        text
    }

    fn describe_operation(&self, operation: &Operation) -> String {
        let digest = |digest: u64| self.digests.text(digest);
        let asked = match operation.request {
            Request::Get => "get".to_owned(),
            Request::Put { digest: of } => format!("put {}", digest(of)),
            Request::Delete => "delete".to_owned(),
            Request::CompareAndSet { expected, digest: of } => {
                format!("cas from version {expected} to {}", digest(of))
            }
        };
        let answered = match operation.outcome {
            Outcome::Found { version, digest: of } => {
                format!("found version {version}, {}", digest(of))
            }
            Outcome::Absent => "found nothing".to_owned(),
            Outcome::Written { version } => format!("done as version {version}"),
            Outcome::Mismatch { current } => format!("not done: version {current} was there"),
            Outcome::Unknown => "no answer".to_owned(),
            Outcome::Refused => "refused".to_owned(),
        };
        let slot = match operation.slot {
            0 => String::new(),
            slot => format!(" at slot {slot}"),
        };
        format!(
            "client {} '{}' {asked}: {answered}{slot}, {} ns to {} ns",
            operation.client & CLIENT_MASK,
            self.keys.text(operation.key),
            operation.invoked.as_nanos(),
            operation.returned.as_nanos()
        )
    }
}

impl Names {
    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.texts.push(text.to_owned());
        let number = self.texts.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn text(&self, number: u64) -> &str {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| self.texts.get(index)).map_or("?", String::as_str)
    }
}

/// Clients of different files are different ones.
fn client_number(file: usize, client: u64) -> u64 {
    (file as u64) << CLIENT_BITS | client & CLIENT_MASK
}

const CLIENT_BITS: u32 = 40;
const CLIENT_MASK: u64 = (1 << CLIENT_BITS) - 1;

/// States that the search of one key looks at before it gives up.
const STEPS_MAX: usize = 300_000;
