//! What goes to other nodes: messages, cut to what their paths carry in a moment.
//!
//! A message is acted on when all of it has arrived. Values that were proposed together share one, so
//! that whoever accepts them syncs once. Over a path that takes long for them each waits for the last
//! one instead: all are answered together, their clients ask together, and the path stands still in
//! between. So a message holds what its path carries in [`PAGE_TIME`], in which a node syncs, too.
//! Where little is sent the rate is that, not what the path could carry: then, too, what was sent in
//! a round trip is cut into no more messages than it has [`PAGE_TIME`]s, each a sync at most.

use super::Replica;
use crate::paxos::{Envelope, Message};
use crate::time::{Duration, Instant};
use std::net::SocketAddr;

impl Replica {
    pub(super) fn send(&mut self, now: Instant, to: u8, message: Message) {
        let known = self.paxos.address(to).or_else(|| self.strangers.get(&to).copied());
        let Some(address) = known else { return };
        if !matches!(&message, Message::Accept { entries, .. } if entries.len() > 1) {
            return self.send_whole(now, to, address, message);
        }
        let rate = self.transport.delivery_rate(now, address);
        for page in message.paged(rate.map_or(usize::MAX, page_bytes)) {
            self.send_whole(now, to, address, page);
        }
    }

    fn send_whole(&mut self, now: Instant, to: u8, address: SocketAddr, message: Message) {
        let from = self.config.node;
        let envelope = Envelope { from, incarnation: self.incarnation, message };
        match self.transport.send(now, address, &envelope.encode()) {
            Ok(id) => {
                if let Message::Accept { entries, .. } = &envelope.message {
                    let slots = entries.iter().map(|entry| entry.meta.slot());
                    self.stages.queued(slots, address, id);
                }
            }
            // A full queue loses the message as a network would: everything is sent again in time.
            Err(error) => self.trace(|| format!("not sent to n{to}: {error}")),
        }
    }
}

/// Entries of one message over a path of `bytes_per_s`.
fn page_bytes(bytes_per_s: u64) -> usize {
    let bytes = u128::from(bytes_per_s) * PAGE_TIME.as_nanos() / 1_000_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX).max(PAGE_BYTES_MIN)
}

/// How long entries of one message may be on their way one after the other.
const PAGE_TIME: Duration = Duration::from_millis(4);
/// Just under a datagram of the default: smaller messages would share one anyway.
const PAGE_BYTES_MIN: usize = 8000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_what_its_path_carries_in_a_moment() {
        // 50 Mbit/s and 1 Gbit/s.
        for (bytes_per_s, page) in [(6_250_000, 25_000), (125_000_000, 500_000)] {
            assert_eq!(page_bytes(bytes_per_s), page);
        }
        assert_eq!(page_bytes(1), PAGE_BYTES_MIN);
        assert!(page_bytes(u64::MAX) > 1 << 40);
    }
}
