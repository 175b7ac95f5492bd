//! Histograms of trials as logs that others read.

use crate::synthetic::built_in;
use distkv::report::hlog;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

#[test]
fn every_histogram_is_whole_in_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut results) = built_in("quick");
    results.retain(|result| result.trial.experiment == "E8");
    let count = hlog::write_all(folder.path(), &results).unwrap();
    assert_eq!(count, std::fs::read_dir(folder.path()).unwrap().count());
    for result in &results {
        for phase in &result.phases {
            let name = format!("E8-{}.{}.hlog", result.id, phase.name);
            let text = std::fs::read(folder.path().join(&name)).unwrap();
            let mut read = 0;
            for entry in IntervalLogIterator::new(&text) {
                let LogEntry::Interval(interval) = entry.unwrap() else { continue };
                let bytes = base64(interval.encoded_histogram());
                let one: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                let of = &phase.latency[interval.tag().unwrap().as_str()];
                assert_eq!((one.len(), one.max()), (of.count, of.max_us), "{name}");
                let max_ms = one.max() as f64 / 1000.0;
                assert!((interval.max() - max_ms).abs() < 0.001, "{} ms in {name}", interval.max());
                read += 1;
            }
            assert_eq!(read, phase.latency.len(), "{name}");
        }
    }
    assert!(count > 4, "{count} logs");
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
