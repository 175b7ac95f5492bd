//! One configuration epoch: what a chosen log entry fixes for all slots after it (rule 11).
//!
//! The first epoch is the cluster file's. A later one comes with its members in a
//! [`super::Configuration`], the header of a value: everybody gets it in full, and the paxos machine
//! reads it when it is applied.

use super::policy::check;
use super::{ConfigError, Policy, Quorums};
use crate::types::{Code, DecodeError, Epoch, Reader, Writer};

/// Policy, code and size of the cluster in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochConfig {
    /// Its number; the cluster file's is 0.
    pub epoch: Epoch,
    /// Nodes, N.
    pub nodes: u8,
    /// The policy.
    pub policy: Policy,
    /// The code of its values.
    pub code: Code,
    /// `hybrid` sends full copies of values shorter than this.
    pub hybrid_bytes: u32,
}

impl EpochConfig {
    /// Checks and completes it: `replicate` has the code (1, N - 1) whatever is asked for.
    ///
    /// # Errors
    /// [`ConfigError`] for a code that does not fit the nodes or a quorum inequality that fails.
    pub fn checked(mut self) -> Result<Self, ConfigError> {
        if self.policy == Policy::Replicate {
            self.code = self.copies();
        }
        if self.code.n() != self.nodes {
            let (code, n) = (self.code.to_string(), self.code.n());
            return Err(ConfigError::CodeSize { code, n, nodes: usize::from(self.nodes) });
        }
        check(self.policy, self.code, u32::from(self.nodes))?;
        Ok(self)
    }

    /// Its quorums.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        Quorums::of(self.policy, self.code, u32::from(self.nodes))
    }

    /// The code of full copies: for replicated values, and for all without a payload.
    ///
    /// # Panics
    /// Never for a checked epoch: it has 1 to 32 nodes.
    #[must_use]
    pub fn copies(&self) -> Code {
        Code::new(1, self.nodes.saturating_sub(1)).expect("1 to 32 nodes")
    }

    /// Its encoding within a message.
    pub fn write(&self, to: &mut Writer) {
        to.u64(self.epoch.0);
        to.u8(self.nodes);
        let policy = Policy::ALL.iter().position(|policy| *policy == self.policy);
        to.u8(policy.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX));
        to.u8(self.code.k());
        to.u8(self.code.m());
        to.u32(self.hybrid_bytes);
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or no epoch that could be.
    pub fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let epoch = Epoch(from.counter("epoch")?);
        let nodes = from.u8("nodes")?;
        let policy = from.u8("policy")?;
        let (k, m) = (from.u8("k")?, from.u8("m")?);
        let hybrid_bytes = from.u32("hybrid_bytes")?;
        let invalid = |field, value| DecodeError::Invalid { field, value: u64::from(value) };
        let policy =
            *Policy::ALL.get(usize::from(policy)).ok_or_else(|| invalid("policy", policy))?;
        let code = Code::new(k, m).map_err(|_| invalid("code", k))?;
        if nodes == 0 || nodes > 32 {
            return Err(invalid("nodes", nodes));
        }
        let read = Self { epoch, nodes, policy, code, hybrid_bytes };
        // One that would be put right here was never written.
        read.checked().ok().filter(|checked| *checked == read).ok_or_else(|| invalid("code", k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Bytes;

    fn written(epoch: &EpochConfig) -> Bytes {
        let mut to = Writer::new();
        epoch.write(&mut to);
        to.finish().concat().into()
    }

    #[test]
    fn an_epoch_survives_the_log() {
        for policy in Policy::ALL {
            let code = Code::new(3, 2).unwrap();
            let epoch = EpochConfig { epoch: Epoch(7), nodes: 5, policy, code, hybrid_bytes: 99 };
            let epoch = epoch.checked().unwrap();
            let bytes = written(&epoch);
            assert_eq!(EpochConfig::read(&mut Reader::new(bytes.clone())), Ok(epoch));
            for cut in 0..bytes.len() {
                let mut from = Reader::new(bytes.slice(..cut));
                assert!(EpochConfig::read(&mut from).is_err(), "cut at {cut}");
            }
        }
        let code = Code::new(4, 1).unwrap();
        let epoch = Epoch(1);
        let craft = EpochConfig { epoch, nodes: 5, policy: Policy::Craft, code, hybrid_bytes: 0 };
        assert!(craft.checked().is_err());
        assert!(EpochConfig::read(&mut Reader::new(written(&craft))).is_err());
    }
}
