//! Typed reading of a workload's properties, with errors that name file, line and property.

use super::generator::ParetoLengths;
use super::offered::OfferedLoad;
use super::properties::{Origin, Properties};
use super::workload::{Proportions, WorkloadError, WorkloadWarning};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Typed access to properties, with errors that name their place.
pub(super) struct Reader<'a> {
    pub properties: &'a Properties,
}

impl<'a> Reader<'a> {
    pub fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.properties.property(key).map_or(default, |property| property.value.as_str())
    }

    pub fn refused(&self, key: &str, expected: &str) -> WorkloadError {
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

    pub fn count(
        &self,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, WorkloadError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let count = self.parsed(key, default, &expected)?;
        if range.contains(&count) { Ok(count) } else { Err(self.refused(key, &expected)) }
    }

    pub fn size(
        &self,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<usize, WorkloadError> {
        let count = self.count(key, default, range)?;
        usize::try_from(count).map_err(|_| self.refused(key, "a number this machine can address"))
    }

    pub fn number(
        &self,
        key: &str,
        default: f64,
        low: f64,
        high: f64,
    ) -> Result<f64, WorkloadError> {
        let expected = format!("a number from {low} to {high}");
        let number = self.parsed(key, default, &expected)?;
        // Not a number is in no range.
        if (low..=high).contains(&number) { Ok(number) } else { Err(self.refused(key, &expected)) }
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool, WorkloadError> {
        match self.text(key, if default { "true" } else { "false" }).to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.refused(key, "true or false")),
        }
    }

    pub fn choice<T: FromStr<Err = String>>(
        &self,
        key: &str,
        default: T,
    ) -> Result<T, WorkloadError> {
        match self.properties.property(key) {
            None => Ok(default),
            Some(property) => {
                property.value.parse().map_err(|expected: String| self.refused(key, &expected))
            }
        }
    }

    pub fn proportions(&self) -> Result<Proportions, WorkloadError> {
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
    pub fn offered(&self) -> Result<Option<OfferedLoad>, WorkloadError> {
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

    pub fn percentiles(&self) -> Result<Vec<f64>, WorkloadError> {
        let expected = "percentiles from 0 to 100, with commas between";
        let parse = |text: &str| text.trim().parse::<f64>().ok();
        self.text("hdrhistogram.percentiles", "50,95,99")
            .split(',')
            .map(|text| parse(text).filter(|percentile| (0.0..=100.0).contains(percentile)))
            .collect::<Option<Vec<f64>>>()
            .ok_or_else(|| self.refused("hdrhistogram.percentiles", expected))
    }

    /// The lengths of `fieldlengthdistribution=pareto`.
    pub fn pareto(&self) -> Result<ParetoLengths, WorkloadError> {
        const HEAD: &str = "distkv.pareto.head";
        let expected = "the probabilities of the lengths 0, 1, 2, …, with commas between, \
                        at most 1 in all";
        let share = |text: &str| {
            let number = text.trim().parse::<f64>().ok();
            number.filter(|share| (0.0..=1.0).contains(share))
        };
        let head = match self.text(HEAD, "") {
            "" => Vec::new(),
            text => text
                .split(',')
                .map(share)
                .collect::<Option<Vec<f64>>>()
                .filter(|head| head.iter().sum::<f64>() <= 1.0)
                .ok_or_else(|| self.refused(HEAD, expected))?,
        };
        Ok(ParetoLengths {
            head,
            location: self.number("distkv.pareto.location", 0.0, 0.0, 1e9)?,
            scale: self.number("distkv.pareto.scale", 0.0, 1e-9, 1e9)?,
            shape: self.number("distkv.pareto.shape", 0.0, 0.0, 10.0)?,
        })
    }

    /// YCSB's histogram file: `BlockSize<tab>n`, then `bucket<tab>weight` lines.
    pub fn histogram(&self) -> Result<Vec<u64>, WorkloadError> {
        const KEY: &str = "fieldlengthhistogram";
        let name = self.text(KEY, "hist.txt");
        let text = std::fs::read_to_string(self.beside(name))
            .map_err(|error| self.refused(KEY, &format!("a file that can be read ({error})")))?;
        parse_histogram(&text).ok_or_else(|| {
            self.refused(KEY, "a file of 'BlockSize<tab>n' and then 'bucket<tab>weight' lines")
        })
    }
}

pub(super) fn parse_histogram(text: &str) -> Option<Vec<u64>> {
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

pub(super) fn warnings(properties: &Properties) -> Vec<WorkloadWarning> {
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
const KNOWN: [&str; 40] = [
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
    "distkv.compressible",
    "distkv.pareto.location",
    "distkv.pareto.scale",
    "distkv.pareto.shape",
    "distkv.pareto.head",
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
