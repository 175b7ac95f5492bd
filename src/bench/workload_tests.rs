//! Property files in, typed workloads or errors that name their place out.

use super::super::workload_reader::parse_histogram;
use super::*;

fn parse(text: &str) -> Result<(Workload, Vec<WorkloadWarning>), WorkloadError> {
    Workload::from_properties(&Properties::parse("w", text).unwrap())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_ycsb() {
    let (workload, warnings) = parse("recordcount=1000").unwrap();
    assert!(warnings.is_empty());
    assert_eq!((workload.field_count, workload.field_length), (10, 100));
    assert_eq!((workload.min_field_length, workload.insert_count), (1, 1000));
    assert_eq!(workload.proportions.read, 0.95);
    assert_eq!(workload.proportions.update, 0.05);
    assert_eq!(workload.request_distribution, RequestDistribution::Uniform);
    assert_eq!((workload.min_scan_length, workload.max_scan_length), (1, 1000));
    assert_eq!(workload.insert_order, InsertOrder::Hashed);
    assert!(workload.read_all_fields && !workload.write_all_fields && !workload.data_integrity);
    assert_eq!((workload.zero_padding, workload.thread_count), (1, 1));
    assert_eq!(workload.exponential_percentile, 95.0);
    assert_eq!(workload.exponential_fraction, 0.857_142_857_1);
    assert_eq!(workload.percentiles, [50.0, 95.0, 99.0]);
    assert_eq!(workload.update, UpdateMode::Ycsb);
}

#[test]
fn the_files_in_workloads_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let (workload, warnings) = Workload::load(&entry.unwrap().path(), &[]).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(workload.operation_count > 0);
        count += 1;
    }
    assert!(count >= 6, "{count} workloads");
}

#[test]
fn core_workloads_have_their_mix() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
    let zipfian = RequestDistribution::Zipfian;
    for (name, mix, distribution) in [
        ("workloada", [0.5, 0.5, 0.0, 0.0, 0.0], zipfian),
        ("workloadb", [0.95, 0.05, 0.0, 0.0, 0.0], zipfian),
        ("workloadc", [1.0, 0.0, 0.0, 0.0, 0.0], zipfian),
        ("workloadd", [0.95, 0.0, 0.05, 0.0, 0.0], RequestDistribution::Latest),
        ("workloade", [0.0, 0.0, 0.05, 0.95, 0.0], zipfian),
        ("workloadf", [0.5, 0.0, 0.0, 0.0, 0.5], zipfian),
    ] {
        let (workload, _) = Workload::load(&folder.join(name), &[]).unwrap();
        let shares = workload.proportions;
        let found =
            [shares.read, shares.update, shares.insert, shares.scan, shares.read_modify_write];
        assert_eq!(found, mix, "{name}");
        assert_eq!(workload.request_distribution, distribution, "{name}");
        assert_eq!((workload.record_count, workload.operation_count), (1000, 1000));
    }
    let (e, _) = Workload::load(&folder.join("workloade"), &[]).unwrap();
    assert_eq!(e.max_scan_length, 100);
}

#[test]
fn errors_name_file_line_and_property() {
    assert_eq!(
        error("recordcount=10\nfieldcount=many"),
        "w:2: fieldcount=many: expected a whole number from 1 to 4096"
    );
    assert!(error("recordcount=10\n\nrequestdistribution=zipf").starts_with(
        "w:3: requestdistribution=zipf: expected one of uniform, zipfian, zipfian-true, latest"
    ));
    assert!(error("recordcount=10\nreadallfields=yes").contains("w:2: readallfields=yes"));
    assert!(error("recordcount=10\nreadproportion=NaN").contains("w:2: readproportion"));
    assert!(error("recordcount=10\nreadproportion=-0.1").contains("w:2: readproportion"));
    assert!(error("recordcount=10\ninsertstart=8\ninsertcount=3").contains("w:3: insertcount"));
    assert!(error("recordcount=10\nfieldlength=5\nminfieldlength=6").contains("w:3: minfield"));
    assert!(error("recordcount=10\nworkload=my.Workload").contains("w:2: workload"));
    assert!(error("recordcount=1\nfieldlengthdistribution=pareto").contains("pareto.scale"));
    assert!(error("recordcount=1\ndistkv.compressible=1").contains("w:2: distkv.compressible"));
    assert!(error("recordcount=10\ndistkv.record=raw").contains("w:2: distkv.record"));
    assert!(error("fieldcount=1").contains("recordcount"));
    assert!(
        error("recordcount=1\nfieldlengthdistribution=pareto\ndistkv.pareto.head=.6,.5")
            .contains("w:3: distkv.pareto.head=.6,.5: expected the probabilities")
    );
}

#[test]
fn proportions_must_add_up() {
    let text = error("recordcount=10\nreadproportion=0.5\nupdateproportion=0.4");
    assert!(text.starts_with("w:3: updateproportion: the proportions add up to 0.9"), "{text}");
    // The default of update counts.
    assert!(error("recordcount=10\nreadproportion=1").starts_with("w:2: readproportion"));
    assert!(parse("recordcount=10\nreadproportion=0.5\nupdateproportion=0.5000009").is_ok());
    assert!(parse("recordcount=10\nreadproportion=0.5\nupdateproportion=0.500002").is_err());
    let mut properties = Properties::parse("w", "recordcount=10").unwrap();
    properties.set_override("scanproportion=.5").unwrap();
    let text = Workload::from_properties(&properties).unwrap_err().to_string();
    assert!(text.starts_with("command line (-p): scanproportion"), "{text}");
}

#[test]
fn unknown_properties_warn() {
    let (_, warnings) = parse("recordcount=10\ntable=t\nreadporportion=1").unwrap();
    let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "w:3: readporportion: unknown property, ignored",
            "w:2: table: a YCSB property without effect here"
        ]
    );
}

#[test]
fn field_length_histograms_are_read() {
    assert_eq!(parse_histogram("BlockSize\t10\n0\t5\n2\t7\n"), Some(vec![10, 5, 0, 7]));
    for bad in ["", "0\t5\n", "BlockSize\t0\n0\t1\n", "BlockSize\t10\n", "BlockSize\t10\n0\tx\n"] {
        assert_eq!(parse_histogram(bad), None, "{bad:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hist.txt"), "BlockSize\t10\n0\t5\n1\t1\n").unwrap();
    let file = folder.path().join("w");
    std::fs::write(&file, "recordcount=1\nfieldlengthdistribution=histogram\n").unwrap();
    let (workload, _) = Workload::load(&file, &[]).unwrap();
    assert_eq!(workload.field_bytes_max(), 20);
    let missing = ["fieldlengthhistogram=absent.txt".to_owned()];
    let text = Workload::load(&file, &missing).unwrap_err().to_string();
    assert!(text.contains("fieldlengthhistogram=absent.txt"), "{text}");
}

/// The production mixes against quantiles worked out from their published formulas by hand.
#[test]
fn production_mixes_have_their_published_sizes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
    for (name, read_share, quantiles) in [
        // ETC: .44155 of the sizes are below 15 bytes; above, x = 15 + 214.476/.348238·(p^-.348238 - 1)
        // with p = (1 - q)/.55845.
        ("etc", 0.967_741_9, [(0.1, 2), (0.3, 5), (0.5, 39), (0.9, 520), (0.99, 1899)]),
        // ZippyDB: x = 25.45/.2615·((1 - q)^-.2615 - 1).
        ("zippydb", 0.83, [(0.1, 2), (0.3, 9), (0.5, 19), (0.9, 80), (0.99, 227)]),
    ] {
        let (workload, _) = Workload::load(&folder.join(name), &[]).unwrap();
        assert_eq!(workload.proportions.read, read_share, "{name}");
        let lengths = workload.field_length_pareto.as_ref().unwrap();
        let mut rng = crate::rng::Rng::new(5);
        let mut drawn: Vec<u64> = (0..200_000).map(|_| lengths.next(&mut rng)).collect();
        drawn.sort_unstable();
        for (quantile, expected) in quantiles {
            let found = drawn[(quantile * drawn.len() as f64) as usize] as f64;
            let bound = 1.0 + 0.03 * f64::from(expected);
            assert!((found - f64::from(expected)).abs() <= bound, "{name} {quantile}: {found}");
        }
    }
}
