//! The table of peers: found by address, made for whoever is new, let go when idle; their timers.

use super::Transport;
use super::peer::Peer;
use crate::time::{Duration, Instant};
use std::net::SocketAddr;

/// A table full of peers that are not idle is looked through no sooner again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Transport {
    pub(super) fn find(&mut self, address: SocketAddr) -> Option<usize> {
        match self.last_found {
            Some((found, at)) if found == address => Some(at),
            Some(_) | None => {
                let at = *self.by_address.get(&address)?;
                self.last_found = Some((address, at));
                Some(at)
            }
        }
    }

    /// The peer whose turn it is, which is ready no more.
    pub(super) fn pop_ready(&mut self, now: Instant, room_bytes: usize) -> Option<usize> {
        self.turn = self.turn.wrapping_add(1) % 4;
        if room_bytes < usize::MAX && self.turn > 0 {
            let is_urgent = |at: &usize| self.peers[*at].as_ref().is_some_and(|p| p.is_urgent(now));
            if let Some(rank) = self.ready.iter().position(is_urgent) {
                return self.ready.remove(rank);
            }
        }
        self.ready.pop_front()
    }

    pub(super) fn peer(&self, address: SocketAddr) -> Option<&Peer> {
        self.peers[*self.by_address.get(&address)?].as_deref()
    }

    pub(super) fn find_or_add(&mut self, now: Instant, address: SocketAddr) -> Option<usize> {
        if let Some(at) = self.find(address) {
            return Some(at);
        }
        let is_full = self.by_address.len() >= self.shared.config.max_peers;
        if is_full && !self.expected.contains(&address) && !self.evict_idle(now) {
            return None;
        }
        let first = (self.first_id, self.first_packet_number);
        let peer = Box::new(Peer::new(now, address, first, &self.shared));
        let at = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        self.peers[at] = Some(peer);
        self.by_address.insert(address, at);
        self.mark_ready(at);
        Some(at)
    }

    /// Drops the idle peer that has been silent longest, if that is long enough. When there is none,
    /// the table is not looked through again for each stranger.
    fn evict_idle(&mut self, now: Instant) -> bool {
        if now < self.full_until {
            return false;
        }
        let silence = self.shared.config.give_up() * 2;
        let peers = self.peers.iter().enumerate();
        let idle = peers.filter_map(|(at, peer)| {
            let other = peer.as_ref().filter(|peer| !self.expected.contains(&peer.address))?;
            Some((other.idle_since()?, at))
        });
        let longest = idle.min().filter(|(since, _)| *since + silence <= now);
        match longest {
            Some((_, at)) => self.evict(at),
            None => self.full_until = now + LOOK_AGAIN,
        }
        longest.is_some()
    }

    pub(super) fn mark_ready(&mut self, at: usize) {
        if let Some(peer) = self.peers[at].as_deref_mut() {
            *peer.is_unchecked.get_mut() = true;
            if !peer.is_ready {
                peer.is_ready = true;
                self.ready.push_back(at);
            }
        }
    }

    pub(super) fn set_timer(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_deref_mut() else { return };
        let deadline = peer.deadline(&self.shared.config);
        if peer.timer == Some(deadline) {
            return;
        }
        if let Some(old) = peer.timer.replace(deadline) {
            self.timers.remove(&(old, at));
        }
        self.timers.insert((deadline, at));
    }

    pub(super) fn evict(&mut self, at: usize) {
        let Some(mut peer) = self.peers[at].take() else { return };
        peer.release(&mut self.shared);
        if let Some(deadline) = peer.timer {
            self.timers.remove(&(deadline, at));
        }
        self.first_id = self.first_id.max(peer.outbox.next_id());
        self.first_packet_number = self.first_packet_number.max(peer.flight.next_packet_number());
        self.by_address.remove(&peer.address);
        self.last_found = None;
        self.ready.retain(|ready| *ready != at);
        self.free.push(at);
        self.shared.stats.peers_evicted += 1;
    }
}
