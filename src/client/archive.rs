//! The file that `distkv export` writes and `distkv import` reads: rows of keys and values, of no
//! cluster and no version of the store.
//!
//! Layout, integers little-endian: 8 bytes magic, u32 format version; then per row the byte 1, key
//! length u32, value length u32, key, value, XXH3-64 of all these; at the end the byte 0, the number
//! of rows u64, XXH3-64 of the rows' checksums in order. A file without its end is cut short.
//! Invariant of the reader: nothing is allocated for a length above its maximum.

use std::io::{self, Read, Write};
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 8] = *b"DKVROWS\n";
const VERSION: u32 = 1;
const ROW: u8 = 1;
const END: u8 = 0;
/// Longest key, of any cluster.
const KEY_BYTES_MAX: u32 = 64 << 10;
/// Longest value, of any cluster.
const VALUE_BYTES_MAX: u32 = 16 << 20;

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveRow {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// A file that is no archive, or a damaged one.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else.
    #[error("no file that 'distkv export' has written")]
    NotAnArchive,
    /// Of another format.
    #[error("format version {found}; this program reads version {VERSION}: use a newer one")]
    Version {
        /// What it says.
        found: u32,
    },
    /// It ends early.
    #[error("cut short after {rows} rows: export it again")]
    CutShort {
        /// Whole rows before the cut.
        rows: u64,
    },
    /// A checksum, a length or a tag is wrong.
    #[error("damaged in row {row}: {problem}; export it again")]
    Damaged {
        /// Counted from 1.
        row: u64,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Writes an archive.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    to: W,
    rows: u64,
    sums: Sums,
}

/// Reads an archive, row by row.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    from: R,
    rows: u64,
    sums: Sums,
    is_over: bool,
}

/// The checksum over the rows' checksums.
#[derive(Clone, Default)]
struct Sums(Xxh3);

impl std::fmt::Debug for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0.digest())
    }
}

fn row_head(key_bytes: u32, value_bytes: u32) -> [u8; 9] {
    let mut head = [ROW; 9];
    head[1..5].copy_from_slice(&key_bytes.to_le_bytes());
    head[5..].copy_from_slice(&value_bytes.to_le_bytes());
    head
}

fn row_sum(head: &[u8], key: &[u8], value: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    for part in [head, key, value] {
        sum.update(part);
    }
    sum.digest()
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive.
    ///
    /// # Errors
    /// What `to` fails with.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        Ok(Self { to, rows: 0, sums: Sums::default() })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// What the writer fails with, and rows that are longer than any cluster's.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let too_long = || io::Error::other("a row longer than any cluster's");
        let fits = |length: usize, max: u32| u32::try_from(length).ok().filter(|len| *len <= max);
        let key_bytes = fits(key.len(), KEY_BYTES_MAX).ok_or_else(too_long)?;
        let value_bytes = fits(value.len(), VALUE_BYTES_MAX).ok_or_else(too_long)?;
        let head = row_head(key_bytes, value_bytes);
        let sum = row_sum(&head, key, value).to_le_bytes();
        for part in [&head[..], key, value, &sum] {
            self.to.write_all(part)?;
        }
        self.sums.0.update(&sum);
        self.rows += 1;
        Ok(())
    }

    /// Writes the end; gives the writer back, flushed.
    ///
    /// # Errors
    /// What the writer fails with.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[END])?;
        self.to.write_all(&self.rows.to_le_bytes())?;
        self.to.write_all(&self.sums.0.digest().to_le_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`ArchiveError`] when it is not one.
    pub fn new(mut from: R) -> Result<Self, ArchiveError> {
        let mut head = [0; 12];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ArchiveError::NotAnArchive);
            }
            other => other?,
        }
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(ArchiveError::NotAnArchive);
        }
        let found = version.try_into().map_or(0, u32::from_le_bytes);
        if found != VERSION {
            return Err(ArchiveError::Version { found });
        }
        Ok(Self { from, rows: 0, sums: Sums::default(), is_over: false })
    }

    /// The next row; None when the end was read and agrees with the rows.
    ///
    /// # Errors
    /// [`ArchiveError`], naming the row.
    pub fn next_row(&mut self) -> Result<Option<ArchiveRow>, ArchiveError> {
        if self.is_over {
            return Ok(None);
        }
        match self.bytes::<1>()? {
            [ROW] => self.row().map(Some),
            [END] => self.end().map(|()| None),
            _ => Err(self.damaged("neither a row nor the end")),
        }
    }

    fn row(&mut self) -> Result<ArchiveRow, ArchiveError> {
        let key_bytes = u32::from_le_bytes(self.bytes()?);
        let value_bytes = u32::from_le_bytes(self.bytes()?);
        if key_bytes > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
            return Err(self.damaged("a length beyond every maximum"));
        }
        let mut key = vec![0; key_bytes as usize];
        self.fill(&mut key)?;
        let mut value = vec![0; value_bytes as usize];
        self.fill(&mut value)?;
        let sum: [u8; 8] = self.bytes()?;
        if sum != row_sum(&row_head(key_bytes, value_bytes), &key, &value).to_le_bytes() {
            return Err(self.damaged("its checksum does not match"));
        }
        self.sums.0.update(&sum);
        self.rows += 1;
        Ok(ArchiveRow { key, value })
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let rows = u64::from_le_bytes(self.bytes()?);
        let sum = u64::from_le_bytes(self.bytes()?);
        if rows != self.rows || sum != self.sums.0.digest() {
            return Err(self.damaged("the end does not match the rows before it"));
        }
        if self.from.read(&mut [0])? != 0 {
            return Err(self.damaged("something follows the end"));
        }
        self.is_over = true;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.from.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                ArchiveError::CutShort { rows: self.rows }
            } else {
                error.into()
            }
        })
    }

    const fn damaged(&self, problem: &'static str) -> ArchiveError {
        ArchiveError::Damaged { row: self.rows + 1, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<ArchiveRow> {
        [("a", 0), ("b", 1), ("c", 3000)]
            .map(|(key, bytes)| ArchiveRow { key: key.into(), value: vec![7; bytes] })
            .to_vec()
    }

    fn written(rows: &[ArchiveRow]) -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
        for row in rows {
            writer.push(&row.key, &row.value).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<ArchiveRow>, ArchiveError> {
        let mut reader = ArchiveReader::new(bytes)?;
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row()? {
            rows.push(row);
        }
        assert!(reader.next_row()?.is_none());
        Ok(rows)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written(&rows())).unwrap(), rows());
        assert_eq!(read(&written(&[])).unwrap(), []);
    }

    #[test]
    fn archives_of_version_1_stay_readable_and_other_versions_are_named() {
        let golden = include_bytes!("../../tests/golden/archive-1.rows");
        let row = |key: &[u8], value: &[u8]| ArchiveRow { key: key.into(), value: value.into() };
        let rows = [row(b"a", b""), row(b"key", b"value"), row(b"z", b"zz")];
        assert_eq!(read(golden).unwrap(), rows);
        let mut other = golden.to_vec();
        other[8] = 2;
        let text = read(&other).unwrap_err().to_string();
        assert!(text.contains("format version 2; this program reads version 1"), "{text}");
    }

    #[test]
    fn every_cut_is_seen() {
        let bytes = written(&rows());
        for cut in 0..bytes.len() {
            let error = read(&bytes[..cut]).unwrap_err();
            let is_named = match error {
                ArchiveError::NotAnArchive => cut < 12,
                ArchiveError::CutShort { rows } => cut >= 12 && rows <= 3,
                ArchiveError::Io(_)
                | ArchiveError::Version { .. }
                | ArchiveError::Damaged { .. } => false,
            };
            assert!(is_named, "cut at {cut}: {error}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let rows = vec![ArchiveRow { key: b"key".to_vec(), value: b"value".to_vec() }; 2];
        let bytes = written(&rows);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(read(&longer), Err(ArchiveError::Damaged { .. })));
    }

    #[test]
    fn a_row_beyond_every_bound_is_not_written() {
        let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
        assert!(writer.push(&vec![0; KEY_BYTES_MAX as usize + 1], b"").is_err());
        assert!(writer.push(b"", &vec![0; VALUE_BYTES_MAX as usize + 1]).is_err());
    }
}
