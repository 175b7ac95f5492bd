//! A server that speaks RESP (Redis, Valkey, KeyDB, …) by the `redis` crate.
//!
//! All sessions share one connection, pipelined: such a server runs commands one at a time, so that
//! answers in order cost nothing, and both sides save system calls, as our own driver does with its
//! one socket. A key is a string. Strings have no order, so with `keeps_index` every put also adds its
//! key to a sorted set, and a scan asks that set and then for the values, as YCSB's binding does.
//! A lost connection fails the calls on it; the next call connects anew.

use super::remote::{RemoteStore, Reply, failure};
use crate::bench::{TargetOp, TargetOutcome};
use crate::types::{Bytes, ReadMode};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

#[derive(Debug)]
pub(super) struct RedisStore {
    client: redis::Client,
    pipeline_commands: usize,
    keeps_index: bool,
    /// The connection in use, and how many there were before it.
    connection: Mutex<(u64, Option<MultiplexedConnection>)>,
}

impl RedisStore {
    /// The server at `url` for `clients` sessions. Nothing is sent yet.
    pub fn new(url: &str, clients: usize, keeps_index: bool) -> Result<Self, RedisError> {
        Ok(Self {
            client: redis::Client::open(url)?,
            pipeline_commands: clients.max(1),
            keeps_index,
            connection: Mutex::new((0, None)),
        })
    }

    /// Connects and asks for a sign of life.
    pub async fn ping(&self) -> Result<(), RedisError> {
        let (_, mut connection) = self.connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut held = self.connection.lock().await;
        if let (number, Some(connection)) = &*held {
            return Ok((*number, connection.clone()));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // The target has its own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(self.pipeline_commands);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *held = (held.0 + 1, Some(connection.clone()));
        Ok((held.0, connection))
    }

    async fn forget(&self, number: u64) {
        let mut held = self.connection.lock().await;
        if held.0 == number {
            held.1 = None;
        }
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        op: TargetOp,
    ) -> Result<TargetOutcome, RedisError> {
        match op {
            TargetOp::Read { key } => {
                let value: Option<Vec<u8>> =
                    redis::cmd("GET").arg(&key[..]).query_async(connection).await?;
                Ok(TargetOutcome::Value { value: value.map(Bytes::from), version: None })
            }
            TargetOp::Put { key, value } => {
                let mut pipe = redis::pipe();
                pipe.cmd("SET").arg(&key[..]).arg(&value[..]).ignore();
                if self.keeps_index {
                    pipe.cmd("ZADD").arg(INDEX).arg(0).arg(&key[..]).ignore();
                }
                pipe.query_async::<()>(connection).await?;
                Ok(TargetOutcome::Done { version: None })
            }
            TargetOp::Delete { key } => {
                let mut pipe = redis::pipe();
                pipe.cmd("DEL").arg(&key[..]).ignore();
                if self.keeps_index {
                    pipe.cmd("ZREM").arg(INDEX).arg(&key[..]).ignore();
                }
                pipe.query_async::<()>(connection).await?;
                Ok(TargetOutcome::Done { version: None })
            }
            TargetOp::Scan { start, limit } => self.scan(connection, &start, limit).await,
        }
    }

    async fn scan(
        &self,
        connection: &mut MultiplexedConnection,
        start: &[u8],
        limit: usize,
    ) -> Result<TargetOutcome, RedisError> {
        let from = [b"[", start].concat();
        let keys: Vec<Vec<u8>> = redis::cmd("ZRANGEBYLEX")
            .arg(INDEX)
            .arg(from)
            .arg("+")
            .arg("LIMIT")
            .arg(0)
            .arg(limit)
            .query_async(connection)
            .await?;
        if keys.is_empty() {
            return Ok(TargetOutcome::Rows { row_count: 0, value_bytes: 0 });
        }
        let values: Vec<Option<Vec<u8>>> =
            redis::cmd("MGET").arg(keys).query_async(connection).await?;
        let found = values.iter().flatten();
        Ok(TargetOutcome::Rows {
            row_count: found.clone().count(),
            value_bytes: found.map(|value| value.len() as u64).sum(),
        })
    }
}

impl RemoteStore for RedisStore {
    /// One server has one kind of reads.
    fn set_read_mode(&self, _mode: ReadMode) {}

    async fn call(self: Arc<Self>, _session: usize, op: TargetOp) -> Reply {
        let Ok((number, mut connection)) = self.connection().await else {
            return failure("no-connection", false);
        };
        match self.run(&mut connection, op).await {
            Ok(outcome) => (outcome, None),
            Err(error) if error.kind() == ErrorKind::Io => {
                self.forget(number).await;
                failure("connection-lost", true)
            }
            Err(error) => match error.code() {
                // The server's own word: OOM, MISCONF, LOADING, WRONGTYPE, …
                Some(code) => failure(code.to_ascii_lowercase(), false),
                None => failure("wrong-answer", true),
            },
        }
    }
}

/// The sorted set of all keys.
const INDEX: &str = "distkv:index";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
