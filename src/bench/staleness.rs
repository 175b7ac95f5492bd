//! How old what reads return is: measured from outside, by what this generator's own writes were
//! acknowledged.
//!
//! A read is stale when a newer version of its key was acknowledged before the read was sent; its age
//! is how long before. Writes of others are not seen, and of each key the last [`VERSIONS_MAX`]
//! writes are remembered, so that an age is never overstated. A read of a key that this generator has
//! not written counts as fresh.

use super::target::{Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use crate::rng::Rng;
use crate::types::{Bytes, ReadMode};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A target whose reads are judged on their way.
pub struct Watched<'a> {
    inner: &'a mut dyn Target,
    /// By session: key, whether it is a read, and when it was sent.
    outstanding: HashMap<usize, (Bytes, bool, Instant)>,
    ages: Ages,
}

/// What was seen of the age of reads.
#[derive(Debug)]
pub struct Ages {
    /// By key: versions acknowledged, and when.
    written: HashMap<Bytes, VecDeque<(u64, Instant)>>,
    reads: u64,
    stale: u64,
    /// Of stale reads, a sample of at most [`SAMPLES_MAX`], each as likely as any other.
    samples: Vec<Duration>,
    rng: Rng,
}

impl<'a> Watched<'a> {
    /// `seed` decides which ages are kept when there are too many.
    pub fn new(inner: &'a mut dyn Target, seed: u64) -> Self {
        Self { inner, outstanding: HashMap::new(), ages: Ages::new(seed) }
    }

    /// What was seen.
    #[must_use]
    pub fn into_ages(self) -> Ages {
        self.ages
    }
}

impl Target for Watched<'_> {
    fn set_read_mode(&mut self, mode: ReadMode) {
        self.inner.set_read_mode(mode);
    }

    fn set_put_attempts(&mut self, attempts: u32) {
        self.inner.set_put_attempts(attempts);
    }

    fn submit(&mut self, client: usize, op: TargetOp) {
        let seen = match &op {
            TargetOp::Read { key } => Some((key.clone(), true)),
            TargetOp::Put { key, .. } | TargetOp::Delete { key } => Some((key.clone(), false)),
            TargetOp::Scan { .. } => None,
        };
        if let Some((key, is_read)) = seen {
            self.outstanding.insert(client, (key, is_read, self.inner.now()));
        }
        self.inner.submit(client, op);
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        let known = completions.len();
        self.inner.wait(completions, deadline)?;
        for completion in &completions[known..] {
            let Some((key, is_read, sent_at)) = self.outstanding.remove(&completion.client) else {
                continue;
            };
            match completion.outcome {
                TargetOutcome::Done { version: Some(version) } if !is_read => {
                    self.ages.handle_written(key, version, completion.completed_at);
                }
                TargetOutcome::Value { version: Some(version), .. } if is_read => {
                    self.ages.handle_read(&key, version, sent_at);
                }
                TargetOutcome::Done { .. }
                | TargetOutcome::Value { .. }
                | TargetOutcome::Rows { .. }
                | TargetOutcome::Error { .. }
                | TargetOutcome::Timeout => {}
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn has_virtual_time(&self) -> bool {
        self.inner.has_virtual_time()
    }
}

impl Ages {
    fn new(seed: u64) -> Self {
        let (written, samples) = (HashMap::new(), Vec::new());
        Self { written, reads: 0, stale: 0, samples, rng: Rng::new(seed) }
    }

    fn handle_written(&mut self, key: Bytes, version: u64, at: Instant) {
        let versions = self.written.entry(key).or_default();
        if versions.len() >= VERSIONS_MAX {
            versions.pop_front();
        }
        versions.push_back((version, at));
    }

    fn handle_read(&mut self, key: &Bytes, version: u64, sent_at: Instant) {
        self.reads += 1;
        let versions = self.written.get(key).into_iter().flatten();
        let newer = versions.filter(|(other, at)| *other > version && *at < sent_at);
        let Some(since) = newer.map(|(_, at)| *at).min() else { return };
        let age = sent_at.saturating_duration_since(since);
        self.stale += 1;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(age);
        } else if let Ok(place) = usize::try_from(self.rng.below(self.stale))
            && let Some(kept) = self.samples.get_mut(place)
        {
            *kept = age;
        }
    }

    /// Stale reads of all reads with an answer, 0 to 1; 0 without any.
    #[must_use]
    pub fn stale_share(&self) -> f64 {
        if self.reads == 0 { 0.0 } else { self.stale as f64 / self.reads as f64 }
    }

    /// Ages of stale reads, in any order: all, or a fair sample of a thousand.
    #[must_use]
    pub fn samples(&self) -> &[Duration] {
        &self.samples
    }
}

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("ages", &self.ages).finish_non_exhaustive()
    }
}

/// Writes of a key that are remembered.
const VERSIONS_MAX: usize = 64;
/// Ages that are kept.
const SAMPLES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_acknowledged_before_makes_a_read_stale() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let key = Bytes::from_static(b"key");
        let mut ages = Ages::new(1);
        ages.handle_read(&key, 3, at(0));
        for (version, millis) in [(5, 10), (8, 30), (7, 40)] {
            ages.handle_written(key.clone(), version, at(millis));
        }
        // The newest; an old one before anything newer was acknowledged; another key.
        ages.handle_read(&key, 8, at(100));
        ages.handle_read(&key, 3, at(10));
        ages.handle_read(&Bytes::from_static(b"other"), 1, at(100));
        assert_eq!((ages.stale_share(), ages.samples()), (0.0, [].as_slice()));
        // Since 5 was acknowledged the first is old, since 8 the second; 7 came later than 8.
        ages.handle_read(&key, 3, at(100));
        ages.handle_read(&key, 5, at(100));
        let ages_seen = [Duration::from_millis(90), Duration::from_millis(70)];
        assert_eq!((ages.stale_share(), ages.samples()), (2.0 / 6.0, ages_seen.as_slice()));
    }

    #[test]
    fn too_many_ages_are_sampled() {
        let (begin, key) = (Instant::now(), Bytes::from_static(b"key"));
        let mut ages = Ages::new(1);
        ages.handle_written(key.clone(), 2, begin);
        for millis in 1..=10_000 {
            ages.handle_read(&key, 1, begin + Duration::from_millis(millis));
        }
        assert_eq!((ages.stale_share(), ages.samples().len()), (1.0, SAMPLES_MAX));
        let late = Duration::from_millis(5000);
        let late = ages.samples().iter().filter(|age| **age > late).count();
        assert!((400..600).contains(&late), "{late} of the later half");
    }
}
