//! What to do next: the kind of operation, its record and its parameters, from one seed.
//!
//! It does not touch the store. Source: YCSB's `CoreWorkload.doInsert` and `doTransaction*`.

use super::choices::{InsertOrder, RequestDistribution, ScanDistribution};
use super::generator::{AcknowledgedCounter, KeyChooser, Length, TrueZipfian, Zipfian};
use super::keys::KeyNames;
use super::workload::Workload;
use crate::rng::Rng;
use crate::types::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Loading the records, or the measured operations on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Inserts `insertcount` records.
    Load,
    /// The mix of operations.
    Run,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "load",
            Self::Run => "run",
        })
    }
}

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

/// One operation, not yet started.
#[derive(Debug)]
pub(super) struct Plan {
    pub kind: Kind,
    pub number: u64,
    pub key: Bytes,
    /// Rows of a scan, 0 otherwise.
    pub scan_rows: usize,
    /// The field read or written when not all are.
    pub field: usize,
}

/// Draws plans.
#[derive(Debug)]
pub(super) struct Planner {
    phase: Phase,
    key_names: KeyNames,
    field_count: u64,
    /// Running sums of the proportions, in the order of `KINDS`.
    mix: [f64; 5],
    chooser: KeyChooser,
    inserts: AcknowledgedCounter,
    next_load: u64,
    load_end: u64,
    scan_rows: Length,
    rng: Rng,
}

impl Planner {
    pub fn new(workload: &Workload, phase: Phase, rng: Rng) -> Self {
        let shares = workload.proportions;
        let mut sum = 0.0;
        let shares =
            [shares.read, shares.update, shares.insert, shares.scan, shares.read_modify_write];
        let mix = shares.map(|share| {
            sum += share;
            sum
        });
        let (low, high) = (workload.min_scan_length, workload.max_scan_length);
        Self {
            phase,
            key_names: KeyNames::new(
                workload.insert_order == InsertOrder::Ordered,
                workload.zero_padding,
            ),
            field_count: workload.field_count as u64,
            mix,
            chooser: key_chooser(workload),
            inserts: AcknowledgedCounter::new(workload.record_count),
            next_load: workload.insert_start,
            load_end: workload.insert_start + workload.insert_count,
            scan_rows: match workload.scan_length_distribution {
                ScanDistribution::Uniform => Length::Uniform { low, high },
                ScanDistribution::Zipfian => Length::zipfian(low, high),
            },
            rng,
        }
    }

    /// All records loaded?
    pub fn is_exhausted(&self) -> bool {
        self.phase == Phase::Load && self.next_load == self.load_end
    }

    /// The next operation; None when all records are loaded.
    pub fn next(&mut self) -> Option<Plan> {
        let kind = match self.phase {
            Phase::Load if self.is_exhausted() => return None,
            Phase::Load => Kind::Insert,
            Phase::Run => self.next_kind(),
        };
        let number = match (self.phase, kind) {
            (Phase::Load, _) => {
                self.next_load += 1;
                self.next_load - 1
            }
            (Phase::Run, Kind::Insert) => self.inserts.issue(),
            (Phase::Run, Kind::Read | Kind::Update | Kind::Scan | Kind::ReadModifyWrite) => {
                self.chooser.next(self.inserts.last(), &mut self.rng)
            }
        };
        let scan_rows = match kind {
            Kind::Scan => usize::try_from(self.scan_rows.next(&mut self.rng)).unwrap_or(usize::MAX),
            Kind::Read | Kind::Update | Kind::Insert | Kind::ReadModifyWrite => 0,
        };
        let field = usize::try_from(self.rng.below(self.field_count)).unwrap_or(0);
        let key = self.key_names.name(number);
        Some(Plan { kind, number, key, scan_rows, field })
    }

    /// The insert of record `number` ended.
    pub fn acknowledge_insert(&mut self, number: u64) {
        if self.phase == Phase::Run {
            self.inserts.acknowledge(number);
        }
    }

    /// What `count` operations would be: one is drawn, of many each kind has its share.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count, not below 0"
    )]
    pub fn split(&mut self, count: u64) -> [(Kind, u64); 5] {
        if count <= 1 {
            let drawn = self.next_kind();
            return KINDS.map(|kind| (kind, if kind == drawn { count } else { 0 }));
        }
        let mut before = 0;
        let mut at = 0;
        KINDS.map(|kind| {
            let upto = (count as f64 * self.mix[at] / self.mix[4]).round() as u64;
            let share = upto - before;
            (before, at) = (upto, at + 1);
            (kind, share)
        })
    }

    fn next_kind(&mut self) -> Kind {
        let drawn = self.rng.unit() * self.mix[4];
        let at = self.mix.iter().position(|sum| drawn < *sum).unwrap_or(0);
        KINDS[at]
    }
}

fn key_chooser(workload: &Workload) -> KeyChooser {
    let (low, count) = (workload.insert_start, workload.insert_count);
    match workload.request_distribution {
        RequestDistribution::Uniform => KeyChooser::Uniform { low, count },
        RequestDistribution::Zipfian => KeyChooser::scrambled(low, count + new_keys(workload)),
        RequestDistribution::ZipfianTrue => {
            KeyChooser::ZipfianTrue { low, zipf: TrueZipfian::new(workload.record_count - low) }
        }
        RequestDistribution::Latest => {
            KeyChooser::Latest { zipf: Zipfian::new((workload.record_count - 1).max(1)) }
        }
        RequestDistribution::Hotspot => KeyChooser::hotspot(
            low,
            count,
            workload.hotspot_data_fraction,
            workload.hotspot_operation_fraction,
        ),
        RequestDistribution::Sequential => KeyChooser::Sequential { low, count, next: 0 },
        RequestDistribution::Exponential => KeyChooser::exponential(
            workload.exponential_percentile,
            workload.record_count as f64 * workload.exponential_fraction,
        ),
    }
}

/// Twice the inserts to be expected, as YCSB leaves room for.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a product of two non-negative numbers; saturates"
)]
fn new_keys(workload: &Workload) -> u64 {
    let expected = workload.operation_count as f64 * workload.proportions.insert * 2.0;
    (expected as u64).min(NEW_KEYS_MAX)
}

const KINDS: [Kind; 5] =
    [Kind::Read, Kind::Update, Kind::Insert, Kind::Scan, Kind::ReadModifyWrite];
const NEW_KEYS_MAX: u64 = 1 << 41;

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
