//! `hybrid`: full copies of short values, where coding costs more than it saves; else as `craft`.

use super::{Pick, View, craft, replicate};

pub(super) fn pick(view: &View<'_>, payload_bytes: usize) -> Pick {
    if payload_bytes < view.epoch.hybrid_bytes as usize {
        replicate::pick(view)
    } else {
        craft::pick(view)
    }
}
