//! Whose data a directory holds: two checksummed copies of one small file (rule 12).
//!
//! Written anew at every start, before the log answers anything: its boot counter makes two starts
//! of one directory distinct. Layout: magic, version, cluster, node, durability, incarnation, boot,
//! machine boot, whether a log is there, CRC-32C of all before; little-endian.

use super::disk::Disk;
use super::error::OpenError;
use super::options::LogOptions;
use super::stored::Durability;
use crate::types::NodeId;

/// What an identity file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// The node.
    pub node: NodeId,
    /// The weakest durability that its data was kept with.
    pub durability: Durability,
    /// Random name of this directory.
    pub incarnation: u64,
    /// Starts so far.
    pub boot: u64,
    /// The machine's start at the last start, where known.
    pub machine_boot: Option<u64>,
    /// There is a log beside it.
    pub is_used: bool,
}

impl Identity {
    /// Reads and checks the identity, or makes one; raises the boot counter and makes it durable.
    pub(super) fn take<D: Disk>(
        disk: &mut D,
        options: &LogOptions,
        new_incarnation: u64,
    ) -> Result<Self, OpenError> {
        let machine_boot = disk.machine_boot();
        let mut identity = match Self::read(disk)? {
            Some(found) => {
                found.check(options, machine_boot)?;
                found
            }
            None => Self {
                cluster: options.cluster,
                node: options.node,
                durability: options.durability,
                incarnation: new_incarnation,
                boot: 0,
                machine_boot,
                is_used: false,
            },
        };
        identity.boot += 1;
        identity.machine_boot = machine_boot;
        identity.write(disk)?;
        Ok(identity)
    }

    /// Notes that the log is there and durable: until now the old mode's doubts held.
    pub(super) fn settle<D: Disk>(
        &mut self,
        disk: &mut D,
        options: &LogOptions,
    ) -> Result<(), OpenError> {
        if self.is_used && self.durability == options.durability {
            return Ok(());
        }
        self.is_used = true;
        self.durability = options.durability;
        self.write(disk)
    }

    fn write<D: Disk>(&self, disk: &mut D) -> Result<(), OpenError> {
        for file in FILES {
            disk.replace(file, &self.encode())?;
        }
        Ok(())
    }

    pub(super) fn read<D: Disk>(disk: &mut D) -> Result<Option<Self>, OpenError> {
        let files = disk.list()?;
        let mut newest: Option<Self> = None;
        let mut first_error = None;
        for name in FILES {
            let Some(info) = files.iter().find(|info| info.name == name) else { continue };
            let bytes = disk.read_at(name, 0, FILE_BYTES_MAX)?;
            match Self::decode(&bytes, info.bytes) {
                Ok(found) if newest.is_none_or(|n| n.boot < found.boot) => newest = Some(found),
                Ok(_) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let segments = files.iter().filter(|info| info.name.ends_with(".seg")).count();
        if newest.is_some_and(|found| found.is_used && segments == 0) {
            return Err(OpenError::LogMissing { file: FILES[0] });
        }
        if newest.is_some() {
            return Ok(newest);
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        if segments > 0 {
            return Err(OpenError::IdentityMissing { file: FILES[0], segments });
        }
        Ok(None)
    }

    fn check(&self, options: &LogOptions, machine_boot: Option<u64>) -> Result<(), OpenError> {
        let file = FILES[0];
        if self.cluster != options.cluster {
            let (found, expected) = (self.cluster, options.cluster);
            return Err(OpenError::OtherCluster { file, found, expected });
        }
        if self.node != options.node {
            let (found, expected) = (self.node, options.node);
            return Err(OpenError::OtherNode { file, found, expected });
        }
        match self.durability {
            Durability::Os if self.machine_boot != machine_boot => Err(OpenError::UnsyncedLost),
            Durability::Sync | Durability::Os | Durability::Memory => Ok(()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.cluster.to_le_bytes());
        bytes.push(self.node.0);
        bytes.push(match self.durability {
            Durability::Sync => 0,
            Durability::Os => 1,
            Durability::Memory => 2,
        });
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.boot.to_le_bytes());
        bytes.push(u8::from(self.machine_boot.is_some()));
        bytes.extend_from_slice(&self.machine_boot.unwrap_or(0).to_le_bytes());
        bytes.push(u8::from(self.is_used));
        let checksum = crc_fast::crc32_iscsi(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        assert_eq!(bytes.len(), FILE_BYTES, "the identity file's layout is fixed");
        bytes
    }

    fn decode(bytes: &[u8], file_bytes: u64) -> Result<Self, OpenError> {
        let file = FILES[0];
        let damaged = OpenError::IdentityDamaged { file };
        let is_start = bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes);
        if bytes.len() < VERSION_END && is_start {
            return Err(OpenError::IdentityTruncated { file, bytes: file_bytes });
        }
        let (Some(version), true) = (word(bytes, MAGIC.len()), is_start) else {
            return Err(damaged);
        };
        let (body, checksum) = bytes.split_at(bytes.len() - 4);
        let is_whole = crc_fast::crc32_iscsi(body).to_le_bytes() == checksum;
        if !is_whole && version == FORMAT_VERSION && bytes.len() < FILE_BYTES {
            return Err(OpenError::IdentityTruncated { file, bytes: file_bytes });
        }
        if !is_whole {
            return Err(damaged);
        }
        if version != FORMAT_VERSION {
            let expected = FORMAT_VERSION;
            return Err(OpenError::OtherVersion { file, found: version, expected });
        }
        Self::fields(body).ok_or(damaged)
    }

    fn fields(body: &[u8]) -> Option<Self> {
        let at = VERSION_END;
        Some(Self {
            cluster: long(body, at)?,
            node: NodeId(*body.get(at + 8)?),
            durability: match *body.get(at + 9)? {
                0 => Durability::Sync,
                1 => Durability::Os,
                2 => Durability::Memory,
                _ => return None,
            },
            incarnation: long(body, at + 10)?,
            boot: long(body, at + 18)?,
            machine_boot: match *body.get(at + 26)? {
                0 => None,
                _ => Some(long(body, at + 27)?),
            },
            is_used: *body.get(at + 35)? != 0,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The file and its copy.
pub(super) const FILES: [&str; 2] = ["identity", "identity.copy"];
/// Of the identity file and the segments together.
pub(super) const FORMAT_VERSION: u32 = 2;
const MAGIC: [u8; 8] = *b"DISTKVID";
const VERSION_END: usize = MAGIC.len() + 4;
const FILE_BYTES: usize = VERSION_END + 36 + 4;
const FILE_BYTES_MAX: usize = 4096;
