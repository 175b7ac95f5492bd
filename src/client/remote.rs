//! Stores of other makes as the load generator sees them: calls of a client crate, on its thread.
//!
//! A call is a task of a runtime of one thread, the generator's own: no other thread takes part, so
//! none has to be woken (about 33 µs a hop). What a store is and how it is called is a
//! [`RemoteStore`]. A call that takes too long is dropped and counts as a timeout. It never tries
//! again by itself: a retry would hide what the store did.

use crate::bench::{Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use crate::experiment::CancelFlag;
use crate::node::timer::Timer;
use crate::types::ReadMode;
use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// An answer, and the version it was served at where the store has such.
pub(super) type Reply = (TargetOutcome, Option<u64>);

/// A store that takes any number of calls at once.
pub(super) trait RemoteStore: Send + Sync + 'static {
    /// What the reads that follow promise, as far as the store has a choice.
    fn set_read_mode(&self, mode: ReadMode);

    /// Does `op` for a session.
    fn call(
        self: Arc<Self>,
        session: usize,
        op: TargetOp,
    ) -> impl Future<Output = Reply> + Send + 'static;
}

/// A store under load.
#[derive(Debug)]
pub(super) struct RemoteTarget<S> {
    store: Arc<S>,
    timeout: Duration,
    cancel: Option<CancelFlag>,
    calls: JoinSet<TargetCompletion>,
    timer: Timer,
    // Dropped last: the others live in it.
    runtime: Runtime,
}

/// A runtime for a store and its target.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()
}

impl<S: RemoteStore> RemoteTarget<S> {
    /// Calls of `store` that end after `timeout`. The store lives in `runtime`.
    pub fn new(store: S, timeout: Duration, runtime: Runtime) -> std::io::Result<Self> {
        let timer = {
            let _guard = runtime.enter();
            Timer::new()?
        };
        Ok(Self {
            store: Arc::new(store),
            timeout,
            cancel: None,
            calls: JoinSet::new(),
            timer,
            runtime,
        })
    }

    /// Breaks the phase off with an error once `cancel` is set.
    pub fn set_cancel(&mut self, cancel: Option<CancelFlag>) {
        self.cancel = cancel;
    }
}

impl<S: RemoteStore> Target for RemoteTarget<S> {
    fn set_read_mode(&mut self, mode: ReadMode) {
        self.store.set_read_mode(mode);
    }

    fn submit(&mut self, client: usize, op: TargetOp) {
        let (store, timeout) = (Arc::clone(&self.store), self.timeout);
        let call = async move {
            let ended = tokio::time::timeout(timeout, store.call(client, op)).await;
            let (outcome, served_at) = ended.unwrap_or((TargetOutcome::Timeout, None));
            TargetCompletion { client, outcome, served_at, completed_at: Instant::now() }
        };
        self.calls.spawn_on(call, self.runtime.handle());
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        if self.cancel.as_ref().is_some_and(CancelFlag::is_cancelled) {
            return Err(TargetError { reason: "stopped on request".to_owned() });
        }
        let (calls, timer) = (&mut self.calls, &mut self.timer);
        let ended = self.runtime.block_on(async {
            // Calls run even when the deadline has passed already.
            tokio::task::yield_now().await;
            loop {
                while let Some(ended) = calls.try_join_next() {
                    completions.push(ended.map_err(std::io::Error::other)?);
                }
                if !completions.is_empty() || Instant::now() >= deadline {
                    return Ok(());
                }
                tokio::select! {
                    biased;
                    Some(ended) = calls.join_next() => {
                        completions.push(ended.map_err(std::io::Error::other)?);
                    }
                    woken = timer.wait(Some(deadline)) => woken?,
                }
            }
        });
        ended.map_err(|error: std::io::Error| TargetError { reason: error.to_string() })
    }
}

/// A call that failed, counted as `kind`.
pub(super) fn failure(kind: impl Into<Cow<'static, str>>, is_ambiguous: bool) -> Reply {
    (TargetOutcome::Error { kind: kind.into(), is_ambiguous }, None)
}
