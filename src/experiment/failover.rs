//! Leaders killed one after the other: how long until another leads, commits, and answers a read.
//!
//! A local cluster under light load; its leader is killed (SIGKILL), the survivors are asked for
//! their role every few milliseconds, and clients keep trying to put, and to read what was written
//! long before, of which a follower has a shard alone. All times count from the signal: to the first
//! answer of a node that leads at a higher ballot, to the first acknowledgement of a put that was
//! submitted after the kill, and to the first answer to such a linearizable read. Then the node is
//! started again on its data, and the next kill waits until it has caught up. Nodes die with the
//! thread that calls.

use super::CancelFlag;
use crate::client::{ClientDriver, DriverError};
use crate::config::ClusterConfig;
use crate::kv::{NodeStatus, Op, Outcome, Role};
use crate::node::launcher::{LaunchError, LocalCluster};
use crate::replica::client_machine::{ClientOutcome, Completion, SubmitError, Token};
use crate::rng::Rng;
use crate::types::{Ballot, Bytes, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailoverPlan {
    /// Leaders to kill.
    pub kills: usize,
    /// Bytes of each value put.
    pub value_bytes: usize,
    /// Seed of the pauses between kills, so that they meet every phase of a heartbeat.
    pub seed: u64,
    /// Niceness of the nodes.
    pub nice: u8,
}

/// One leader killed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// The node killed.
    pub killed: u8,
    /// The node that leads next.
    pub leader: u8,
    /// From the kill until it says so.
    pub leader_ms: f64,
    /// From the kill until a put submitted after it was acknowledged.
    pub commit_ms: f64,
    /// From the kill until a linearizable read submitted after it was answered.
    pub read_ms: f64,
    /// Campaigns that the survivors started meanwhile; above 1, some were in vain.
    pub campaigns: u64,
}

/// Times of many kills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half were shorter.
    pub median_ms: f64,
    /// 99 of 100 were at most this (nearest rank).
    pub p99_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// `(from, count)` of each [`BUCKET_MS`] that has any.
    pub histogram: Vec<(u64, u64)>,
}

/// The whole result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailoverReport {
    /// Of this structure.
    pub schema_version: u32,
    /// Of the cluster.
    pub policy: String,
    /// Of the cluster.
    pub code: String,
    /// Of the cluster.
    pub nodes: usize,
    /// The cluster's shortest election timeout.
    pub election_ms: u64,
    /// To another leader.
    pub leader: Spread,
    /// To the first commit.
    pub commit: Spread,
    /// To the first read.
    pub read: Spread,
    /// Each of them.
    pub kills: Vec<Kill>,
}

/// Kills that could not be measured.
#[derive(Debug, Error)]
pub enum FailoverError {
    /// The cluster's processes.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The client that watches.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The client took no more operations.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Something that must happen did not.
    #[error(
        "{what} did not happen within {seconds} s; see the nodes' logs in the cluster's folder"
    )]
    Stuck {
        /// What was waited for.
        what: &'static str,
        /// For so long.
        seconds: f64,
    },
    /// Ctrl-C.
    #[error("cancelled")]
    Cancelled,
}

/// Runs `plan` on a new cluster of `config` in `dir`; `executable` is the `distkv` program. After each
/// kill `progress` is called.
///
/// # Errors
/// [`FailoverError`]; nothing is left running then either.
pub fn run_failover(
    executable: &Path,
    config: ClusterConfig,
    dir: &Path,
    plan: FailoverPlan,
    cancel: &CancelFlag,
    mut progress: impl FnMut(usize, &Kill),
) -> Result<FailoverReport, FailoverError> {
    let (policy, code) = (config.policy.to_string(), config.code.to_string());
    let (nodes, election_ms) = (config.members.len(), config.timing.election_ms);
    let mut cluster = LocalCluster::start_nice(executable, plan.nice, config, dir)?;
    cluster.wait_for_leader(LIMIT)?;
    let mut watch = Watch::new(&cluster, plan)?;
    watch.load()?;
    let mut kills = Vec::with_capacity(plan.kills);
    while kills.len() < plan.kills {
        if cancel.is_cancelled() {
            return Err(FailoverError::Cancelled);
        }
        let before = watch.settle(&cluster)?;
        let killed = NodeId(before.node);
        let kill = watch.kill(&mut cluster, &before)?;
        cluster.start_node(killed)?;
        progress(kills.len() + 1, &kill);
        kills.push(kill);
    }
    cluster.stop();
    let spread = |of: fn(&Kill) -> f64| Spread::of(kills.iter().map(of).collect());
    let (leader, commit) = (spread(|kill| kill.leader_ms), spread(|kill| kill.commit_ms));
    let read = spread(|kill| kill.read_ms);
    let schema_version = FailoverReport::SCHEMA_VERSION;
    Ok(FailoverReport {
        schema_version,
        policy,
        code,
        nodes,
        election_ms,
        leader,
        commit,
        read,
        kills,
    })
}

impl FailoverReport {
    /// Of what is written now.
    pub const SCHEMA_VERSION: u32 = 2;
}

impl Spread {
    /// Of any times; all zero when there are none.
    #[must_use]
    pub fn of(mut times_ms: Vec<f64>) -> Self {
        times_ms.sort_by(f64::total_cmp);
        let at = |hundredths: usize| {
            let rank = (times_ms.len() * hundredths).div_ceil(100).max(1);
            times_ms.get(rank - 1).copied().unwrap_or(0.0)
        };
        let mut histogram: BTreeMap<u64, u64> = BTreeMap::new();
        for time in &times_ms {
            let millis = Duration::try_from_secs_f64(time / 1e3).map_or(0, |span| span.as_millis());
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            *histogram.entry(millis / BUCKET_MS * BUCKET_MS).or_default() += 1;
        }
        Self {
            median_ms: at(50),
            p99_ms: at(99),
            min_ms: at(0),
            max_ms: at(100),
            histogram: histogram.into_iter().collect(),
        }
    }
}

/// A client that loads the cluster and asks its nodes for their roles.
struct Watch {
    driver: ClientDriver,
    nodes: Vec<NodeId>,
    value: Bytes,
    rng: Rng,
    /// Puts under way, and when they were submitted.
    puts: BTreeMap<Token, (usize, Instant)>,
    /// Reads under way, likewise.
    reads: BTreeMap<Token, (usize, Instant)>,
    /// Status requests under way.
    asked: BTreeMap<Token, NodeId>,
    seen: BTreeMap<NodeId, NodeStatus>,
    /// Submission and end of the last put acknowledged.
    acknowledged: Option<(Instant, Instant)>,
    /// Of the last read answered.
    answered: Option<(Instant, Instant)>,
    put_again_at: Instant,
    ask_again_at: Instant,
}

impl Watch {
    fn new(cluster: &LocalCluster, plan: FailoverPlan) -> Result<Self, FailoverError> {
        let nodes = cluster.nodes();
        // One session a put or read, and one a node for its status.
        let sessions = PUTS + READS + nodes.len();
        let driver = ClientDriver::with(cluster.cluster(), sessions, |config| {
            // Clients that hardly wait: it is the cluster's time that is wanted.
            config.attempt_timeout = Duration::from_millis(15);
            config.backoff_min = Duration::from_millis(2);
            config.backoff_max = Duration::from_millis(5);
            config.operation_timeout = LIMIT;
        })?;
        let now = Instant::now();
        Ok(Self {
            driver,
            nodes,
            value: vec![7; plan.value_bytes].into(),
            rng: Rng::new(plan.seed),
            puts: BTreeMap::new(),
            reads: BTreeMap::new(),
            asked: BTreeMap::new(),
            seen: BTreeMap::new(),
            acknowledged: None,
            answered: None,
            put_again_at: now,
            ask_again_at: now,
        })
    }

    /// Writes what is read later, and waits for it.
    fn load(&mut self) -> Result<(), FailoverError> {
        let deadline = Instant::now() + LIMIT;
        for number in 0..OLD_KEYS {
            let op = Op::Put { key: old_key(number), value: self.value.clone() };
            let token = self.driver.submit(0, op)?;
            let mut is_written = false;
            while !is_written {
                self.driver.wait(deadline, |ended| is_written |= ended.token == token)?;
                if Instant::now() >= deadline {
                    return Err(stuck("that the values to be read are written"));
                }
            }
        }
        Ok(())
    }

    /// Keeps load and questions going for a moment; a node of `dead` is not asked.
    fn turn(&mut self, dead: Option<NodeId>) -> Result<(), FailoverError> {
        let now = Instant::now();
        if now >= self.put_again_at {
            self.put_again_at = now + PUT_EVERY;
            let busy: Vec<usize> = self.puts.values().map(|(session, _)| *session).collect();
            if let Some(session) = (0..PUTS).find(|session| !busy.contains(session)) {
                let key = Bytes::from(format!("key-{session}"));
                let op = Op::Put { key, value: self.value.clone() };
                let token = self.driver.submit(session, op)?;
                self.puts.insert(token, (session, now));
            }
            let busy: Vec<usize> = self.reads.values().map(|(session, _)| *session).collect();
            if let Some(session) = (PUTS..PUTS + READS).find(|session| !busy.contains(session)) {
                let key = old_key(self.rng.below(OLD_KEYS));
                let token = self.driver.submit(session, Op::Get { key })?;
                self.reads.insert(token, (session, now));
            }
        }
        if now >= self.ask_again_at {
            self.ask_again_at = now + ASK_EVERY;
            for (at, node) in self.nodes.clone().into_iter().enumerate() {
                if Some(node) != dead && !self.asked.values().any(|asked| *asked == node) {
                    let token = self.driver.submit_status(PUTS + READS + at, node, LIMIT)?;
                    self.asked.insert(token, node);
                }
            }
        }
        let mut ended = Vec::new();
        let until = self.put_again_at.min(self.ask_again_at);
        self.driver.wait(until, |completion| ended.push(completion))?;
        for completion in ended {
            self.take(completion);
        }
        Ok(())
    }

    fn take(&mut self, completion: Completion) {
        let is_put = self.puts.remove(&completion.token);
        let is_read = self.reads.remove(&completion.token);
        let asked = self.asked.remove(&completion.token);
        let ClientOutcome::Done(outcome) = completion.outcome else { return };
        if let (Some((_, submitted)), Outcome::Written { .. }) = (is_put, &outcome) {
            self.acknowledged = Some((submitted, Instant::now()));
        }
        if let (Some((_, submitted)), Outcome::Value { .. }) = (is_read, &outcome) {
            self.answered = Some((submitted, Instant::now()));
        }
        if let (Some(node), Outcome::Status(status)) = (asked, outcome) {
            self.seen.insert(node, *status);
        }
    }

    /// Who leads, by the highest ballot seen.
    fn leader(&self) -> Option<&NodeStatus> {
        let leaders = self.seen.values().filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.ballot)
    }

    /// Waits until all nodes have what the leader has, then a pause at random.
    fn settle(&mut self, cluster: &LocalCluster) -> Result<NodeStatus, FailoverError> {
        let deadline = Instant::now() + LIMIT;
        let mut quiet_until = None;
        loop {
            self.turn(None)?;
            let now = Instant::now();
            let leader = self.leader().cloned();
            let is_even = leader.as_ref().is_some_and(|leader| {
                let ballot = leader.ballot;
                let known = cluster.nodes().into_iter().filter_map(|node| self.seen.get(&node));
                let even = known.filter(|status| {
                    status.ballot == ballot && status.applied.0 + EVEN_SLOTS >= leader.applied.0
                });
                even.count() == cluster.nodes().len() && leader.peers.iter().all(|peer| peer.alive)
            });
            if !is_even {
                quiet_until = None;
            } else if let Some(leader) = leader
                && now
                    >= *quiet_until
                        .get_or_insert(now + Duration::from_millis(400 + self.rng.below(200)))
            {
                return Ok(leader);
            }
            if now >= deadline {
                return Err(stuck("that all nodes follow one leader"));
            }
        }
    }

    /// Kills the leader and waits for the next one and its first commit.
    fn kill(
        &mut self,
        cluster: &mut LocalCluster,
        before: &NodeStatus,
    ) -> Result<Kill, FailoverError> {
        let killed = NodeId(before.node);
        let campaigns_before = self.campaigns(killed);
        let (at, deadline) = (Instant::now(), Instant::now() + LIMIT);
        cluster.kill(killed)?;
        self.seen.remove(&killed);
        self.asked.retain(|_, node| *node != killed);
        let mut led: Option<(u8, Ballot, Instant)> = None;
        let (mut committed, mut read) = (None, None);
        loop {
            self.turn(Some(killed))?;
            self.seen.remove(&killed);
            let now = Instant::now();
            let next = self.leader().filter(|status| status.ballot > before.ballot);
            if let Some(next) = next
                && led.is_none()
            {
                led = Some((next.node, next.ballot, now));
            }
            let first = |known: Option<Instant>, last: Option<(Instant, Instant)>| {
                known.or(last.filter(|(submitted, _)| *submitted > at).map(|(_, ended)| ended))
            };
            committed = first(committed, self.acknowledged);
            read = first(read, self.answered);
            if let (Some((leader, _, led_at)), Some(committed_at), Some(read_at)) =
                (led, committed, read)
            {
                return Ok(Kill {
                    killed: killed.0,
                    leader,
                    leader_ms: (led_at - at).as_secs_f64() * 1e3,
                    commit_ms: (committed_at - at).as_secs_f64() * 1e3,
                    read_ms: (read_at - at).as_secs_f64() * 1e3,
                    campaigns: self.campaigns(killed).saturating_sub(campaigns_before),
                });
            }
            if now >= deadline {
                return Err(stuck("a commit and a read after the leader was killed"));
            }
        }
    }

    fn campaigns(&self, without: NodeId) -> u64 {
        let others = self.seen.iter().filter(|(node, _)| **node != without);
        others.map(|(_, status)| status.campaigns).sum()
    }
}

fn old_key(number: u64) -> Bytes {
    Bytes::from(format!("old-{number}"))
}

fn stuck(what: &'static str) -> FailoverError {
    FailoverError::Stuck { what, seconds: LIMIT.as_secs_f64() }
}

/// Width of a histogram's place.
pub const BUCKET_MS: u64 = 50;
const LIMIT: Duration = Duration::from_secs(30);
/// Puts under way at most, and how often one is added: light load.
const PUTS: usize = 8;
const READS: usize = 4;
/// Values that are read and never written again.
const OLD_KEYS: u64 = 64;
const PUT_EVERY: Duration = Duration::from_millis(10);
const ASK_EVERY: Duration = Duration::from_millis(4);
/// Slots that a node may be behind and count as even: what is in flight.
const EVEN_SLOTS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_takes_the_nearest_rank() {
        let spread = Spread::of((1..=100).map(f64::from).collect());
        assert_eq!((spread.median_ms, spread.p99_ms), (50.0, 99.0));
        assert_eq!((spread.min_ms, spread.max_ms), (1.0, 100.0));
        assert_eq!(spread.histogram, [(0, 49), (50, 50), (100, 1)]);
        assert_eq!(Spread::of(Vec::new()).histogram, []);
    }
}
