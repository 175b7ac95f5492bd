//! `rs-paxos`: one shard per node and a prepare quorum that is larger for it. With too few nodes
//! alive it waits.

use super::{Pick, View};

pub(super) fn pick(view: &View<'_>) -> Pick {
    Pick { code: view.epoch.code, c: 1 }
}
