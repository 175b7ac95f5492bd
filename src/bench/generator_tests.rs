//! The distributions against the shares that YCSB's formulas give.

use super::*;

const DRAWS: u64 = 400_000;

/// Share of draws of the hottest key, and of the hottest tenth, over `count` keys.
fn shares(mut chooser: KeyChooser, count: u64) -> (f64, f64) {
    let mut rng = Rng::new(7);
    let mut hits = vec![0_u64; usize::try_from(count).unwrap()];
    for _ in 0..DRAWS {
        hits[usize::try_from(chooser.next(count - 1, &mut rng)).unwrap()] += 1;
    }
    hits.sort_unstable_by(|a, b| b.cmp(a));
    let tenth: u64 = hits.iter().take(hits.len() / 10).sum();
    (hits[0] as f64 / DRAWS as f64, tenth as f64 / DRAWS as f64)
}

fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() < tolerance, "{found}, expected {expected}");
}

#[test]
fn ycsb_zipfian_is_flatter_than_a_true_one() {
    let (hottest, tenth) = shares(KeyChooser::scrambled(0, 1000), 1000);
    assert_near(hottest, 0.039, 0.002);
    assert_near(tenth, 0.297, 0.01);
}

#[test]
fn true_zipfian_has_theta_099() {
    let chooser = KeyChooser::ZipfianTrue { low: 0, zipf: TrueZipfian::new(1000) };
    let (hottest, tenth) = shares(chooser, 1000);
    assert_near(hottest, 0.129, 0.002);
    assert_near(tenth, 0.685, 0.003);
}

#[test]
fn zeta_grows_to_the_same_sum() {
    let mut grown = Zipfian::new(10);
    grown.grow(500);
    grown.grow(1000);
    let fresh = Zipfian::new(1000);
    assert!((grown.zeta - fresh.zeta).abs() < 1e-9);
    assert!((grown.eta - fresh.eta).abs() < 1e-9);
    assert_eq!(grown.items, fresh.items);
}

#[test]
fn tiny_zipfians_stay_inside() {
    let mut rng = Rng::new(1);
    for items in 1..5 {
        let zipf = Zipfian::new(items);
        assert!((0..10_000).all(|_| zipf.next(&mut rng) < items));
        let zipf = TrueZipfian::new(items);
        assert!((0..10_000).all(|_| zipf.next(&mut rng) < items));
    }
}

#[test]
fn every_chooser_stays_within_what_is_inserted() {
    let mut rng = Rng::new(3);
    for last in [0_u64, 1, 2, 999] {
        let count = last + 1;
        let choosers = [
            KeyChooser::Uniform { low: 0, count },
            KeyChooser::scrambled(0, count + 100),
            KeyChooser::ZipfianTrue { low: 0, zipf: TrueZipfian::new(count) },
            KeyChooser::Latest { zipf: Zipfian::new(last.max(1)) },
            KeyChooser::hotspot(0, count, 0.2, 0.8),
            KeyChooser::Sequential { low: 0, count, next: 0 },
            KeyChooser::exponential(95.0, count as f64 * 0.857),
        ];
        for mut chooser in choosers {
            assert!((0..2000).all(|_| chooser.next(last, &mut rng) <= last), "{chooser:?}");
        }
    }
}

#[test]
fn latest_follows_the_inserts() {
    let mut chooser = KeyChooser::Latest { zipf: Zipfian::new(999) };
    let mut rng = Rng::new(5);
    let newest = |last: u64, chooser: &mut KeyChooser, rng: &mut Rng| {
        (0..20_000).filter(|_| chooser.next(last, rng) == last).count() as f64 / 20_000.0
    };
    assert_near(newest(999, &mut chooser, &mut rng), 0.129, 0.01);
    // 1 / ζ(1999)
    assert_near(newest(1999, &mut chooser, &mut rng), 0.118, 0.01);
}

#[test]
fn hotspot_and_exponential_give_their_shares() {
    let mut rng = Rng::new(9);
    let mut hot = KeyChooser::hotspot(0, 1000, 0.2, 0.8);
    let hits = (0..100_000).filter(|_| hot.next(999, &mut rng) < 200).count();
    assert_near(hits as f64 / 1e5, 0.8, 0.01);
    let mut exponential = KeyChooser::exponential(95.0, 857.0);
    let hits = (0..100_000).filter(|_| 9999 - exponential.next(9999, &mut rng) < 857).count();
    assert_near(hits as f64 / 1e5, 0.95, 0.01);
}

#[test]
fn sequential_goes_round() {
    let mut rng = Rng::new(1);
    let mut chooser = KeyChooser::Sequential { low: 5, count: 3, next: 0 };
    let drawn: Vec<u64> = (0..7).map(|_| chooser.next(100, &mut rng)).collect();
    assert_eq!(drawn, [5, 6, 7, 5, 6, 7, 5]);
}

#[test]
fn inserts_are_acknowledged_in_any_order() {
    let mut counter = AcknowledgedCounter::new(10);
    assert_eq!(counter.last(), 9);
    let numbers: Vec<u64> = (0..4).map(|_| counter.issue()).collect();
    assert_eq!(numbers, [10, 11, 12, 13]);
    for (number, last) in [(12, 9), (10, 10), (13, 10), (11, 13)] {
        counter.acknowledge(number);
        assert_eq!(counter.last(), last);
    }
}

#[test]
#[should_panic(expected = "acknowledged twice")]
fn an_insert_is_acknowledged_once() {
    let mut counter = AcknowledgedCounter::new(1);
    let number = counter.issue();
    counter.acknowledge(number);
    counter.acknowledge(number);
}

#[test]
fn lengths_follow_their_distribution() {
    let mut rng = Rng::new(2);
    let mean = |length: &Length, rng: &mut Rng| {
        (0..50_000).map(|_| length.next(rng)).sum::<u64>() as f64 / 50_000.0
    };
    assert_eq!(Length::Constant(7).next(&mut rng), 7);
    assert_near(mean(&Length::Uniform { low: 1, high: 99 }, &mut rng), 50.0, 1.0);
    let zipf = Length::zipfian(1, 100);
    assert!((0..10_000).all(|_| (1..=100).contains(&zipf.next(&mut rng))));
    assert!(mean(&zipf, &mut rng) < 30.0);
    // Weights 1, 0, 3 at 10, 20, 30 bytes.
    let histogram = Length::Histogram { block: 10, sums: vec![1, 1, 4] };
    assert_near(mean(&histogram, &mut rng), 25.0, 0.3);
    assert!((0..1000).all(|_| histogram.next(&mut rng) != 20));
}
