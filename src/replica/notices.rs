//! What an operator should read in a node's log: who it is to the cluster, and who refuses it.

use super::Replica;
use crate::paxos;
use crate::types::NodeId;

impl Replica {
    /// A line for the node's log that is worth an operator's attention.
    pub fn poll_notice(&mut self) -> Option<String> {
        self.notices.pop_front()
    }

    pub(super) fn notice_standing(&mut self) {
        let standing = self.paxos.standing();
        if standing == self.stood {
            return;
        }
        self.stood = standing;
        let text = match standing {
            paxos::Standing::Member => "is a member",
            paxos::Standing::Newcomer => "learns, to be a member",
            paxos::Standing::Unknown => {
                "is no member yet: let it in with 'distkv admin add-node' or 'replace-node'"
            }
            paxos::Standing::Removed => {
                "was removed from the cluster: its id is refused for ever, stop it"
            }
        };
        self.notices.push_back(text.to_owned());
    }

    /// A peer refuses this node's data directory (rule 12).
    pub(super) fn notice_refused(&mut self, by: NodeId) {
        let own = self.config.node;
        self.notices.push_back(format!(
            "refused by {by}: {own} was another data directory before, and this one does not know \
             what that promised; bring a new node in its place with 'distkv admin replace-node \
             --old {}'",
            own.0
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{Envelope, Message};
    use crate::replica::testing::{address, first_of_three};
    use crate::time::Instant;
    use crate::types::{Ballot, Slot};

    #[test]
    fn who_refuses_is_named_once() {
        // A leader that refuses this node's directory sends it heartbeats as before, and refuses every
        // answer: each pair was a line in the log.
        let mut replica = first_of_three();
        replica.notices.clear();
        let ballot = Ballot { round: 1, node: 1 };
        for sequence in 1..4 {
            for message in [
                Message::Refused { incarnation: 5 },
                Message::Heartbeat { ballot, sequence, commit: Slot::ZERO },
            ] {
                let envelope = Envelope { from: NodeId(1), incarnation: 9, message };
                assert!(replica.handle_envelope(Instant::ZERO, address(1), envelope));
            }
        }
        let notice = replica.poll_notice().expect("it says that it is refused");
        assert!(notice.starts_with("refused by n1"), "{notice}");
        assert_eq!(replica.poll_notice(), None);
    }
}
