//! Who the nodes of the cluster are, as a client machine learns it.
//!
//! The cluster file names those of the beginning. Every status tells of the members since; the
//! machine asks for one by itself at its first answer and now and then, when it is pointed to a node
//! that it does not know, and when it gets nowhere. (One that only ever spoke with a node that did
//! well would know nobody else when that node is gone.) A node keeps its place for ever, so that
//! attempts in flight stay right.

use super::ClientMachine;
use super::operation::{Operation, Token};
use crate::config::Member;
use crate::kv::{NodeStatus, Op};
use crate::time::{Duration, Instant};
use crate::types::NodeId;

impl ClientMachine {
    /// The members, as far as known: the cluster file's until a node says otherwise.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().zip(&self.gone).filter(|(_, gone)| !**gone).map(|(member, _)| member)
    }

    /// Every node ever known.
    #[must_use]
    pub fn known_nodes(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn place_of(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == node)
    }

    /// Asks `member` who the members are, unless that was done just now.
    pub(super) fn refresh(&mut self, now: Instant, member: usize) {
        if self.refresh.is_some() || now < self.refresh_at {
            return;
        }
        self.refresh_at = now + self.config.backoff_max * 2;
        let deadline = now + self.config.attempt_timeout;
        let token: Token = self.insert(Operation::new(0, Op::Status, Some(member), deadline));
        self.refresh = Some(token);
        self.start_attempt(now, token);
    }

    /// `member` has answered something: it can say who the members are, too.
    pub(super) fn refresh_in_time(&mut self, now: Instant, member: usize) {
        if now >= self.renew_at {
            self.renew_at = now + RENEW_INTERVAL;
            self.refresh(now, member);
        }
    }

    /// A node has said who the members are.
    pub(super) fn learn_members(&mut self, status: &NodeStatus) {
        if status.epoch <= self.members_epoch || status.members.is_empty() {
            return;
        }
        self.members_epoch = status.epoch;
        let newcomer = status.change.as_ref().and_then(|change| change.joins.as_ref());
        for told in status.members.iter().chain(newcomer) {
            let id = NodeId(told.node);
            if self.place_of(id).is_none() {
                self.members.push(Member { id, address: told.address });
                self.gone.push(false);
                self.heard.push(Instant::ZERO);
                self.suspected.push(Instant::ZERO);
            }
        }
        for (member, gone) in self.members.iter().zip(&mut self.gone) {
            *gone = !status.members.iter().any(|told| told.node == member.id.0);
        }
    }
}

/// Members change rarely, one at a time.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);
