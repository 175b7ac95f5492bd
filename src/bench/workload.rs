//! A YCSB core workload: its properties with their types, defaults and limits.
//!
//! Reads YCSB's own files unchanged. Defaults are YCSB's under YCSB's names; what is ours is called
//! `distkv.*`. A property that is unknown, or that only another binding understands, gives a
//! warning; an impossible value an error that names file, line and property. Proportions must add
//! up to 1 (YCSB would normalise them, and so measure another mix than the file says).

use super::choices::{
    Arrivals, InsertOrder, Interval, LengthDistribution, RecordFormat, RequestDistribution,
    ScanDistribution, UpdateMode,
};
use super::generator::ParetoLengths;
use super::offered::OfferedLoad;
use super::properties::{Origin, Properties, PropertiesError};
use super::workload_reader::{Reader, warnings};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use thiserror::Error;

/// A workload that cannot be run.
#[derive(Debug, Error)]
pub enum WorkloadError {
    /// The file cannot be read.
    #[error("workload file {file}: {source}; check the path")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a property file.
    #[error(transparent)]
    Syntax(#[from] PropertiesError),
    /// A property has an impossible value.
    #[error("{origin}: {property}={value}: expected {expected}")]
    Value {
        /// File and line.
        origin: Origin,
        /// Its name.
        property: String,
        /// What it was set to.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// The proportions do not add up to 1.
    #[error(
        "{origin}: {property}: the proportions add up to {sum}, not 1 (read {read}, update {update}, \
         insert {insert}, scan {scan}, readmodifywrite {read_modify_write}; those not set have \
         YCSB's defaults, read .95 and update .05)"
    )]
    Proportions {
        /// File and line of the last proportion set.
        origin: Origin,
        /// That proportion.
        property: String,
        /// Their sum.
        sum: f64,
        /// readproportion.
        read: f64,
        /// updateproportion.
        update: f64,
        /// insertproportion.
        insert: f64,
        /// scanproportion.
        scan: f64,
        /// readmodifywriteproportion.
        read_modify_write: f64,
    },
}

/// Something in a workload file that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadWarning {
    /// File and line.
    pub origin: Origin,
    /// The property.
    pub property: String,
    /// Why it has none.
    pub reason: &'static str,
}

impl fmt::Display for WorkloadWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.property, self.reason)
    }
}

/// Shares of each kind of operation; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proportions {
    /// readproportion.
    pub read: f64,
    /// updateproportion.
    pub update: f64,
    /// insertproportion.
    pub insert: f64,
    /// scanproportion.
    pub scan: f64,
    /// readmodifywriteproportion.
    pub read_modify_write: f64,
}

/// A valid workload. Counts are records or operations, lengths bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is the YCSB property of its name")]
pub struct Workload {
    /// The file it came from.
    pub file: String,
    pub record_count: u64,
    pub operation_count: u64,
    pub insert_start: u64,
    pub insert_count: u64,
    pub field_count: usize,
    pub field_length: u64,
    pub min_field_length: u64,
    pub field_length_distribution: LengthDistribution,
    /// Block length, then the weight of each bucket; empty unless the distribution is a histogram.
    pub field_length_histogram: Vec<u64>,
    /// With the distribution `pareto`.
    #[serde(default)]
    pub field_length_pareto: Option<ParetoLengths>,
    /// Share of a value's bytes that compress to nothing.
    #[serde(default)]
    pub compressible: f64,
    pub field_name_prefix: String,
    pub read_all_fields: bool,
    pub write_all_fields: bool,
    pub data_integrity: bool,
    pub proportions: Proportions,
    pub request_distribution: RequestDistribution,
    pub min_scan_length: u64,
    pub max_scan_length: u64,
    pub scan_length_distribution: ScanDistribution,
    pub insert_order: InsertOrder,
    pub zero_padding: usize,
    pub hotspot_data_fraction: f64,
    pub hotspot_operation_fraction: f64,
    pub exponential_percentile: f64,
    pub exponential_fraction: f64,
    pub thread_count: usize,
    /// Operations per second, 0 for as fast as they complete.
    pub target: f64,
    /// 0 for no limit.
    pub max_execution_seconds: u64,
    pub status_interval_seconds: u64,
    pub measurement_interval: Interval,
    pub percentiles: Vec<f64>,
    pub histogram_file_output: bool,
    pub update: UpdateMode,
    pub record: RecordFormat,
    pub arrivals: Arrivals,
    /// The load of an open loop, of `target`, `distkv.rate` or `distkv.trace`.
    pub offered: Option<OfferedLoad>,
}

impl Workload {
    /// Reads the workload in file `path` with `overrides` (`key=value`) on top.
    ///
    /// # Errors
    /// [`WorkloadError`] naming file, line and property.
    pub fn load(
        path: &Path,
        overrides: &[String],
    ) -> Result<(Self, Vec<WorkloadWarning>), WorkloadError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| WorkloadError::Unreadable { file: file.clone(), source })?;
        let mut properties = Properties::parse(&file, &text)?;
        for text in overrides {
            properties.set_override(text)?;
        }
        Self::from_properties(&properties)
    }

    /// The workload that `properties` describe, and what in them has no effect.
    ///
    /// # Errors
    /// [`WorkloadError`] naming file, line and property.
    pub fn from_properties(
        properties: &Properties,
    ) -> Result<(Self, Vec<WorkloadWarning>), WorkloadError> {
        let read = Reader { properties };
        let record_count = read.count("recordcount", 0, 1..=KEYS_MAX)?;
        let insert_start = read.count("insertstart", 0, 0..=record_count - 1)?;
        let rest = record_count - insert_start;
        let field_length = read.count("fieldlength", 100, 0..=VALUE_BYTES_MAX)?;
        let max_scan_length = read.count("maxscanlength", 1000, 1..=SCAN_ROWS_MAX)?;
        let lengths = read.choice("fieldlengthdistribution", LengthDistribution::Constant)?;
        let workload = Self {
            file: properties.file().to_owned(),
            record_count,
            operation_count: read.count("operationcount", 0, 0..=u64::MAX)?,
            insert_start,
            insert_count: read.count("insertcount", rest, 1..=rest)?,
            field_count: read.size("fieldcount", 10, 1..=FIELDS_MAX)?,
            field_length,
            min_field_length: read.count(
                "minfieldlength",
                1.min(field_length),
                0..=field_length,
            )?,
            field_length_distribution: lengths,
            field_length_histogram: match lengths {
                LengthDistribution::Histogram => read.histogram()?,
                LengthDistribution::Constant
                | LengthDistribution::Uniform
                | LengthDistribution::Zipfian
                | LengthDistribution::Pareto => Vec::new(),
            },
            field_length_pareto: match lengths {
                LengthDistribution::Pareto => Some(read.pareto()?),
                LengthDistribution::Constant
                | LengthDistribution::Uniform
                | LengthDistribution::Zipfian
                | LengthDistribution::Histogram => None,
            },
            compressible: read.number("distkv.compressible", 0.0, 0.0, COMPRESSIBLE_MAX)?,
            field_name_prefix: read.text("fieldnameprefix", "field").to_owned(),
            read_all_fields: read.flag("readallfields", true)?,
            write_all_fields: read.flag("writeallfields", false)?,
            data_integrity: read.flag("dataintegrity", false)?,
            proportions: read.proportions()?,
            request_distribution: read
                .choice("requestdistribution", RequestDistribution::Uniform)?,
            min_scan_length: read.count("minscanlength", 1, 1..=max_scan_length)?,
            max_scan_length,
            scan_length_distribution: read
                .choice("scanlengthdistribution", ScanDistribution::Uniform)?,
            insert_order: read.choice("insertorder", InsertOrder::Hashed)?,
            zero_padding: read.size("zeropadding", 1, 0..=ZERO_PADDING_MAX)?,
            hotspot_data_fraction: read.number("hotspotdatafraction", 0.2, 0.0, 1.0)?,
            hotspot_operation_fraction: read.number("hotspotopnfraction", 0.8, 0.0, 1.0)?,
            exponential_percentile: read.number(
                "exponential.percentile",
                95.0,
                1e-9,
                99.999_999,
            )?,
            exponential_fraction: read.number("exponential.frac", 0.857_142_857_1, 1e-9, 1e9)?,
            thread_count: read.size("threadcount", 1, 1..=CLIENTS_MAX)?,
            target: read.number("target", 0.0, 0.0, 1e9)?,
            max_execution_seconds: read.count("maxexecutiontime", 0, 0..=SECONDS_MAX)?,
            status_interval_seconds: read.count("status.interval", 10, 1..=SECONDS_MAX)?,
            measurement_interval: read.choice("measurement.interval", Interval::Op)?,
            percentiles: read.percentiles()?,
            histogram_file_output: read.flag("hdrhistogram.fileoutput", false)?,
            update: read.choice("distkv.update", UpdateMode::Ycsb)?,
            record: read.choice("distkv.record", RecordFormat::Fields)?,
            arrivals: read.choice("distkv.arrivals", Arrivals::Fixed)?,
            offered: read.offered()?,
        };
        workload.check_combinations(&read)?;
        Ok((workload, warnings(properties)))
    }

    /// Longest record in bytes of its fields.
    #[must_use]
    pub fn record_bytes_max(&self) -> u64 {
        self.field_bytes_max().saturating_mul(self.field_count as u64)
    }

    /// Longest field in bytes.
    #[must_use]
    pub fn field_bytes_max(&self) -> u64 {
        match self.field_length_histogram.split_first() {
            Some((block, weights)) => block.saturating_mul(weights.len() as u64),
            None => self.field_length,
        }
    }

    fn check_combinations(&self, read: &Reader<'_>) -> Result<(), WorkloadError> {
        if self.record == RecordFormat::Raw && self.field_count != 1 {
            return Err(read.refused("distkv.record", "fields, unless fieldcount=1"));
        }
        if self.record_bytes_max() > VALUE_BYTES_MAX {
            let expected = format!("records of at most {VALUE_BYTES_MAX} bytes in all");
            return Err(read.refused("fieldlength", &expected));
        }
        if !["site.ycsb.workloads.CoreWorkload", "com.yahoo.ycsb.workloads.CoreWorkload"]
            .contains(&read.text("workload", "site.ycsb.workloads.CoreWorkload"))
        {
            return Err(read.refused("workload", "site.ycsb.workloads.CoreWorkload"));
        }
        Ok(())
    }
}

/// Most sessions of one generator.
pub const CLIENTS_MAX: u64 = 65_536;
/// Longest record.
pub const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Values of which no two are alike need some bytes that differ.
const COMPRESSIBLE_MAX: f64 = 0.95;
const KEYS_MAX: u64 = 1 << 40;
const SCAN_ROWS_MAX: u64 = 1_000_000;
const FIELDS_MAX: u64 = 4096;
const ZERO_PADDING_MAX: u64 = 64;
const SECONDS_MAX: u64 = 10_000_000;

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
