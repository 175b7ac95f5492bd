//! Eventual reads without slots: what one client sees of a key never goes back, and somebody had
//! written it. Those with slots are judged by [`super::History::check`].

use super::order::{Operation, Outcome, Request, Violation, violation};
use std::collections::{BTreeMap, BTreeSet};

/// Judges `reads` by themselves; `others` are the operations that may have written what they found.
/// Versions below `preloaded_below` may be older than the history.
///
/// # Errors
/// The first [`Violation`].
pub(super) fn check(
    reads: &[&Operation],
    others: &[&Operation],
    preloaded_below: u64,
) -> Result<(), Violation> {
    check_written(reads, others, preloaded_below)?;
    let mut streams: BTreeMap<(u64, u64), Vec<&Operation>> = BTreeMap::new();
    for &read in reads.iter().filter(|read| read.is_served()) {
        streams.entry((read.client, read.key)).or_default().push(read);
    }
    streams.values_mut().try_for_each(|stream| check_stream(stream))
}

/// Every value found was written, and under that version.
fn check_written(
    reads: &[&Operation],
    others: &[&Operation],
    preloaded_below: u64,
) -> Result<(), Violation> {
    let mut by_version: BTreeMap<(u64, u64), (u64, &Operation)> = BTreeMap::new();
    let mut tried: BTreeSet<(u64, u64)> = BTreeSet::new();
    for &write in others.iter().filter(|other| other.outcome != Outcome::Refused) {
        let (Request::Put { digest } | Request::CompareAndSet { digest, .. }) = write.request
        else {
            continue;
        };
        tried.insert((write.key, digest));
        if let Outcome::Written { version } = write.outcome {
            by_version.insert((write.key, version), (digest, write));
        }
    }
    for &read in reads {
        let Outcome::Found { version, digest } = read.outcome else { continue };
        match by_version.get(&(read.key, version)) {
            Some((_, write)) if write.invoked > read.returned => {
                let what = "a read returned a value before its write began";
                return violation(what, &[write, read]);
            }
            Some((written, _)) if *written == digest => {}
            Some((_, write)) => {
                return violation("a read returned other bytes than were written", &[write, read]);
            }
            None if tried.contains(&(read.key, digest)) || version < preloaded_below => {}
            None => {
                let what = "a read returned a value that was never written there";
                return violation(what, &[read]);
            }
        }
    }
    Ok(())
}

/// Reads of one key by one client.
fn check_stream(reads: &mut [&Operation]) -> Result<(), Violation> {
    let mut by_return = reads.to_vec();
    by_return.sort_by_key(|read| read.returned);
    reads.sort_by_key(|read| read.invoked);
    let mut ended = by_return.into_iter().peekable();
    let mut highest: Option<(u64, &Operation)> = None;
    for &read in reads.iter() {
        while let Some(earlier) = ended.next_if(|other| other.returned < read.invoked) {
            if let Outcome::Found { version, .. } = earlier.outcome
                && highest.is_none_or(|(highest, _)| version > highest)
            {
                highest = Some((version, earlier));
            }
        }
        if let Outcome::Found { version, .. } = read.outcome
            && let Some((highest, earlier)) = highest
            && version < highest
        {
            let what = "an eventual read went back behind an earlier one of its client";
            return violation(what, &[earlier, read]);
        }
    }
    Ok(())
}
