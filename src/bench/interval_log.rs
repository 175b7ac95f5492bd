//! Histograms as an HdrHistogram interval log (`.hlog`), which other tools read and draw.

use super::report::HistogramError;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fmt;
use std::io::Write;
use std::time::Duration;
use thiserror::Error;

/// What one step of a histogram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogUnit {
    /// As most tools expect.
    Nanoseconds,
    /// The log's maxima are milliseconds all the same; tools must be told to divide by 1000.
    Microseconds,
}

/// No log was written.
#[derive(Debug, Error)]
pub enum IntervalLogError {
    /// What should go into it is no histogram.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    /// A name has a comma or white space, or the output takes nothing.
    #[error("interval log: {0}")]
    Write(String),
}

/// One line for each of `histograms` with its name as tag, over a `window` that begins at zero.
///
/// # Errors
/// [`IntervalLogError::Write`].
pub fn write_interval_log<W: Write>(
    out: &mut W,
    window: Duration,
    unit: LogUnit,
    histograms: impl IntoIterator<Item = (String, Histogram<u64>)>,
) -> Result<(), IntervalLogError> {
    let refused = |error: &dyn fmt::Debug| IntervalLogError::Write(format!("{error:?}"));
    let mut serializer = V2DeflateSerializer::new();
    let per_millisecond = match unit {
        LogUnit::Nanoseconds => 1e6,
        LogUnit::Microseconds => 1e3,
    };
    let mut log = IntervalLogWriterBuilder::new()
        .with_max_value_divisor(per_millisecond)
        .begin_log_with(out, &mut serializer)
        .map_err(|error| refused(&error))?;
    for (name, histogram) in histograms {
        let tag = Tag::new(&name);
        let tag = tag.ok_or_else(|| IntervalLogError::Write(format!("'{name}' is no tag")))?;
        log.write_histogram(&histogram, Duration::ZERO, window, Some(tag))
            .map_err(|error| refused(&error))?;
    }
    Ok(())
}
