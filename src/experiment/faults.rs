//! What happens to a trial's cluster while it runs: a time line of an experiment file.
//!
//! `faults = [{ at_ms = 2000, do = "kill leader" }, { at_ms = 5000, do = "restart" }]`, counted from
//! the start of the measured window. It is carried out from within the generator's own loop,
//! so that real and virtual time need one mechanism.

use super::bed::Bed;
use crate::bench::{Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use crate::config::Policy;
use crate::report::result::TimelineEvent;
use crate::types::Code;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// One line of a time line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultStep {
    /// From the start of the measured window.
    pub at_ms: u64,
    /// What: see [`FaultAction`].
    #[serde(rename = "do")]
    pub action: String,
}

/// Something that is done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultAction {
    /// `kill leader`: its process dies without warning.
    KillLeader,
    /// `kill follower`: one that does not lead.
    KillFollower,
    /// `kill data holder`: a follower at home with a data shard, so that coded reads decode; any
    /// follower where none has one.
    KillDataHolder,
    /// `restart`: whoever is dead starts again.
    Restart,
    /// `pause leader`: its process stands still.
    PauseLeader,
    /// `resume`: it goes on.
    Resume,
    /// `loss 5`: percent of datagrams between nodes.
    Loss(f64),
    /// `delay 10`: milliseconds one way between nodes.
    Delay(f64),
    /// `rate 50`: Mbit/s that each node sends at most; 0 is no limit.
    Rate(f64),
    /// `partition leader`: the leader, and as many others as a minority has, apart from the rest.
    PartitionLeader,
    /// `partition followers`: as many followers as a minority has, apart from the rest.
    PartitionFollowers,
    /// `heal`: no loss, no delay, no partition.
    Heal,
    /// `size 4096`: bytes of what is put from then on, at most those of the trial's values.
    Size(u32),
    /// `policy craft 3+2`: of values proposed from then on.
    Policy(Policy, Code),
}

impl FaultAction {
    /// Can it bring about an election, then or when it is undone?
    pub(super) const fn can_elect(self) -> bool {
        match self {
            Self::KillLeader
            | Self::PauseLeader
            | Self::PartitionLeader
            | Self::PartitionFollowers => true,
            Self::KillFollower
            | Self::KillDataHolder
            | Self::Size(_)
            | Self::Restart
            | Self::Resume
            | Self::Loss(_)
            | Self::Delay(_)
            | Self::Rate(_)
            | Self::Heal
            | Self::Policy(..) => false,
        }
    }
}

impl FromStr for FaultAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str, high: f64| {
            let number = word.parse::<f64>().ok().filter(|number| (0.0..=high).contains(number));
            number.ok_or_else(|| format!("'{text}': {word} is not a number in 0..={high}"))
        };
        Ok(match words.as_slice() {
            ["kill", "leader"] => Self::KillLeader,
            ["kill", "follower"] => Self::KillFollower,
            ["kill", "data", "holder"] => Self::KillDataHolder,
            ["restart"] => Self::Restart,
            ["pause", "leader"] => Self::PauseLeader,
            ["resume"] => Self::Resume,
            ["loss", percent] => Self::Loss(number(percent, 100.0)?),
            ["delay", millis] => Self::Delay(number(millis, 10_000.0)?),
            ["rate", mbit] => Self::Rate(number(mbit, 1e6)?),
            ["size", bytes] => Self::Size(
                bytes.parse().map_err(|_| format!("'{text}': {bytes} is no number of bytes"))?,
            ),
            ["partition", "leader"] => Self::PartitionLeader,
            ["partition", "followers"] => Self::PartitionFollowers,
            ["heal"] => Self::Heal,
            ["policy", policy, code] => Self::Policy(
                policy.parse().map_err(|error| format!("'{text}': {error}"))?,
                code.parse().map_err(|error| format!("'{text}': {error}"))?,
            ),
            _ => {
                return Err(format!(
                    "'{text}' is no fault; there are: kill leader, kill follower, kill data \
                     holder, restart, pause leader, resume, loss PERCENT, delay MS, rate MBIT, \
                     size BYTES, partition leader, partition followers, heal, policy NAME K+M"
                ));
            }
        })
    }
}

/// What is waited for after a `heal`.
struct Healing {
    since: Instant,
    /// Clients whose operation under way was submitted after it,
    asked: BTreeSet<usize>,
    /// and those for which such a one has succeeded.
    served: BTreeSet<usize>,
}

/// A bed's target to which its time line happens.
pub(super) struct Struck<'a> {
    bed: &'a mut dyn Bed,
    from: Instant,
    steps: VecDeque<(u64, FaultAction, String)>,
    /// What was done, and when; with its reason, what could not be done.
    pub(super) events: Vec<TimelineEvent>,
    /// How many of them could not be done.
    pub(super) not_done_count: u32,
    /// From a `heal` until every client has been served something that it asked for after it. (In an
    /// open loop some may ask for nothing: there it may never be so.)
    pub(super) healed: Vec<Duration>,
    /// How many clients there are.
    clients: usize,
    healing: Option<Healing>,
    /// What is put has so many bytes at most.
    value_bytes: usize,
}

impl<'a> Struck<'a> {
    /// The steps are counted from now on; those that cannot be read were refused before.
    pub(super) fn new(bed: &'a mut dyn Bed, steps: &[FaultStep], clients: usize) -> Self {
        let read =
            |step: &FaultStep| Some((step.at_ms, step.action.parse().ok()?, step.action.clone()));
        let mut steps: Vec<_> = steps.iter().filter_map(read).collect();
        steps.sort_by_key(|(at_ms, ..)| *at_ms);
        let healed = Vec::new();
        Self {
            from: bed.target().now(),
            steps: steps.into(),
            events: Vec::new(),
            not_done_count: 0,
            bed,
            healed,
            clients,
            healing: None,
            value_bytes: usize::MAX,
        }
    }

    /// Strikes what is due; gives the time of what comes next. A cluster that cannot be struck as the
    /// time line says (nobody leads it) is what the trial is about, and no reason to end it.
    fn strike_due(&mut self) -> Option<Instant> {
        while let Some((at_ms, ..)) = self.steps.front() {
            let at = self.from + Duration::from_millis(*at_ms);
            if at > self.bed.target().now() {
                return Some(at);
            }
            let Some((_, action, text)) = self.steps.pop_front() else { break };
            let done = if let FaultAction::Size(bytes) = action {
                self.value_bytes = bytes as usize;
                Ok(text.clone())
            } else {
                self.bed.strike(action)
            };
            let is_done = done.is_ok();
            let name = done.unwrap_or_else(|reason| format!("{text}: not done, {reason}"));
            self.not_done_count += u32::from(!is_done);
            let elapsed = self.bed.target().now().saturating_duration_since(self.from);
            let at_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            self.events.push(TimelineEvent { at_ms, name });
            if is_done && action == FaultAction::Heal {
                self.healing = Some(Healing {
                    since: self.bed.target().now(),
                    asked: BTreeSet::new(),
                    served: BTreeSet::new(),
                });
            }
        }
        None
    }
}

impl Target for Struck<'_> {
    fn submit(&mut self, client: usize, mut op: TargetOp) {
        if let TargetOp::Put { value, .. } = &mut op {
            value.truncate(self.value_bytes);
        }
        if let Some(healing) = &mut self.healing {
            healing.asked.insert(client);
        }
        self.bed.target().submit(client, op);
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        let next = self.strike_due();
        let deadline = next.map_or(deadline, |next| next.min(deadline));
        let known = completions.len();
        self.bed.target().wait(completions, deadline)?;
        if let Some(healing) = &mut self.healing {
            for completion in &completions[known..] {
                let is_bad = matches!(
                    completion.outcome,
                    TargetOutcome::Error { .. } | TargetOutcome::Timeout
                );
                if healing.asked.contains(&completion.client) && !is_bad {
                    healing.served.insert(completion.client);
                }
            }
            if healing.served.len() == self.clients {
                let last = completions[known..].iter().map(|completion| completion.completed_at);
                let last = last.max().unwrap_or(healing.since);
                self.healed.push(last.saturating_duration_since(healing.since));
                self.healing = None;
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.bed.now()
    }

    fn has_virtual_time(&self) -> bool {
        self.bed.has_virtual_time()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read_and_others_are_refused_with_what_there_is() {
        for text in ["kill leader", "restart", "loss 5", "rate 50", "heal", "policy craft 3+2"] {
            text.parse::<FaultAction>().unwrap();
        }
        assert_eq!("delay 2.5".parse(), Ok(FaultAction::Delay(2.5)));
        assert_eq!("size 4096".parse(), Ok(FaultAction::Size(4096)));
        assert_eq!("kill data holder".parse(), Ok(FaultAction::KillDataHolder));
        for text in ["kill", "loss 200", "rate x", "policy craft", "policy none 3+2", ""] {
            let error = text.parse::<FaultAction>().unwrap_err();
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
    }
}
