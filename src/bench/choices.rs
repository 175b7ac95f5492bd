//! The workload properties whose values are words, with the words YCSB uses.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("one of {}", [$($text),+].join(", "))),
                }
            }
        }
    };
}

choices! {
    /// Which records requests go to (`requestdistribution`).
    RequestDistribution {
        /// All alike.
        Uniform = "uniform",
        /// YCSB's scrambled Zipf: flatter than a true one.
        Zipfian = "zipfian",
        /// A true Zipf over the records, θ = 0.99.
        ZipfianTrue = "zipfian-true",
        /// The newest hottest.
        Latest = "latest",
        /// A share of requests to a share of records.
        Hotspot = "hotspot",
        /// One after the other.
        Sequential = "sequential",
        /// Exponential distance from the newest.
        Exponential = "exponential",
    }
}
choices! {
    /// How field lengths are drawn (`fieldlengthdistribution`).
    LengthDistribution {
        /// Always `fieldlength`.
        Constant = "constant",
        /// `minfieldlength` to `fieldlength` alike.
        Uniform = "uniform",
        /// Short ones frequent.
        Zipfian = "zipfian",
        /// By `fieldlengthhistogram`.
        Histogram = "histogram",
        /// Generalized Pareto, by `distkv.pareto.*`, as production systems have been found to be.
        Pareto = "pareto",
    }
}
choices! {
    /// How scan lengths are drawn (`scanlengthdistribution`).
    ScanDistribution {
        /// All alike.
        Uniform = "uniform",
        /// Short ones frequent.
        Zipfian = "zipfian",
    }
}
choices! {
    /// Are key names hashed (`insertorder`)?
    InsertOrder {
        /// Inserts scatter over the key space.
        Hashed = "hashed",
        /// Inserts append to it.
        Ordered = "ordered",
    }
}
choices! {
    /// What an update does (`distkv.update`).
    UpdateMode {
        /// As YCSB: reads, replaces and puts unless `writeallfields`.
        Ycsb = "ycsb",
        /// Writes whole records blind.
        Put = "put",
    }
}
choices! {
    /// How a record becomes a value (`distkv.record`).
    RecordFormat {
        /// Field names, lengths and bytes.
        Fields = "fields",
        /// The bytes of the only field, so that values are exactly `fieldlength` long.
        Raw = "raw",
    }
}
choices! {
    /// Which latency is reported under a target rate (`measurement.interval`).
    Interval {
        /// From the sending of each operation.
        Op = "op",
        /// From when it was due.
        Intended = "intended",
        /// Both.
        Both = "both",
    }
}
choices! {
    /// When operations are due under a target rate (`distkv.arrivals`).
    Arrivals {
        /// At equal distances, as YCSB does.
        Fixed = "fixed",
        /// A Poisson process.
        Poisson = "poisson",
    }
}
