//! Links that are slower than what is put: queues of seconds, and nothing may happen but waiting.

use super::super::NodeUsage;
use super::*;
use crate::replica::client_machine::Completion;
use crate::rng::Rng;

/// What is put at once over a slow card, and how often.
struct Cell {
    config: TimedConfig,
    value_bytes: usize,
    rounds: usize,
}

impl Cell {
    fn new(policy: Policy, k: u8, nodes: u8, rate_mbit: f64) -> Self {
        let config = TimedConfig { rate_mbit, sessions: 8, ..config(policy, k, nodes) };
        Self { config, value_bytes: 256 << 10, rounds: 1 }
    }

    /// What all puts are worth.
    fn user_bytes(&self) -> f64 {
        (self.config.sessions * self.rounds * self.value_bytes) as f64
    }

    /// What a leader sends for one byte, to all others.
    fn leader_share(&self) -> f64 {
        let k = match self.config.cluster.policy {
            Policy::Replicate => 1,
            Policy::RsPaxos | Policy::Craft | Policy::Crossword | Policy::Hybrid => {
                self.config.cluster.code.k()
            }
        };
        (self.config.cluster.members.len() - 1) as f64 / f64::from(k)
    }

    /// How long the leader's card is busy with it.
    fn theory(&self) -> Duration {
        let bytes = self.user_bytes() * self.leader_share();
        Duration::from_secs_f64(bytes * 8.0 / (self.config.rate_mbit * 1e6))
    }
}

/// A cluster with a leader, in which every session puts.
struct Putting {
    cluster: TimedCluster,
    cell: Cell,
    start: Instant,
    before: Vec<NodeUsage>,
    elected: NodeStatus,
    left: Vec<usize>,
}

impl Putting {
    fn start(cell: Cell) -> Self {
        let mut cluster = TimedCluster::start(cell.config.clone()).unwrap();
        assert!(is_put(&mut cluster, Duration::from_secs(10)));
        let (start, before) = (cluster.now(), used(&cluster));
        let elected = leading(&cluster);
        let left = vec![cell.rounds; cell.config.sessions];
        let mut putting = Self { cluster, cell, start, before, elected, left };
        for session in 0..putting.cell.config.sessions {
            putting.put(session);
        }
        putting
    }

    fn put(&mut self, session: usize) {
        if self.left[session] > 0 {
            self.left[session] -= 1;
            let key = Bytes::from(format!("key-{session}"));
            let op = Op::Put { key, value: Bytes::from(vec![7; self.cell.value_bytes]) };
            self.cluster.submit(session, op, ReadMode::Linearizable).unwrap();
        }
    }

    /// Until all is put, in less than twice the time that the card needs, and ten seconds.
    fn finish(&mut self, name: &str) -> Duration {
        let deadline = self.start + self.cell.theory() * 2 + Duration::from_secs(10);
        for count in 0..self.cell.config.sessions * self.cell.rounds {
            let ended = self.cluster.run_until(deadline).unwrap();
            let ended = ended.unwrap_or_else(|| panic!("{name}: {count} were put"));
            assert_done(&ended, name);
            self.put(ended.session_index);
        }
        self.cluster.now().since(self.start)
    }

    /// Everybody has everything, soon after the end.
    fn settle(&mut self) {
        let span = self.cluster.now().since(self.start).max(Duration::from_secs(1));
        self.cluster.run_until(self.cluster.now() + span * 2).unwrap();
        let statuses = self.cluster.statuses();
        let applied = statuses.iter().map(|status| status.applied).collect::<Vec<_>>();
        assert!(applied.iter().all(|slot| *slot == applied[0]), "{applied:?}");
    }

    /// Nobody was elected, nobody sent more than the values are worth, or spun.
    fn check(&self, name: &str) {
        let now = leading(&self.cluster);
        assert_eq!(
            now.ballot, self.elected.ballot,
            "{name}: nothing has happened, and a leader went"
        );
        for (node, (before, after)) in self.before.iter().zip(used(&self.cluster)).enumerate() {
            let sent = (after.transport.bytes_sent - before.transport.bytes_sent) as f64;
            let share =
                if node == usize::from(self.elected.node) { self.cell.leader_share() } else { 0.0 };
            let allowed = self.cell.user_bytes() * (share * 1.1 + 0.1) + 500_000.0;
            assert!(
                sent < allowed,
                "{name}: n{node} sent {sent}, {share} x {}",
                self.cell.user_bytes()
            );
            let turns = after.turns - before.turns;
            let datagrams = after.transport.datagrams_sent + after.transport.datagrams_received;
            assert!(turns < 10_000 + 2 * datagrams, "{name}: n{node} took {turns} turns");
        }
    }
}

fn assert_done(ended: &Completion, name: &str) {
    assert!(matches!(ended.outcome, ClientOutcome::Done(_)), "{name}: {:?}", ended.outcome);
}

fn used(cluster: &TimedCluster) -> Vec<NodeUsage> {
    let nodes = u8::try_from(cluster.statuses().len()).unwrap();
    (0..nodes).map(|id| cluster.usage(NodeId(id)).unwrap()).collect()
}

fn leading(cluster: &TimedCluster) -> NodeStatus {
    let leaders = cluster.statuses().into_iter().filter(|status| status.role == Role::Leader);
    leaders.max_by_key(|status| status.ballot).unwrap()
}

#[test]
fn what_waits_at_a_slow_card_is_neither_sent_again_nor_fetched_elsewhere_nor_spun_for() {
    // Eight full copies for four nodes: 8 MiB, 6.7 s at 10 Mbit/s, far more than any patience.
    let mut putting = Putting::start(Cell::new(Policy::Replicate, 1, 5, 10.0));
    putting.finish("8 x 256 KiB");
    putting.settle();
    putting.check("8 x 256 KiB");
}

#[test]
fn whatever_the_card_the_code_and_the_size_are_the_card_alone_bounds_puts() {
    let mut rng = Rng::new(11);
    for _ in 0..24 {
        let nodes = [3, 5, 7, 9][usize::try_from(rng.below(4)).unwrap()];
        let (policy, k) =
            if rng.chance(0.5) { (Policy::Replicate, 1) } else { (Policy::Craft, nodes / 2 + 1) };
        let rate_mbit = [5.0, 10.0, 50.0, 200.0, 1000.0][usize::try_from(rng.below(5)).unwrap()];
        let mut cell = Cell::new(policy, k, nodes, rate_mbit);
        cell.config.sessions = usize::try_from(1 + rng.below(16)).unwrap();
        cell.config.seed = rng.next_u64();
        cell.value_bytes = 4096 << (2 * rng.below(5));
        cell.rounds = usize::try_from(1 + rng.below(3)).unwrap();
        cell.config.operation_timeout = cell.theory() * 2 + Duration::from_secs(30);
        let (sessions, bytes, rounds) = (cell.config.sessions, cell.value_bytes, cell.rounds);
        let name =
            format!("N={nodes}, k={k}, {rate_mbit} Mbit/s, {sessions} x {rounds} x {bytes} B");
        let theory = cell.theory();
        let mut putting = Putting::start(cell);
        let took = putting.finish(&name);
        // A put takes its round trips and syncs beside, and a queue of 20 ms at each card.
        let limit =
            theory.mul_f64(1.2) + Duration::from_millis(60) * u32::try_from(rounds).unwrap();
        assert!(took < limit, "{name}: {took:?}, the card needs {theory:?}");
        putting.settle();
        putting.check(&name);
    }
}

#[test]
fn at_a_megabit_a_leader_is_heard_with_datagrams_of_an_ethernet() {
    let mut cell = Cell::new(Policy::Replicate, 1, 5, 1.0);
    cell.config.sessions = 2;
    cell.config.transport = TransportConfig { cluster_id: 7, ..TransportConfig::for_ethernet() };
    cell.config.operation_timeout = Duration::from_secs(120);
    let mut putting = Putting::start(cell);
    putting.finish("1 Mbit/s");
    putting.settle();
    putting.check("1 Mbit/s");
}

#[test]
fn a_leader_that_dies_with_its_card_full_is_replaced_and_what_it_proposed_is_put() {
    for (policy, k) in [(Policy::Replicate, 1), (Policy::Craft, 3)] {
        for (rate_mbit, seed) in [(10.0, 1), (10.0, 2), (50.0, 3), (50.0, 4)] {
            let name = format!("{policy:?}, {rate_mbit} Mbit/s, seed {seed}");
            let mut cell = Cell::new(policy, k, 5, rate_mbit);
            cell.config.seed = seed;
            cell.config.operation_timeout = Duration::from_secs(120);
            let theory = cell.theory();
            let mut putting = Putting::start(cell);
            let dies_at = putting.start + theory / 2;
            let mut done = 0;
            while let Some(ended) = putting.cluster.run_until(dies_at).unwrap() {
                assert_done(&ended, &name);
                done += 1;
            }
            putting.cluster.kill(NodeId(putting.elected.node));
            while done < putting.cell.config.sessions {
                let deadline = dies_at + theory * 4 + Duration::from_secs(10);
                let ended = putting.cluster.run_until(deadline).unwrap();
                let ended = ended.unwrap_or_else(|| panic!("{name}: {done} were put in time"));
                assert_done(&ended, &name);
                done += 1;
            }
            let rounds = leading(&putting.cluster).ballot.round - putting.elected.ballot.round;
            assert!(rounds <= 3, "{name}: {rounds} elections for one death");
        }
    }
}
