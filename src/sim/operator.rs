//! The operator of a run: changes the policy and hands the leadership over while clients work.

use super::scenario::Scenario;
use crate::kv::{Admin, Op, Outcome};
use crate::replica::client_machine::{ClientConfig, ClientMachine, ClientOutcome, Token};
use crate::time::{Duration, Instant};
use crate::transport::TransportConfig;
use std::net::SocketAddr;
use std::sync::Arc;

/// A client that asks for changes of the cluster.
pub(super) struct Operator {
    pub(super) address: SocketAddr,
    pub(super) machine: ClientMachine,
    /// Leaderships that were handed over.
    pub(super) handed_over: u64,
    /// What was asked for the members, and its end.
    asked: Option<Token>,
    pub(super) answer: Option<ClientOutcome>,
}

impl Operator {
    pub(super) fn new(scenario: &Scenario, transport: TransportConfig, seed: u64) -> Self {
        let cluster = Arc::new(scenario.cluster.clone());
        let mut config = ClientConfig::new(cluster, transport, 2);
        config.attempt_timeout = Duration::from_millis(400);
        config.operation_timeout = Duration::from_secs(2);
        let address = SocketAddr::from(([10, 0, 1, 200], 9000));
        let machine = ClientMachine::new(config, 200, seed);
        Self { address, machine, handed_over: 0, asked: None, answer: None }
    }

    /// Asks the leader, whoever it is; what becomes of it is seen in the cluster.
    pub(super) fn ask(&mut self, now: Instant, admin: Admin) {
        // Too many outstanding: the operator has enough to wait for.
        let _ = self.machine.submit(now, 0, Op::Admin(admin));
    }

    /// The same for a change of the members: its end is [`Self::answer`].
    pub(super) fn ask_of_members(&mut self, now: Instant, admin: Admin) {
        match self.machine.submit(now, 1, Op::Admin(admin)) {
            Ok(token) => self.asked = Some(token),
            Err(_) => self.answer = Some(ClientOutcome::Unknown),
        }
    }

    pub(super) fn step(&mut self, now: Instant) {
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        while let Some(completion) = self.machine.poll_completion() {
            if self.asked == Some(completion.token) {
                self.asked = None;
                self.answer = Some(completion.outcome);
                continue;
            }
            let is_done = completion.outcome == ClientOutcome::Done(Outcome::Done);
            self.handed_over += u64::from(is_done);
        }
    }
}
