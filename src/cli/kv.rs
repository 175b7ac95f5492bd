//! `distkv kv`: reads and writes single keys.

use crate::client::{Client, ClientError};
use crate::node::tables::{ClusterFileError, read_cluster_file};
use crate::types::ReadMode;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Reads and writes keys of a cluster.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct KvArgs {
    /// Cluster file [default: distkv-cluster/cluster.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub cluster: Option<PathBuf>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, global = true,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// What get and scan promise: linearizable, lease (by the leader's lease), or eventual (any node,
    /// a value that was current at some time)
    #[arg(long, value_name = "MODE", default_value_t = ReadMode::Linearizable, global = true)]
    pub read: ReadMode,
    /// What to do.
    #[command(subcommand)]
    pub command: KvCommand,
}

/// Operations on keys.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KvCommand {
    /// Write a key; prints the version written
    Put {
        /// The key
        key: String,
        /// The value; - reads standard input
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        value: Option<String>,
        /// Take the value from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print a key's value, byte for byte
    Get {
        /// The key
        key: String,
        /// Print the version to standard error
        #[arg(long)]
        version: bool,
    },
    /// Remove a key
    Delete {
        /// The key
        key: String,
    },
    /// Write a key if its version is as expected; prints the version written
    Cas {
        /// The key
        key: String,
        /// The version it must have; 0 for "absent"
        expected: u64,
        /// The value; - reads standard input
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        value: Option<String>,
        /// Take the value from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print keys and values in key order
    Scan {
        /// The first key [default: the first of all]
        #[arg(default_value = "")]
        start: String,
        /// Rows at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
}

/// An operation that was not done.
#[derive(Debug, Error)]
pub enum KvError {
    /// The cluster file is wrong.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The client cannot work.
    #[error(transparent)]
    Client(ClientError),
    /// The operation failed.
    #[error("key '{key}': {source}")]
    Operation {
        /// The key.
        key: String,
        /// Why, and what to do.
        source: ClientError,
    },
    /// There is none.
    #[error("key '{0}': not found")]
    NotFound(String),
    /// Another version.
    #[error("key '{key}' has version {current}, not {expected}: nothing was written")]
    Mismatch {
        /// The key.
        key: String,
        /// What it has; 0 for "absent".
        current: u64,
        /// What was expected.
        expected: u64,
    },
    /// The value cannot be read, or the result printed.
    #[error("{what}: {source}")]
    Io {
        /// The file, or the stream.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs the command.
///
/// # Errors
/// [`KvError`] that names the key and says what to do.
pub fn run(args: &KvArgs) -> Result<(), KvError> {
    let cluster = Arc::new(read_cluster_file(&super::cluster_file(args.cluster.as_ref()))?);
    let mut client =
        Client::new(&cluster, Duration::from_secs(args.timeout)).map_err(KvError::Client)?;
    client.set_read_mode(args.read);
    let of = |key: &str| {
        let key = key.to_owned();
        move |source| KvError::Operation { key, source }
    };
    let mut out = io::stdout().lock();
    let printed = match &args.command {
        KvCommand::Put { key, value, file } => {
            let value = read_value(value.as_deref(), file.as_ref())?;
            let version = client.put(key.as_bytes(), value.into()).map_err(of(key))?;
            writeln!(out, "{version}")
        }
        KvCommand::Get { key, version: is_version_wanted } => {
            let found = client.get(key.as_bytes()).map_err(of(key))?;
            let Some((version, value)) = found else {
                return Err(KvError::NotFound(key.clone()));
            };
            if *is_version_wanted {
                eprintln!("{version}");
            }
            let end: &[u8] = if out.is_terminal() { b"\n" } else { b"" };
            out.write_all(&value).and_then(|()| out.write_all(end))
        }
        KvCommand::Delete { key } => match client.delete(key.as_bytes()).map_err(of(key))? {
            Some(version) => writeln!(out, "{version}"),
            None => return Err(KvError::NotFound(key.clone())),
        },
        KvCommand::Cas { key, expected, value, file } => {
            let value = read_value(value.as_deref(), file.as_ref())?.into();
            let done = client.compare_and_set(key.as_bytes(), *expected, value);
            match done.map_err(of(key))? {
                Ok(version) => writeln!(out, "{version}"),
                Err(current) => {
                    let (key, expected) = (key.clone(), *expected);
                    return Err(KvError::Mismatch { key, current, expected });
                }
            }
        }
        KvCommand::Scan { start, limit } => {
            let rows = client.scan(start.as_bytes(), *limit).map_err(of(start))?;
            rows.iter().try_for_each(|row| {
                let key = String::from_utf8_lossy(&row.key);
                let value = String::from_utf8_lossy(&row.value);
                writeln!(out, "{key}\t{}\t{value}", row.version)
            })
        }
    };
    printed
        .and_then(|()| out.flush())
        .map_err(|source| KvError::Io { what: "standard output".to_owned(), source })
}

fn read_value(value: Option<&str>, file: Option<&PathBuf>) -> Result<Vec<u8>, KvError> {
    if let Some(path) = file {
        return std::fs::read(path)
            .map_err(|source| KvError::Io { what: path.display().to_string(), source });
    }
    match value {
        Some("-") => {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|source| KvError::Io { what: "standard input".to_owned(), source })?;
            Ok(bytes)
        }
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Ok(Vec::new()),
    }
}

const EXAMPLES: &str = "\
Examples:
  distkv kv put greeting 'hello world'
  distkv kv get greeting
  distkv kv put photo --file photo.jpg
  tar c dir | distkv kv put backup -
  distkv kv cas greeting 17 'written if still at version 17'
  distkv kv scan a --limit 20
  distkv kv --cluster cluster.toml delete greeting";
