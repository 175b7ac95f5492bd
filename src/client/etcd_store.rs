//! etcd v3 over gRPC, by `tonic` and `prost`.
//!
//! The three calls the bench needs are written out below, from etcd's `rpc.proto` and `kv.proto`,
//! whose numbers are fixed for ever: the client crates generate all of it, and need `protoc` to build.
//! Sessions are spread over the endpoints, one connection each. Versions are etcd's revisions.
//! Linearizable and lease reads are etcd's linearizable ones, eventual ones its serializable ones.

use super::remote::{RemoteStore, Reply, failure};
use crate::bench::{TargetOp, TargetOutcome};
use crate::types::{Bytes, ReadMode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

#[derive(Debug)]
pub(super) struct EtcdStore {
    channels: Vec<Channel>,
    is_serializable: AtomicBool,
}

impl EtcdStore {
    /// The members at `endpoints`, each `host:port`. Must be called within a runtime; nothing is sent
    /// yet.
    pub fn new(endpoints: &[String]) -> Result<Self, tonic::transport::Error> {
        let channel = |endpoint: &String| {
            Ok(Endpoint::from_shared(format!("http://{endpoint}"))?
                .connect_timeout(CONNECT_TIMEOUT)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .connect_lazy())
        };
        let channels = endpoints.iter().map(channel).collect::<Result<_, _>>()?;
        Ok(Self { channels, is_serializable: AtomicBool::new(false) })
    }

    /// Asks every member for a linearizable read.
    pub async fn ping(&self) -> Result<(), Status> {
        for session in 0..self.channels.len() {
            let request =
                RangeRequest { key: Bytes::from_static(b"\0"), ..RangeRequest::default() };
            self.unary::<_, RangeResponse>(session, "/etcdserverpb.KV/Range", request).await?;
        }
        Ok(())
    }

    async fn unary<Q, A>(&self, session: usize, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let channel = self.channels[session % self.channels.len()].clone();
        let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.unary(Request::new(request), path, codec).await?.into_inner())
    }

    async fn run(&self, session: usize, op: TargetOp) -> Result<Reply, Status> {
        match op {
            TargetOp::Read { key } => {
                let mut answer = self.range(session, key, Bytes::new(), 1).await?;
                let row = answer.kvs.pop();
                let version = row.as_ref().and_then(|row| u64::try_from(row.mod_revision).ok());
                let value = row.map(|row| row.value);
                Ok((TargetOutcome::Value { value, version }, revision(answer.header.as_ref())))
            }
            TargetOp::Scan { start, limit } => {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                // An end of one zero byte means: to the last key.
                let answer = self.range(session, start, Bytes::from_static(b"\0"), limit).await?;
                let outcome = TargetOutcome::Rows {
                    row_count: answer.kvs.len(),
                    value_bytes: answer.kvs.iter().map(|row| row.value.len() as u64).sum(),
                };
                Ok((outcome, revision(answer.header.as_ref())))
            }
            TargetOp::Put { key, value } => {
                let request = PutRequest { key, value };
                let answer: WriteResponse =
                    self.unary(session, "/etcdserverpb.KV/Put", request).await?;
                let version = revision(answer.header.as_ref());
                Ok((TargetOutcome::Done { version }, version))
            }
            TargetOp::Delete { key } => {
                let request = DeleteRangeRequest { key };
                let answer: WriteResponse =
                    self.unary(session, "/etcdserverpb.KV/DeleteRange", request).await?;
                let version = revision(answer.header.as_ref());
                Ok((TargetOutcome::Done { version }, version))
            }
        }
    }

    async fn range(
        &self,
        session: usize,
        key: Bytes,
        range_end: Bytes,
        limit: i64,
    ) -> Result<RangeResponse, Status> {
        let serializable = self.is_serializable.load(Ordering::Relaxed);
        let request = RangeRequest { key, range_end, limit, serializable };
        self.unary(session, "/etcdserverpb.KV/Range", request).await
    }
}

impl RemoteStore for EtcdStore {
    fn set_read_mode(&self, mode: ReadMode) {
        let is_serializable = match mode {
            ReadMode::Linearizable | ReadMode::Lease => false,
            ReadMode::Eventual => true,
        };
        self.is_serializable.store(is_serializable, Ordering::Relaxed);
    }

    async fn call(self: Arc<Self>, session: usize, op: TargetOp) -> Reply {
        match self.run(session, op).await {
            Ok(reply) => reply,
            Err(status) => failed(&status),
        }
    }
}

/// gRPC says little about whether a request took effect: only what was refused certainly did not.
fn failed(status: &Status) -> Reply {
    match status.code() {
        Code::DeadlineExceeded => (TargetOutcome::Timeout, None),
        Code::InvalidArgument => failure("invalid-argument", false),
        // Too large, too many, or no space left.
        Code::ResourceExhausted => failure("resource-exhausted", false),
        Code::FailedPrecondition => failure("failed-precondition", false),
        Code::Unauthenticated | Code::PermissionDenied => failure("not-permitted", false),
        Code::Unavailable => failure("unavailable", true),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => failure("grpc-error", true),
    }
}

fn revision(header: Option<&ResponseHeader>) -> Option<u64> {
    header.and_then(|header| u64::try_from(header.revision).ok())
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: Bytes,
    #[prost(int64, tag = "3")]
    limit: i64,
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteRangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

/// Of a put and of a delete.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WriteResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Room for several large values on their way.
const WINDOW_BYTES: u32 = 16 << 20;
const ANSWER_BYTES_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn messages_have_etcds_field_numbers() {
        let range = RangeRequest {
            key: Bytes::from_static(b"k"),
            range_end: Bytes::from_static(b"\0"),
            limit: 5,
            serializable: true,
        };
        assert_eq!(range.encode_to_vec(), b"\x0a\x01k\x12\x01\0\x18\x05\x38\x01");
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v");
        // A range's answer as etcd writes it: header of revision 7, one row of revision 3.
        let answer = b"\x0a\x06\x08\x01\x10\x02\x18\x07\
                       \x12\x0c\x0a\x01k\x10\x02\x18\x03\x20\x01\x2a\x01v\x20\x01";
        let answer = RangeResponse::decode(&answer[..]).unwrap();
        assert_eq!(revision(answer.header.as_ref()), Some(7));
        assert_eq!((answer.kvs[0].mod_revision, &answer.kvs[0].value[..]), (3, &b"v"[..]));
    }
}
