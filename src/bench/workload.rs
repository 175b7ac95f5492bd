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
use super::offered::OfferedLoad;
use super::properties::{Origin, Properties, PropertiesError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
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
                | LengthDistribution::Zipfian => Vec::new(),
            },
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
        if self.data_integrity && self.field_length_distribution != LengthDistribution::Constant {
            return Err(read.refused("dataintegrity", "false unless field lengths are constant"));
        }
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

/// Typed access to properties, with errors that name their place.
struct Reader<'a> {
    properties: &'a Properties,
}

impl<'a> Reader<'a> {
    fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.properties.property(key).map_or(default, |property| property.value.as_str())
    }

    fn refused(&self, key: &str, expected: &str) -> WorkloadError {
        let origin = match self.properties.origin(key) {
            // A property that is missing is missing from the file.
            Origin::Default => Origin::Line { file: self.properties.file().to_owned(), line: 0 },
            origin @ (Origin::Line { .. } | Origin::Override) => origin,
        };
        WorkloadError::Value {
            origin,
            property: key.to_owned(),
            value: self.text(key, "(not set)").to_owned(),
            expected: expected.to_owned(),
        }
    }

    fn parsed<T: FromStr>(&self, key: &str, default: T, what: &str) -> Result<T, WorkloadError> {
        match self.properties.property(key) {
            None => Ok(default),
            Some(property) => property.value.parse().map_err(|_| self.refused(key, what)),
        }
    }

    fn count(
        &self,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, WorkloadError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let count = self.parsed(key, default, &expected)?;
        if range.contains(&count) { Ok(count) } else { Err(self.refused(key, &expected)) }
    }

    fn size(
        &self,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<usize, WorkloadError> {
        let count = self.count(key, default, range)?;
        usize::try_from(count).map_err(|_| self.refused(key, "a number this machine can address"))
    }

    fn number(&self, key: &str, default: f64, low: f64, high: f64) -> Result<f64, WorkloadError> {
        let expected = format!("a number from {low} to {high}");
        let number = self.parsed(key, default, &expected)?;
        // Not a number is in no range.
        if (low..=high).contains(&number) { Ok(number) } else { Err(self.refused(key, &expected)) }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, WorkloadError> {
        match self.text(key, if default { "true" } else { "false" }).to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.refused(key, "true or false")),
        }
    }

    fn choice<T: FromStr<Err = String>>(&self, key: &str, default: T) -> Result<T, WorkloadError> {
        match self.properties.property(key) {
            None => Ok(default),
            Some(property) => {
                property.value.parse().map_err(|expected: String| self.refused(key, &expected))
            }
        }
    }

    fn proportions(&self) -> Result<Proportions, WorkloadError> {
        let shares = Proportions {
            read: self.number("readproportion", 0.95, 0.0, 1.0)?,
            update: self.number("updateproportion", 0.05, 0.0, 1.0)?,
            insert: self.number("insertproportion", 0.0, 0.0, 1.0)?,
            scan: self.number("scanproportion", 0.0, 0.0, 1.0)?,
            read_modify_write: self.number("readmodifywriteproportion", 0.0, 0.0, 1.0)?,
        };
        let Proportions { read, update, insert, scan, read_modify_write } = shares;
        let sum = read + update + insert + scan + read_modify_write;
        if (sum - 1.0).abs() <= PROPORTION_TOLERANCE {
            return Ok(shares);
        }
        // An override explains the sum best, else the last line that took part in it.
        let rank = |origin: &Origin| match origin {
            Origin::Default => 0,
            Origin::Line { line, .. } => *line,
            Origin::Override => usize::MAX,
        };
        let (origin, property) = PROPORTIONS
            .iter()
            .map(|key| (self.properties.origin(key), *key))
            .max_by_key(|(origin, _)| rank(origin))
            .unwrap_or((Origin::Default, PROPORTIONS[0]));
        let property = property.to_owned();
        Err(WorkloadError::Proportions {
            origin,
            property,
            sum,
            read,
            update,
            insert,
            scan,
            read_modify_write,
        })
    }

    /// `distkv.trace`, else `distkv.rate`, else `target`, as YCSB has it (0: a closed loop).
    fn offered(&self) -> Result<Option<OfferedLoad>, WorkloadError> {
        const TRACE: &str = "distkv.trace";
        if let Some(trace) = self.properties.property(TRACE) {
            let path = self.beside(&trace.value);
            let read = OfferedLoad::read_trace(&path).map(Some);
            return read.map_err(|error| self.refused(TRACE, &format!("a trace: {error}")));
        }
        if let Some(rate) = self.properties.property("distkv.rate") {
            let parsed = rate.value.parse().map(Some);
            return parsed
                .map_err(|error| self.refused("distkv.rate", &format!("a rate: {error}")));
        }
        let target = self.number("target", 0.0, 0.0, 1e9)?;
        Ok(Some(OfferedLoad::Constant(target)).filter(|_| target > 0.0))
    }

    /// A file named in the workload: beside it, where there is one, else as it is.
    fn beside(&self, name: &str) -> PathBuf {
        let beside = Path::new(self.properties.file()).parent().map(|folder| folder.join(name));
        beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
    }

    fn percentiles(&self) -> Result<Vec<f64>, WorkloadError> {
        let expected = "percentiles from 0 to 100, with commas between";
        let parse = |text: &str| text.trim().parse::<f64>().ok();
        self.text("hdrhistogram.percentiles", "50,95,99")
            .split(',')
            .map(|text| parse(text).filter(|percentile| (0.0..=100.0).contains(percentile)))
            .collect::<Option<Vec<f64>>>()
            .ok_or_else(|| self.refused("hdrhistogram.percentiles", expected))
    }

    /// YCSB's histogram file: `BlockSize<tab>n`, then `bucket<tab>weight` lines.
    fn histogram(&self) -> Result<Vec<u64>, WorkloadError> {
        const KEY: &str = "fieldlengthhistogram";
        let name = self.text(KEY, "hist.txt");
        let text = std::fs::read_to_string(self.beside(name))
            .map_err(|error| self.refused(KEY, &format!("a file that can be read ({error})")))?;
        parse_histogram(&text).ok_or_else(|| {
            self.refused(KEY, "a file of 'BlockSize<tab>n' and then 'bucket<tab>weight' lines")
        })
    }
}

fn parse_histogram(text: &str) -> Option<Vec<u64>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let block = lines.next()?.strip_prefix("BlockSize")?.trim().parse().ok()?;
    let mut histogram = vec![block];
    for line in lines {
        let (bucket, weight) = line.trim().split_once(char::is_whitespace)?;
        let at = bucket.parse::<usize>().ok().filter(|at| *at < BUCKETS_MAX)? + 1;
        histogram.resize(histogram.len().max(at + 1), 0);
        histogram[at] = weight.trim().parse::<u64>().ok().filter(|w| *w <= WEIGHT_MAX)?;
    }
    (block > 0 && histogram[1..].iter().any(|weight| *weight > 0)).then_some(histogram)
}

fn warnings(properties: &Properties) -> Vec<WorkloadWarning> {
    let reason = |key: &str| {
        if KNOWN.contains(&key) || PROPORTIONS.contains(&key) {
            None
        } else if WITHOUT_EFFECT.contains(&key) {
            Some("a YCSB property without effect here")
        } else {
            Some("unknown property, ignored")
        }
    };
    let warning = |(key, property): (&str, &super::properties::Property)| {
        reason(key).map(|reason| WorkloadWarning {
            origin: property.origin.clone(),
            property: key.to_owned(),
            reason,
        })
    };
    properties.iter().filter_map(warning).collect()
}

/// Most sessions of one generator.
pub const CLIENTS_MAX: u64 = 65_536;
/// Longest record.
pub const VALUE_BYTES_MAX: u64 = 64 << 20;
const KEYS_MAX: u64 = 1 << 40;
const SCAN_ROWS_MAX: u64 = 1_000_000;
const FIELDS_MAX: u64 = 4096;
const ZERO_PADDING_MAX: u64 = 64;
const SECONDS_MAX: u64 = 10_000_000;
const BUCKETS_MAX: usize = 1 << 20;
const WEIGHT_MAX: u64 = 1 << 40;
const PROPORTION_TOLERANCE: f64 = 1e-6;
const PROPORTIONS: [&str; 5] = [
    "readproportion",
    "updateproportion",
    "insertproportion",
    "scanproportion",
    "readmodifywriteproportion",
];
const KNOWN: [&str; 35] = [
    "workload",
    "recordcount",
    "operationcount",
    "insertstart",
    "insertcount",
    "fieldcount",
    "fieldlength",
    "minfieldlength",
    "fieldlengthdistribution",
    "fieldlengthhistogram",
    "fieldnameprefix",
    "readallfields",
    "writeallfields",
    "dataintegrity",
    "requestdistribution",
    "minscanlength",
    "maxscanlength",
    "scanlengthdistribution",
    "insertorder",
    "zeropadding",
    "hotspotdatafraction",
    "hotspotopnfraction",
    "exponential.percentile",
    "exponential.frac",
    "threadcount",
    "target",
    "maxexecutiontime",
    "status.interval",
    "measurement.interval",
    "hdrhistogram.fileoutput",
    "distkv.update",
    "distkv.record",
    "distkv.arrivals",
    "distkv.rate",
    "distkv.trace",
];
/// Properties of YCSB that its files may hold and that mean nothing to this bench.
const WITHOUT_EFFECT: [&str; 19] = [
    "hdrhistogram.percentiles",
    "hdrhistogram.output.path",
    "db",
    "table",
    "exporter",
    "exportfile",
    "dotransactions",
    "measurementtype",
    "measurement.raw.output_file",
    "measurement.trackjvm",
    "measurement.histogram.verbose",
    "histogram.buckets",
    "timeseries.granularity",
    "core_workload_insertion_retry_limit",
    "core_workload_insertion_retry_interval",
    "reportlatencyforeacherror",
    "latencytrackederrors",
    "hdrhistogram.max",
    "status",
];

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
