//! Another store as the bed of a trial: etcd or Redis, started by [`super::stores`].

use super::bed::{Bed, Used};
use super::faults::FaultAction;
use super::measured::{self, failed};
use super::stores::{ExternalStore, Running, StoreKind};
use super::trial::{CancelFlag, TrialConfig, TrialError};
use crate::bench::Target;
use crate::node::process;
use std::path::Path;
use std::time::Instant;

/// A store of others.
pub(super) struct StoreBed {
    target: Box<dyn Target>,
    running: Running,
}

impl StoreBed {
    /// Starts it with its files in `dir`. A failed trial, with the note that says what to install or
    /// build, when it cannot be had.
    pub(super) fn start(
        kind: StoreKind,
        trial: &TrialConfig,
        has_scans: bool,
        dir: &Path,
        cancel: &CancelFlag,
    ) -> Result<Self, TrialError> {
        if let Some(note) = kind.missing() {
            return Err(TrialError::Skipped(note));
        }
        let running = ExternalStore::start(kind, trial.nodes, trial.nice, dir).map_err(failed)?;
        let Some(running) = running else { return Err(failed("the store went missing")) };
        let clients = usize::try_from(trial.clients.max(1)).map_err(failed)?;
        let target =
            running.target(clients, trial.operation_timeout(), has_scans, Some(cancel.clone()));
        Ok(Self { target: target.map_err(failed)?, running })
    }
}

impl Bed for StoreBed {
    fn target(&mut self) -> &mut dyn Target {
        &mut *self.target
    }

    fn now(&self) -> Instant {
        self.target.now()
    }

    fn set_loading(&mut self, _is_loading: bool) {}

    fn used(&mut self) -> Result<Used, TrialError> {
        // From the start on: a trial subtracts by itself.
        let stores = self.running.resources();
        let generator = measured::generator_used(process::usage(None));
        let all = stores.into_iter().chain([generator]);
        Ok(all.map(|used| ((used.role.clone(), used.node), used)).collect())
    }

    fn settle(&mut self) -> Result<Option<String>, TrialError> {
        Ok(None)
    }

    fn strike(&mut self, _action: FaultAction) -> Result<String, String> {
        Err("faults are for clusters of ours".to_owned())
    }

    fn broken(&mut self) -> Option<String> {
        self.running.check().err().map(|error| error.to_string())
    }

    fn stop(&mut self) -> Vec<String> {
        Vec::new()
    }
}
