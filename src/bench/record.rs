//! Records as values: their fields in one byte string, cut from a pool of random bytes.
//!
//! A record is its field count, then per field name length, name, length and bytes; all numbers are
//! LEB128. With `distkv.record=raw` it is the only field's bytes, and then a new value is a slice
//! of the pool: nothing is copied. With `dataintegrity` a field's length and bytes follow from key
//! and field number alone, whatever the seed of the run, so that any later run can verify them.

use super::choices::{LengthDistribution, RecordFormat};
use super::generator::Length;
use super::workload::Workload;
use crate::rng::Rng;
use crate::types::Bytes;
use thiserror::Error;

/// A value that is no record of this workload.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a value that is no record of this workload; load the store with the same workload first")]
pub struct RecordError;

/// Makes, changes and verifies records.
#[derive(Debug)]
pub struct Records {
    format: RecordFormat,
    /// What every field begins with: the length of its name, and the name.
    field_heads: Vec<Vec<u8>>,
    length: Length,
    bytes_max: usize,
    pool: Bytes,
    is_deterministic: bool,
    /// Stamped into each written field, so that no two values of a history are alike.
    stamp: Option<u64>,
    rng: Rng,
}

impl Records {
    /// Records of `workload`; `is_stamped` makes every value unique (where a field is at least 8
    /// bytes long and data need not follow from the key), at the cost of a copy.
    #[must_use]
    pub fn new(workload: &Workload, is_stamped: bool, mut rng: Rng) -> Self {
        let field_bytes_max = usize::try_from(workload.field_bytes_max()).unwrap_or(usize::MAX);
        let mut pool = vec![0; POOL_OFFSETS + field_bytes_max];
        if workload.data_integrity {
            Rng::new(INTEGRITY_SEED).fill(&mut pool);
        } else {
            rng.fill(&mut pool);
        }
        make_compressible(&mut pool, workload.compressible);
        let head = |index| {
            let name = format!("{}{index}", workload.field_name_prefix);
            let mut head = Vec::with_capacity(name.len() + 5);
            append_number(&mut head, name.len());
            head.extend_from_slice(name.as_bytes());
            head
        };
        let field_heads: Vec<_> = (0..workload.field_count).map(head).collect();
        let heads_bytes: usize = field_heads.iter().map(|head| head.len() + 5).sum();
        Self {
            format: workload.record,
            field_heads,
            length: field_length(workload),
            bytes_max: heads_bytes + field_bytes_max * workload.field_count + 5,
            pool: Bytes::from(pool),
            is_deterministic: workload.data_integrity,
            stamp: (is_stamped && !workload.data_integrity).then_some(0),
            rng,
        }
    }

    /// A new record for `key`.
    pub fn whole(&mut self, key: &[u8]) -> Bytes {
        if self.format == RecordFormat::Raw && self.stamp.is_none() {
            let (from, length) = self.draw(key, 0);
            return self.pool.slice(from..from + length);
        }
        let mut record = Vec::with_capacity(self.bytes_max);
        if self.format == RecordFormat::Raw {
            self.append_bytes(&mut record, key, 0);
            return Bytes::from(record);
        }
        append_number(&mut record, self.field_heads.len());
        for index in 0..self.field_heads.len() {
            self.append_field(&mut record, key, index);
        }
        Bytes::from(record)
    }

    /// `old` with field `index` drawn anew.
    ///
    /// # Errors
    /// [`RecordError`] when `old` is no record of this workload.
    pub fn replace_field(
        &mut self,
        key: &[u8],
        old: &Bytes,
        index: usize,
    ) -> Result<Bytes, RecordError> {
        if self.format == RecordFormat::Raw {
            return Ok(self.whole(key));
        }
        let mut rest = self.fields_of(old)?;
        let mut replaced = 0..0;
        for (at, head) in self.field_heads.iter().enumerate() {
            let after = split_field(rest, head)?.1;
            if at == index {
                replaced = old.len() - rest.len()..old.len() - after.len();
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(RecordError);
        }
        assert!(!replaced.is_empty(), "field {index} of {}", self.field_heads.len());
        let mut record = Vec::with_capacity(self.bytes_max.max(old.len()));
        record.extend_from_slice(&old[..replaced.start]);
        self.append_field(&mut record, key, index);
        record.extend_from_slice(&old[replaced.end..]);
        Ok(Bytes::from(record))
    }

    /// The bytes of field `index` of `record`.
    ///
    /// # Errors
    /// [`RecordError`] when it is no record of this workload.
    pub fn field<'a>(&self, record: &'a [u8], index: usize) -> Result<&'a [u8], RecordError> {
        if self.format == RecordFormat::Raw {
            return Ok(record);
        }
        let mut rest = self.fields_of(record)?;
        for head in &self.field_heads[..index] {
            rest = split_field(rest, head)?.1;
        }
        Ok(split_field(rest, &self.field_heads[index])?.0)
    }

    /// With `dataintegrity`: is `record` what was written for `key`? Without it, true.
    #[must_use]
    pub fn is_intact(&mut self, key: &[u8], record: &[u8]) -> bool {
        if !self.is_deterministic {
            return true;
        }
        (0..self.field_heads.len()).all(|index| {
            let (from, length) = self.draw(key, index);
            self.field(record, index) == Ok(&self.pool[from..from + length])
        })
    }

    fn fields_of<'a>(&self, record: &'a [u8]) -> Result<&'a [u8], RecordError> {
        let (count, rest) = split_number(record)?;
        if count == self.field_heads.len() { Ok(rest) } else { Err(RecordError) }
    }

    fn append_field(&mut self, record: &mut Vec<u8>, key: &[u8], index: usize) {
        record.extend_from_slice(&self.field_heads[index]);
        let (from, length) = self.draw(key, index);
        append_number(record, length);
        self.append_drawn(record, from, length);
    }

    fn append_bytes(&mut self, record: &mut Vec<u8>, key: &[u8], index: usize) {
        let (from, length) = self.draw(key, index);
        self.append_drawn(record, from, length);
    }

    fn append_drawn(&mut self, record: &mut Vec<u8>, from: usize, length: usize) {
        let at = record.len();
        record.extend_from_slice(&self.pool[from..from + length]);
        if let Some(stamp) = self.stamp.as_mut().filter(|_| length >= 8) {
            record[at..at + 8].copy_from_slice(&stamp.to_le_bytes());
            *stamp += 1;
        }
    }

    /// Where in the pool field `index` of a record for `key` comes from, and its length.
    fn draw(&mut self, key: &[u8], index: usize) -> (usize, usize) {
        let (length, bits) = if self.is_deterministic {
            let bits = xxhash_rust::xxh3::xxh3_64_with_seed(key, index as u64);
            (self.length.next(&mut Rng::new(bits)), bits)
        } else {
            (self.length.next(&mut self.rng), self.rng.next_u64())
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let from = usize::try_from(bits % POOL_OFFSETS as u64).unwrap_or(0);
        (from, length)
    }
}

/// Zeros in `share` of every block: compressors of any window find them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a block's few bytes, not below 0"
)]
fn make_compressible(pool: &mut [u8], share: f64) {
    let zeros = (share * COMPRESSIBLE_BLOCK_BYTES as f64).round() as usize;
    for block in pool.chunks_mut(COMPRESSIBLE_BLOCK_BYTES) {
        let from = block.len() - zeros.min(block.len());
        block[from..].fill(0);
    }
}

fn field_length(workload: &Workload) -> Length {
    let (low, high) = (workload.min_field_length, workload.field_length);
    match workload.field_length_distribution {
        LengthDistribution::Constant => Length::Constant(high),
        LengthDistribution::Uniform => Length::Uniform { low, high },
        LengthDistribution::Zipfian => Length::zipfian(low, high),
        LengthDistribution::Pareto => match &workload.field_length_pareto {
            Some(lengths) => Length::Pareto { lengths: lengths.clone(), low, high },
            None => Length::Constant(high),
        },
        LengthDistribution::Histogram => {
            let mut numbers = workload.field_length_histogram.iter().copied();
            let block = numbers.next().unwrap_or(1);
            let sums = numbers.scan(0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            });
            Length::Histogram { block, sums: sums.collect() }
        }
    }
}

fn append_number(record: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        record.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    record.push(number.to_le_bytes()[0]);
}

fn split_number(bytes: &[u8]) -> Result<(usize, &[u8]), RecordError> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((number, &bytes[index + 1..]));
        }
    }
    Err(RecordError)
}

/// The bytes of the field that begins with `head` at the start of `rest`, and what follows it.
fn split_field<'a>(rest: &'a [u8], head: &[u8]) -> Result<(&'a [u8], &'a [u8]), RecordError> {
    let (length, rest) = split_number(rest.strip_prefix(head).ok_or(RecordError)?)?;
    rest.split_at_checked(length).ok_or(RecordError)
}

/// Different places a field can start at in the pool.
const POOL_OFFSETS: usize = 1 << 20;
/// A value of some hundred bytes holds several of them.
const COMPRESSIBLE_BLOCK_BYTES: usize = 64;
const INTEGRITY_SEED: u64 = 0x6469_7374_6b76;

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
