//! The erasure code alone, timed in this process on one core (E7).
//!
//! Generic over [`Codec`], so that it knows no backend. Encoding and decoding are checked to give
//! the payload back before anything is timed; a trial whose code does not is invalid.

use super::trial::{CancelFlag, TrialConfig, TrialError, TrialOutcome};
use crate::coding::Coder;
use crate::report::result::CodecResult;
use crate::rng::Rng;
use crate::types::{Bytes, Code, Shard};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What is timed: one backend at one code.
pub trait Codec {
    /// All n shards of `payload`.
    fn encode(&mut self, payload: &Bytes) -> Vec<Shard>;

    /// The payload of `payload_bytes` from any k distinct shards.
    ///
    /// # Errors
    /// Why it cannot.
    fn decode(&mut self, payload_bytes: usize, shards: &[Shard]) -> Result<Bytes, String>;
}

impl Codec for Coder {
    fn encode(&mut self, payload: &Bytes) -> Vec<Shard> {
        Self::encode(self, payload)
    }

    fn decode(&mut self, payload_bytes: usize, shards: &[Shard]) -> Result<Bytes, String> {
        Self::decode(self, payload_bytes, shards).map_err(|error| error.to_string())
    }
}

/// Times `codec` for a trial of kind `codec`: half its time is each of encoding and decoding, after
/// a tenth of it as warm-up. `value_bytes` is the size of a shard.
///
/// # Errors
/// [`TrialError::Cancelled`] on request; [`TrialError::Failed`] when the parameters are impossible
/// or the code gives back something else.
pub fn measure(
    codec: &mut dyn Codec,
    trial: &TrialConfig,
    cancel: &CancelFlag,
) -> Result<TrialOutcome, TrialError> {
    let failed = |reason: String| TrialError::Failed(reason);
    let code = trial.parsed_code().map_err(|error| failed(error.to_string()))?;
    let shard_bytes = usize::try_from(trial.value_bytes).map_err(|e| failed(e.to_string()))?;
    let payload_bytes = shard_bytes * usize::from(code.k());
    let mut contents = vec![0; payload_bytes];
    Rng::new(trial.seed).fill(&mut contents);
    let payload = Bytes::from(contents);
    let survivors = survivors(codec.encode(&payload), code);
    let back = codec.decode(payload_bytes, &survivors).map_err(failed)?;
    if back != payload {
        return Err(failed(format!("{} at {code} gives back other bytes", trial.backend)));
    }
    let time = Duration::from_millis(trial.duration_ms);
    let mut encode = || {
        black_box(codec.encode(black_box(&payload)));
        Ok(())
    };
    repeat(time / 10, cancel, &mut encode)?;
    let (encodes, encode_seconds) = repeat(time, cancel, &mut encode)?;
    let mut decode = || {
        let back = codec.decode(payload_bytes, black_box(&survivors));
        black_box(back.map_err(TrialError::Failed)?);
        Ok(())
    };
    repeat(time / 10, cancel, &mut decode)?;
    let (decodes, decode_seconds) = repeat(time, cancel, &mut decode)?;
    let speed = |count: u64, seconds: f64| count as f64 * payload_bytes as f64 / seconds / 1e9;
    let result = CodecResult {
        encode_gb_per_s: speed(encodes, encode_seconds),
        decode_gb_per_s: speed(decodes, decode_seconds),
        encodes,
        decodes,
    };
    Ok(TrialOutcome { codec: Some(result), ..TrialOutcome::default() })
}

/// The k shards left when as many data shards as possible are lost: the costly case.
fn survivors(mut shards: Vec<Shard>, code: Code) -> Vec<Shard> {
    let lost = usize::from(code.m().min(code.k()));
    shards.sort_by_key(|shard| shard.index);
    shards.into_iter().skip(lost).take(usize::from(code.k())).collect()
}

/// Repeats `work` for `time`, at least once; gives the count and the seconds it took.
fn repeat(
    time: Duration,
    cancel: &CancelFlag,
    work: &mut dyn FnMut() -> Result<(), TrialError>,
) -> Result<(u64, f64), TrialError> {
    let start = Instant::now();
    let mut count = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(TrialError::Cancelled);
        }
        work()?;
        count += 1;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok((count, elapsed.as_secs_f64().max(1e-9)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The simplest code that loses nothing: copies, k = 1.
    struct Copies(u8, bool);

    impl Codec for Copies {
        fn encode(&mut self, payload: &Bytes) -> Vec<Shard> {
            (0..self.0).map(|index| Shard::new(index, payload.clone())).collect()
        }

        fn decode(&mut self, payload_bytes: usize, shards: &[Shard]) -> Result<Bytes, String> {
            let keep = if self.1 { payload_bytes } else { payload_bytes / 2 };
            Ok(shards.first().ok_or("no shard")?.bytes.slice(..keep))
        }
    }

    fn trial() -> TrialConfig {
        TrialConfig { code: "1+2".to_owned(), duration_ms: 2, ..TrialConfig::default() }
    }

    #[test]
    fn a_right_code_is_timed_and_a_wrong_one_fails() {
        let cancel = CancelFlag::default();
        let outcome = measure(&mut Copies(3, true), &trial(), &cancel).unwrap();
        let codec = outcome.codec.unwrap();
        assert!(codec.encode_gb_per_s > 0.0 && codec.decodes > 0);
        let wrong = measure(&mut Copies(3, false), &trial(), &cancel);
        assert!(matches!(wrong, Err(TrialError::Failed(_))));
    }

    #[test]
    fn a_cancelled_measurement_stops() {
        let cancel = CancelFlag::default();
        cancel.cancel();
        let stopped = measure(&mut Copies(3, true), &trial(), &cancel);
        assert!(matches!(stopped, Err(TrialError::Cancelled)));
    }
}
