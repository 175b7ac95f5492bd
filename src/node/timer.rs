//! A timer of nanosecond precision: the runtime's own counts in milliseconds, which is longer than a
//! round trip and would add itself to every emulated delay.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// One timer, set again and again.
#[derive(Debug)]
pub struct Timer {
    fd: AsyncFd<OwnedFd>,
    set_for: Option<Instant>,
}

impl Timer {
    /// A timer that is not set. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that lie about their fd; \
                                       OwnedFd does not"
        )]
        let fd = AsyncFd::with_interest(fd, tokio::io::Interest::READABLE)?;
        Ok(Self { fd, set_for: None })
    }

    /// Waits until `deadline`; for ever without one. May return early.
    ///
    /// # Errors
    /// When the system refuses to set it.
    pub async fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return std::future::pending().await };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // The same time of the node's clock comes out a little different each time.
        let is_set =
            |at: Instant| at.max(deadline).saturating_duration_since(at.min(deadline)) < SAME;
        if !self.set_for.is_some_and(is_set) {
            self.set(left)?;
            self.set_for = Some(deadline);
        }
        let mut ready = self.fd.readable().await?;
        ready.clear_ready();
        self.set_for = None;
        Ok(())
    }

    fn set(&self, left: Duration) -> io::Result<()> {
        let it_value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().max(1).into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

/// Nearer times are one.
const SAME: Duration = Duration::from_micros(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_on_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new().unwrap();
            for micros in [0, 200, 50, 700] {
                let start = Instant::now();
                let span = Duration::from_micros(micros);
                while start.elapsed() < span {
                    timer.wait(Some(start + span)).await.unwrap();
                }
                assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
            }
        });
    }
}
