//! `craft`: one shard per node, full copies when too few nodes are alive for that.

use super::{Pick, View, least_c};

pub(super) fn pick(view: &View<'_>) -> Pick {
    let code = view.epoch.code;
    let c = if least_c(view, code) > 1 { code.k() } else { 1 };
    Pick { code, c }
}
