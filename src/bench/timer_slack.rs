//! How late the system may end a thread's timed waits: 50 us unless the thread says otherwise, which
//! is most of what a generator that waits by them is late. Timers of their own (the cluster client's)
//! end on time anyhow.

use rustix::thread::{current_timer_slack, set_current_timer_slack};
use std::num::NonZeroU64;

/// While it lives, timed waits of its thread end soon after they should.
pub(super) struct ShortTimerSlack {
    before: Option<NonZeroU64>,
}

impl ShortTimerSlack {
    pub fn new() -> Self {
        let before = current_timer_slack().ok().and_then(NonZeroU64::new);
        set(before.map(|before| before.min(SLACK_NS)));
        Self { before }
    }
}

impl Drop for ShortTimerSlack {
    fn drop(&mut self) {
        set(self.before);
    }
}

/// Where it cannot be set, waits end later, and the lag shows it.
fn set(nanos: Option<NonZeroU64>) {
    set_current_timer_slack(nanos).ok();
}

/// Without any, a high rate is a wake-up per operation, which costs several times the operation.
const SLACK_NS: NonZeroU64 = NonZeroU64::new(20_000).expect("above 0");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slack_is_short_while_it_is_wanted_and_then_as_before() {
        let before = current_timer_slack().unwrap();
        {
            let _slack = ShortTimerSlack::new();
            assert_eq!(current_timer_slack().unwrap(), before.min(SLACK_NS.get()));
        }
        assert_eq!(current_timer_slack().unwrap(), before);
    }
}
