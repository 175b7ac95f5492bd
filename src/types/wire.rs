//! Hand-laid little-endian encoding shared by the clients' protocol, commands and node messages.
//!
//! Payloads are never copied: a [`Writer`] collects parts, a [`Reader`] slices what it was given.
//! Every length is checked against what is left before anything is allocated.

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;

/// Bytes that are not a message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Ends before `field` does.
    #[error("message cut short at {field}")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// `field` has a value that means nothing.
    #[error("message field {field} has the impossible value {value}")]
    Invalid {
        /// What was being read.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// Bytes are left over after the message.
    #[error("message has {count} bytes too many")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// Collects a message as parts: small fields together, payloads by reference.
#[derive(Debug, Default)]
pub struct Writer {
    parts: Vec<Bytes>,
    open: BytesMut,
}

impl Writer {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self { parts: Vec::new(), open: BytesMut::with_capacity(128) }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.open.put_u8(value);
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.open.put_u32_le(value);
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.open.put_u64_le(value);
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, value: u128) {
        self.open.put_u128_le(value);
    }

    /// A length and the bytes, copied: for small fields.
    pub fn small(&mut self, bytes: &[u8]) {
        self.u32(length(bytes));
        self.open.extend_from_slice(bytes);
    }

    /// A length and the bytes: by reference when they are long enough for that to pay.
    pub fn payload(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_BELOW_BYTES {
            return self.small(bytes);
        }
        self.u32(length(bytes));
        self.parts.push(self.open.split().freeze());
        self.parts.push(bytes.clone());
    }

    /// The message as parts, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.parts.push(self.open.freeze());
        }
        self.parts
    }
}

/// Reads what a [`Writer`] wrote.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads `message`.
    #[must_use]
    pub const fn new(message: Bytes) -> Self {
        Self { rest: message }
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let head = self.rest.first_chunk::<N>().copied().ok_or(DecodeError::Truncated { field })?;
        bytes::Buf::advance(&mut self.rest, N);
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take::<1>(field)?[0])
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.take(field)?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.take(field)?))
    }

    /// Eight bytes of what is counted up from 0 by one at a time: it is never near its end, so that the
    /// next one can always be named.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn counter(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let value = self.u64(field)?;
        if value < COUNTER_END { Ok(value) } else { Err(DecodeError::Invalid { field, value }) }
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u128(&mut self, field: &'static str) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.take(field)?))
    }

    /// A length and as many bytes, sliced.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let count = self.u32(field)? as usize;
        if count > self.rest.len() {
            return Err(DecodeError::Truncated { field });
        }
        Ok(self.rest.split_to(count))
    }

    /// A number of items, each at least `item_bytes` long: bounded by what is left.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn count(&mut self, field: &'static str, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.u32(field)? as usize;
        if count.saturating_mul(item_bytes.max(1)) > self.rest.len() {
            return Err(DecodeError::Truncated { field });
        }
        Ok(count)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing { count: self.rest.len() })
        }
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("messages are bounded far below 4 GiB")
}

/// Below this a copy is cheaper than a part of its own.
const COPY_BELOW_BYTES: usize = 512;
/// No counter comes as far as this.
pub const COUNTER_END: u64 = 1 << 62;
