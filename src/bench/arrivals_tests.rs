//! Schedules against their rate's integral, and backlogs that come out paced.

use super::*;

fn seconds_of(load: &str, window: u64, arrivals: Arrivals, until: f64) -> Vec<f64> {
    let origin = Instant::now();
    let load: OfferedLoad = load.parse().unwrap();
    let window = Some(Duration::from_secs(window));
    let mut schedule = Schedule::new(origin, &load, window, arrivals, Rng::new(7));
    let mut all = Vec::new();
    while let Some(due) = schedule.next_due() {
        let at = due.duration_since(origin).as_secs_f64();
        if at >= until {
            break;
        }
        all.push(at);
        schedule.advance();
    }
    all
}

fn count_between(all: &[f64], from: f64, to: f64) -> usize {
    all.iter().filter(|at| (from..to).contains(*at)).count()
}

#[test]
fn fixed_arrivals_are_at_even_distances() {
    let all = seconds_of("1000", 10, Arrivals::Fixed, 2.0);
    assert_eq!(all.len(), 2000);
    assert!(all.iter().enumerate().all(|(index, at)| (at - index as f64 / 1e3).abs() < 1e-6));
}

#[test]
fn poisson_gaps_are_exponential() {
    let all = seconds_of("1000", 10, Arrivals::Poisson, 100.0);
    let gaps: Vec<f64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((mean * 1e3 - 1.0).abs() < 0.01, "{mean}");
    // The deviation of an exponential is its mean, and 1/e of it lies above.
    assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
    let above = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
    assert!((above - 0.3679).abs() < 0.01, "{above}");
}

#[test]
fn what_is_left_is_drained_whole_and_in_few_steps() {
    let seconds: Vec<f64> = (0..250_000).map(|index| f64::from(index) / 1e5).collect();
    let trace =
        OfferedLoad::Trace { file: "t".to_owned(), count: 250_000, due_seconds: seconds.into() };
    let of = |text: &str| text.parse::<OfferedLoad>().unwrap();
    for (load, arrivals, expected) in [
        (of("1000"), Arrivals::Fixed, 2000),
        (of("1000000"), Arrivals::Fixed, 2_000_000),
        (of("0..2000000"), Arrivals::Fixed, 2_000_000),
        (of("100000:1,0:0.5,1000000:2"), Arrivals::Fixed, 600_000),
        (of("1000000"), Arrivals::Poisson, 2_000_000),
        (trace, Arrivals::Fixed, 200_000),
    ] {
        let origin = Instant::now();
        let window = Some(Duration::from_secs(2));
        let new = || Schedule::new(origin, &load, window, arrivals, Rng::new(7));
        let until = origin + Duration::from_secs(2);
        let (mut count, mut calls, mut last) = (0, 0_u64, origin);
        let left = new().drain(until, u64::MAX, &mut |due, times| {
            assert!(last <= due && due <= until);
            (count, calls, last) = (count + times, calls + 1, due);
        });
        assert_eq!((u64::MAX - left, calls <= 101_000), (count, true), "{calls}");
        let spread = if arrivals == Arrivals::Fixed { 1 } else { 5000 };
        assert!(count.abs_diff(expected) <= spread, "{load}: {count} for {expected}");
        assert!(until.duration_since(last) < Duration::from_millis(3), "{load}");
        let mut schedule = new();
        assert_eq!(schedule.drain(until, 1500, &mut |_, _| ()), 0);
        assert!(schedule.next_due().is_some(), "what is beyond the limit stays");
    }
}

#[test]
fn a_ramp_offers_the_integral_of_its_rate() {
    for arrivals in [Arrivals::Fixed, Arrivals::Poisson] {
        for (load, sign) in [("0..2000", 1.0), ("2000..0", -1.0)] {
            let all = seconds_of(load, 10, arrivals, 10.0);
            assert!((all.len() as f64 - 10_000.0).abs() < 400.0, "{load}: {}", all.len());
            let rise = count_between(&all, 5.0, 10.0) as f64 - count_between(&all, 0.0, 5.0) as f64;
            assert!((rise * sign - 5000.0).abs() < 400.0, "{load}: {rise}");
        }
    }
    // After its window a ramp goes on as it ended.
    let all = seconds_of("1000..2000", 1, Arrivals::Fixed, 3.0);
    assert_eq!(count_between(&all, 1.5, 2.5), 2000);
}

#[test]
fn steps_hold_their_rates_pause_at_0_and_end() {
    let all = seconds_of("100:1,0:2,1000:1", 10, Arrivals::Fixed, 1e9);
    assert_eq!(count_between(&all, 0.0, 1.0), 100);
    assert_eq!(count_between(&all, 1.0, 3.0), 0);
    assert_eq!(count_between(&all, 3.0, 4.0), 1000);
    assert_eq!(all.len(), 1100);
}

#[test]
fn a_trace_is_played_as_it_is() {
    let load = OfferedLoad::parse_trace("t", "0.25\n0.25\n3\n").unwrap();
    let origin = Instant::now();
    let mut schedule = Schedule::new(origin, &load, None, Arrivals::Poisson, Rng::new(1));
    for millis in [250, 250, 3000] {
        assert_eq!(schedule.next_due(), Some(origin + Duration::from_millis(millis)));
        schedule.advance();
    }
    assert_eq!(schedule.next_due(), None);
}

/// Starts what is due one after the other, looking every `tick`; gives the starting times.
fn started(tick: Duration, stall: (Duration, Duration), span: Duration) -> Vec<Duration> {
    let origin = Instant::now();
    let load = OfferedLoad::Constant(1000.0);
    let mut schedule = Schedule::new(origin, &load, None, Arrivals::Fixed, Rng::new(1));
    let (mut catch_up, mut now, mut all) = (CatchUp::default(), Duration::ZERO, Vec::new());
    while now < span {
        let at = origin + now;
        while let Some(due) = schedule.next_due().filter(|due| *due <= at) {
            if catch_up.release(due, origin, at) > at {
                break;
            }
            all.push(now);
            schedule.advance();
        }
        now += tick;
        if now >= stall.0 && now < stall.1 {
            now = stall.1;
        }
    }
    all
}

#[test]
fn a_held_up_generator_catches_up_without_a_burst() {
    let ms = Duration::from_millis;
    let all = started(Duration::from_micros(100), (ms(1000), ms(1500)), ms(3000));
    assert_eq!(all.len(), 3000, "nothing is skipped");
    let between = |from, to| all.iter().filter(|at| **at >= ms(from) && **at < ms(to)).count();
    assert_eq!(between(1000, 1500), 0);
    // 500 of backlog and 167 new ones, at four times the rate for 167 ms.
    for from in (1500..1650).step_by(50) {
        assert!((195..=205).contains(&between(from, from + 50)), "{}", between(from, from + 50));
    }
    assert!((1295..=1305).contains(&between(1700, 3000)));
}

#[test]
fn what_waited_for_a_session_starts_at_once() {
    let origin = Instant::now();
    let ms = |millis| origin + Duration::from_millis(millis);
    let mut catch_up = CatchUp::default();
    // Due 50 ms ago, but no session was free before now.
    assert!(catch_up.release(ms(50), ms(100), ms(100)) <= ms(100));
    assert!(catch_up.release(ms(51), ms(100), ms(100)) <= ms(100));
}
