//! What the protocol is told of the transport: what is on its way to others, and from the leader.
//!
//! The transport is reliable while both sides live. What it still carries is late and not lost: it is
//! neither sent again nor fetched from others, which would make a slow link slower.

use super::Replica;
use crate::time::Instant;

impl Replica {
    /// Before a timer of the protocol is handled.
    pub(super) fn tell_under_way(&mut self, now: Instant) {
        if self.paxos.poll_timeout() > now {
            return;
        }
        if self.is_leader() {
            for node in 0..32 {
                let address = self.paxos.address(node).filter(|_| node != self.config.node.0);
                let since = address.and_then(|address| self.transport.oldest_sent_at(address));
                self.paxos.handle_under_way(node, since);
            }
        } else {
            let lately = self.config.cluster.timing.resend();
            let leader = self.paxos.leader().and_then(|leader| self.paxos.address(leader.0));
            let from = leader.filter(|leader| self.transport.is_receiving(now, *leader, lately));
            self.paxos.handle_receiving(from.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Output;
    use super::super::testing::first_of_three;
    use super::*;

    #[test]
    fn a_replica_whose_card_is_full_is_due_for_its_timers_alone() {
        let (mut replica, mut now) = (first_of_three(), Instant::ZERO);
        replica.hold_transmits(0);
        // It has much to say, to begin with: to meet the others.
        for _ in 0..20 {
            while let Some(output) = replica.poll_output(now) {
                match output {
                    Output::Transmit(transmit) => panic!("held, and sends to {}", transmit.to),
                    Output::Persist { ticket, .. } => replica.handle_persisted(now, ticket),
                    Output::Read { .. }
                    | Output::ReadIndex { .. }
                    | Output::Reclaim { .. }
                    | Output::Control { .. }
                    | Output::Trace(_) => {}
                }
            }
            let due = replica.poll_timeout().expect("an election is due");
            assert!(due > now, "due at {due:?} with nothing to do");
            now = due;
            replica.handle_timeout(now);
        }
        replica.hold_transmits(usize::MAX);
        assert_eq!(replica.poll_timeout(), Some(Instant::ZERO));
        let has_sent = std::iter::from_fn(|| replica.poll_output(now))
            .any(|output| matches!(output, Output::Transmit(_)));
        assert!(has_sent);
    }
}
