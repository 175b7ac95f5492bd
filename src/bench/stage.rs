//! The requests that one operation is made of, and what their latencies are counted as.

use super::measure::Metric;
use super::plan::Kind;

/// Which request of an operation is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The only one.
    Only,
    /// The read before a put.
    ReadPart,
    /// The put after a read.
    PutPart,
}

pub(super) fn metric(kind: Kind) -> Metric {
    match kind {
        Kind::Read => Metric::Read,
        Kind::Update => Metric::Update,
        Kind::Insert => Metric::Insert,
        Kind::Scan => Metric::Scan,
        Kind::ReadModifyWrite => Metric::ReadModifyWrite,
    }
}

pub(super) fn part_metric(kind: Kind, stage: Stage) -> Metric {
    match (kind, stage) {
        (Kind::ReadModifyWrite, Stage::ReadPart) => Metric::ReadModifyWriteRead,
        (Kind::ReadModifyWrite, Stage::PutPart) => Metric::ReadModifyWritePut,
        (Kind::Update, Stage::ReadPart) => Metric::UpdateRead,
        (Kind::Update, Stage::PutPart) => Metric::UpdatePut,
        (_, Stage::Only) | (Kind::Read | Kind::Insert | Kind::Scan, _) => metric(kind),
    }
}
