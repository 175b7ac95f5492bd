//! One simulated node: a replica, its log on a simulated disk, and the driver loop of a real node.
//!
//! As there, the loop is busy while it syncs: what arrives waits. It runs on its own clock; what
//! comes in and goes out of here is the world's time. A disk that gives up ends it (rule 9); who
//! called it starts it again.

use super::Plant;
use super::clock::{Clock, ClockSetting};
use super::world::NEVER;
use crate::config::ClusterConfig;
use crate::mutant;
use crate::netem::CardRoom;
use crate::replica::{Executed, Output, Replica, ReplicaConfig, Ticket};
use crate::rng::Rng;
use crate::storage::{DiskError, Durability, Log, LogError, LogOptions, LogUsage, OpenError};
use crate::storage::{Recovered, SimDisk, StoredValue, TripKind};
use crate::time::{Duration, Instant};
use crate::transport::{Transmit, TransportConfig};
use crate::types::{NodeId, Slot};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a node is made of, the same for all but the last three.
#[derive(Clone, Debug)]
pub(super) struct NodeConfig {
    pub(super) cluster: Arc<ClusterConfig>,
    pub(super) transport: TransportConfig,
    pub(super) pace: Pace,
    pub(super) segment_bytes: u32,
    pub(super) plant: Plant,
    pub(super) is_traced: bool,
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
    pub(super) clock: ClockSetting,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// A sync takes a drawn time, at most this; all else is instant. Everything is checked and
    /// observed after each step.
    Drawn(Duration),
    /// The caller says when a sync has ended ([`SimNode::end_sync_at`]), from what the step did.
    Told,
}

pub(super) struct SimNode {
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
    config: NodeConfig,
    pub(super) clock: Clock,
    pub(super) disk: SimDisk,
    running: Option<Running>,
    pub(super) paused_until: Option<Instant>,
    /// On top of every sync.
    pub(super) extra_sync: Duration,
    /// Syncs that took longer for it.
    pub(super) slowed_count: u64,
    /// Its disk will give up.
    armed: Option<Armed>,
    /// Its disk will give up at its next start.
    armed_at_start: Option<Armed>,
    /// Told that its disk is nearly full, whatever the disk says.
    is_low: bool,
    pub(super) boots: u64,
    /// It never starts again.
    pub(super) is_gone: bool,
    /// Its data directory was lost: it is not the node that it was.
    pub(super) is_forgetful: bool,
    /// It is no member any more.
    pub(super) is_leaving: bool,
    rng: Rng,
}

/// A disk that will give up, and what comes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    pub(super) after: u64,
    pub(super) trip: TripKind,
    pub(super) death: Death,
}

/// The end of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    /// Of the fault that it is for.
    pub(super) kind: &'static str,
    pub(super) is_power_cut: bool,
    pub(super) down: Duration,
}

struct Running {
    replica: Replica,
    log: Log<SimDisk>,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The sync under way: when it ends, in the world's time, and what it covers.
    syncing: Option<(Instant, Ticket)>,
    /// The card takes more from then on, in the world's time.
    held_until: Option<Instant>,
    space_due: Instant,
}

/// What a step of a node wants done outside.
#[derive(Default)]
pub(super) struct StepOutput {
    /// What it took in, in datagrams and bytes.
    pub(super) received: (u64, u64),
    /// Bytes appended to the log.
    pub(super) appended_bytes: u64,
    /// A sync has begun.
    pub(super) has_sync: bool,
    pub(super) transmits: Vec<Transmit>,
    pub(super) traces: Vec<String>,
    /// Its disk gave up: it must be stopped.
    pub(super) death: Option<Death>,
    /// A pause is over that something waited for.
    pub(super) is_late: bool,
}

impl SimNode {
    pub(super) fn new(config: NodeConfig, rng: Rng) -> Self {
        Self {
            id: config.id,
            address: config.address,
            clock: Clock::new(config.clock),
            config,
            disk: SimDisk::new(),
            running: None,
            paused_until: None,
            extra_sync: Duration::ZERO,
            slowed_count: 0,
            armed: None,
            armed_at_start: None,
            is_low: false,
            boots: 0,
            is_gone: false,
            is_forgetful: false,
            is_leaving: false,
            rng,
        }
    }

    /// What it is made of.
    pub(super) const fn config(&self) -> &NodeConfig {
        &self.config
    }

    pub(super) const fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn replica(&self) -> Option<&Replica> {
        self.running.as_ref().map(|running| &running.replica)
    }

    /// What its log holds and has done since it was opened.
    pub(super) fn log_usage(&self) -> Option<LogUsage> {
        self.running.as_ref().map(|running| running.log.usage())
    }

    /// What it tells its operator.
    pub(super) fn poll_notice(&mut self) -> Option<String> {
        self.running.as_mut()?.replica.poll_notice()
    }

    pub(super) fn poll_executed(&mut self) -> Option<Executed> {
        self.running.as_mut()?.replica.poll_executed()
    }

    /// How it opens its log.
    pub(super) fn log_options(&self) -> LogOptions {
        let cluster = &self.config.cluster;
        LogOptions {
            cluster: cluster.cluster,
            node: self.id,
            durability: match cluster.durability.as_str() {
                "os" => Durability::Os,
                "memory" => Durability::Memory,
                _ => Durability::Sync,
            },
            segment_bytes: self.config.segment_bytes,
            scan_bytes: 64 << 10,
            ..LogOptions::default()
        }
    }

    /// Starts the process from what the disk holds; a death when the disk gives up meanwhile.
    pub(super) fn start(&mut self, world: Instant) -> Result<Option<Death>, String> {
        let now = self.clock.local(world);
        if let Some(armed) = self.armed_at_start.take() {
            self.arm(armed);
        }
        let incarnation = self.rng.next_u64() | 1;
        let opened = Log::open(self.disk.clone(), self.log_options(), incarnation);
        let (log, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.death_of(&Trouble::Open(error)).map(Some),
        };
        let config = ReplicaConfig {
            cluster: Arc::clone(&self.config.cluster),
            node: self.id,
            transport: self.config.transport.clone(),
            is_traced: self.config.is_traced,
            is_observed: matches!(self.config.pace, Pace::Drawn(_)),
        };
        let mut replica = Replica::new(config, recovered, now, self.rng.next_u64())
            .map_err(|error| format!("{} cannot start: {error}", self.id))?;
        replica.handle_space(now, self.is_low);
        self.boots += 1;
        let (inbox, space_due) = (VecDeque::new(), now);
        self.running =
            Some(Running { replica, log, inbox, syncing: None, held_until: None, space_due });
        Ok(None)
    }

    /// The process dies; with `is_power_cut` the machine does too.
    pub(super) fn stop(&mut self, is_power_cut: bool) {
        self.running = None;
        self.paused_until = None;
        self.armed = None;
        if is_power_cut {
            self.disk.power_cut(&mut self.rng);
        } else {
            self.disk.crash(&mut self.rng);
        }
    }

    /// What it held is lost to the cluster for good.
    pub(super) const fn is_lost(&self) -> bool {
        self.is_gone || self.is_forgetful
    }

    /// Its data directory is lost, while it is down.
    pub(super) fn lose_directory(&mut self) {
        self.disk.wipe();
        self.is_forgetful = true;
    }

    /// Will it know which directory `node` has, whatever becomes of it?
    pub(super) fn remembers(&self, node: NodeId) -> bool {
        if self.replica().is_some_and(|own| own.joined_knowing(node)) {
            return true;
        }
        match self.reopened(true) {
            Some((_, recovered)) => recovered.peers.contains_key(&node),
            None => self.replica().is_some_and(|own| own.has_met(node)),
        }
    }

    /// Its log as a start would find it, on a copy of its disk: after the process's end, or, if
    /// `is_durable`, after the worst end that its durability is for. `None` without anything on a disk.
    pub(super) fn reopened(&self, is_durable: bool) -> Option<(Log<SimDisk>, Recovered)> {
        let options = self.log_options();
        let mut disk = match options.durability {
            Durability::Memory => return None,
            Durability::Sync if is_durable => self.disk.durable(),
            Durability::Sync | Durability::Os => self.disk.duplicate(),
        };
        disk.untrip();
        disk.set_free_bytes(None);
        Log::open(disk, options, 1).ok()
    }

    /// What a log without a disk holds of a slot.
    pub(super) fn read_in_memory(&mut self, slot: Slot) -> Option<StoredValue> {
        let running = self.running.as_mut()?;
        running.log.read(slot).ok().flatten()
    }

    /// Its disk gives up after a number of operations.
    pub(super) fn arm(&mut self, armed: Armed) {
        self.disk.trip_after(armed.after, armed.trip, self.rng.fork());
        self.armed = Some(armed);
    }

    /// As [`Self::arm`], counted from its next start.
    pub(super) fn arm_at_start(&mut self, armed: Armed) {
        self.armed_at_start = Some(armed);
    }

    /// Everything that was to happen to it is called off.
    pub(super) fn mend(&mut self, world: Instant) {
        self.disk.untrip();
        self.disk.set_free_bytes(None);
        self.armed = None;
        self.armed_at_start = None;
        self.paused_until = None;
        self.extra_sync = Duration::ZERO;
        self.set_space_low(world, false);
    }

    pub(super) fn set_space_low(&mut self, world: Instant, is_low: bool) {
        self.is_low = is_low;
        let now = self.clock.local(world);
        if let Some(running) = &mut self.running {
            running.replica.handle_space(now, is_low);
            running.space_due = now;
        }
    }

    pub(super) fn receive(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if let Some(running) = &mut self.running
            && running.inbox.len() < INBOX_MAX
        {
            running.inbox.push_back((from, bytes));
        }
    }

    /// The sync under way ends then.
    pub(super) fn end_sync_at(&mut self, at: Instant) {
        let syncing = self.running.as_mut().and_then(|running| running.syncing.as_mut());
        if let Some((done_at, _)) = syncing {
            *done_at = at;
        }
    }

    /// When the node next wants to run, in the world's time.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        let at = match running.syncing {
            Some((done_at, _)) => done_at,
            None if !running.inbox.is_empty() => Instant::ZERO,
            None => {
                let due = self.clock.world(running.replica.poll_timeout()?);
                running.held_until.map_or(due, |until| due.min(until))
            }
        };
        Some(self.paused_until.map_or(at, |until| at.max(until)))
    }

    /// One turn of the driver's loop, whose card has this room.
    pub(super) fn step(&mut self, world: Instant, room: CardRoom) -> Result<StepOutput, String> {
        let mut output = StepOutput::default();
        if self.paused_until.is_some_and(|until| world < until) {
            return Ok(output);
        }
        let (paused_until, due) = (self.paused_until.take(), self.timeout());
        output.is_late = paused_until.zip(due).is_some_and(|(until, at)| at < until);
        match self.turn(world, room, &mut output) {
            Ok(()) => {}
            Err(error) => output.death = Some(self.death_of(&Trouble::Log(error))?),
        }
        Ok(output)
    }

    fn turn(
        &mut self,
        world: Instant,
        room: CardRoom,
        output: &mut StepOutput,
    ) -> Result<(), LogError> {
        let now = self.clock.local(world);
        let Some(running) = &mut self.running else { return Ok(()) };
        if let Some((done_at, ticket)) = running.syncing {
            if world < done_at {
                return Ok(());
            }
            running.log.sync()?;
            running.syncing = None;
            running.log.compact_in_step()?;
            running.replica.handle_persisted(now, ticket);
        }
        while let Some((from, bytes)) = running.inbox.pop_front() {
            output.received.0 += 1;
            output.received.1 += bytes.len() as u64;
            running.replica.handle_datagram(now, from, &bytes);
        }
        if running.replica.poll_timeout().is_some_and(|at| at <= now) {
            running.replica.handle_timeout(now);
        }
        if now >= running.space_due {
            running.space_due = now + SPACE_CHECK_INTERVAL;
            if let Some(free_bytes) = running.log.free_bytes()? {
                running.replica.handle_space(now, self.is_low || free_bytes < RESERVE_BYTES);
            }
        }
        let mut pending = None;
        let is_told = matches!(self.config.pace, Pace::Told);
        let written = if is_told { running.log.usage().bytes_written } else { 0 };
        let mut room_bytes = room.bytes;
        running.replica.hold_transmits(room_bytes);
        while let Some(wanted) = running.replica.poll_output(now) {
            match wanted {
                Output::Transmit(transmit) => {
                    room_bytes = room_bytes.saturating_sub(transmit.contents.len());
                    running.replica.hold_transmits(room_bytes);
                    output.transmits.push(transmit);
                }
                Output::Persist { ticket, records } => {
                    running.log.append(&records)?;
                    if self.config.plant == Plant::AckBeforeSync {
                        running.replica.handle_persisted(now, ticket);
                    }
                    pending = Some(ticket);
                }
                Output::Read { ticket, slot } => {
                    // A slot that cannot be read is a damaged one; the machine repairs it.
                    let stored = running.log.read(slot)?;
                    running.replica.handle_read(now, ticket, stored);
                }
                Output::ReadIndex { slot, part } => {
                    let part = running.log.read_index_part(slot, part)?;
                    running.replica.handle_index_read(now, part);
                }
                Output::Reclaim { floor, slots, is_sound } => {
                    running.log.reclaim(floor, &slots, is_sound)?;
                }
                Output::Trace(line) => output.traces.push(line),
                // The simulator's faults need no requests.
                Output::Control { .. } => {}
            }
        }
        running.held_until = (room_bytes == 0).then_some(room.ready_at);
        if let Some(ticket) = pending {
            // Handed to the disk at once: a power cut meanwhile may keep it, lose it or tear it.
            running.log.flush()?;
            output.has_sync = true;
            self.slowed_count += u64::from(self.extra_sync > Duration::ZERO);
            if is_told {
                output.appended_bytes = running.log.usage().bytes_written - written;
            }
            let done_at = match self.config.pace {
                Pace::Drawn(longest) => world + drawn(&mut self.rng, longest) + self.extra_sync,
                Pace::Told => NEVER,
            };
            running.syncing = Some((done_at, ticket));
        }
        // A broken rule is for the checkers outside to find.
        if !is_told && !mutant::is_any() {
            running.replica.check_invariants();
            running.log.check_invariants();
        }
        Ok(())
    }

    /// The death that was meant when the disk refused, or that a full disk brings; anything else is
    /// wrong.
    fn death_of(&mut self, trouble: &Trouble) -> Result<Death, String> {
        if self.disk.has_tripped()
            && let Some(armed) = self.armed.take()
        {
            return Ok(armed.death);
        }
        if trouble.is_no_space() {
            let down = RETRY_INTERVAL;
            return Ok(Death { kind: "disk full", is_power_cut: false, down });
        }
        Err(match trouble {
            Trouble::Log(error) => format!("{}: {error}", self.id),
            Trouble::Open(error) => format!("{} cannot open its log: {error}", self.id),
        })
    }
}

/// How long a sync takes, at most `longest`.
fn drawn(rng: &mut Rng, longest: Duration) -> Duration {
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.range(20, micros.max(20)))
}

enum Trouble {
    Log(LogError),
    Open(OpenError),
}

impl Trouble {
    const fn is_no_space(&self) -> bool {
        matches!(
            self,
            Self::Log(LogError::Disk(DiskError::NoSpace { .. }))
                | Self::Open(
                    OpenError::Disk(DiskError::NoSpace { .. })
                        | OpenError::Log(LogError::Disk(DiskError::NoSpace { .. }))
                )
        )
    }
}

/// A socket's buffer.
const INBOX_MAX: usize = 4096;
/// Small, so that much is reclaimed.
pub(super) const SEGMENT_BYTES: u32 = 64 << 10;
/// Below this a node says that its disk is nearly full.
const RESERVE_BYTES: u64 = 3 * SEGMENT_BYTES as u64;
const SPACE_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Until whoever watches a node that found its disk full starts it again.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);
