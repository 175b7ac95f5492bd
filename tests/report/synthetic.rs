//! Plausible results of made-up experiments: every kind of figure, coding that gains with size,
//! noise by repeat, errors at high loss, a simulated twin, single trials.

use distkv::experiment::TrialConfig;
use distkv::experiment::spec::Experiment;
use distkv::experiment::trial::{Trial, TrialKind};
use distkv::report::quantity;
use distkv::report::result::{
    CodecResult, LatencySummary, NodeResources, PhaseResult, Provenance, SCHEMA_VERSION,
    TimelineEvent, TimelinePoint, TrialResult,
};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

const GALLERY: [(&str, &str); 8] = [
    ("g-size.toml", include_str!("gallery/size.toml")),
    ("g-surface.toml", include_str!("gallery/surface.toml")),
    ("g-bars.toml", include_str!("gallery/bars.toml")),
    ("g-stages.toml", include_str!("gallery/stages.toml")),
    ("g-failure.toml", include_str!("gallery/failure.toml")),
    ("g-storage.toml", include_str!("gallery/storage.toml")),
    ("g-loss.toml", include_str!("gallery/loss.toml")),
    ("g-codec.toml", include_str!("gallery/codec.toml")),
];

/// The made-up experiments with one figure of every kind at least, and their results.
pub fn gallery() -> (Vec<Experiment>, Vec<TrialResult>) {
    let parsed = |(file, text): &(&str, &str)| Experiment::parse(file, text).unwrap();
    let experiments: Vec<Experiment> = GALLERY.iter().map(parsed).collect();
    let mut results = results_of(&experiments);
    // What is simulated lies beside what is measured, a little off.
    let of_size = |result: &&TrialResult| {
        result.trial.experiment == "G-size" && result.trial.config.policy == "craft"
    };
    let twins: Vec<TrialResult> = results.iter().filter(of_size).cloned().map(simulated).collect();
    results.extend(twins);
    let mut invalid = results[0].clone();
    invalid.invalid_reasons = vec!["the generator was late: p99 of lag 4.1 ms".to_owned()];
    invalid.trial.repeat = 77;
    invalid.id = invalid.trial.id();
    results.push(invalid);
    (experiments, results)
}

/// The experiments that come with the program, under `profile`, and results for them.
pub fn built_in(profile: &str) -> (Vec<Experiment>, Vec<TrialResult>) {
    let all = Experiment::built_in().unwrap().into_iter();
    let experiments: Vec<Experiment> =
        all.map(|experiment| experiment.under_profile(profile).unwrap()).collect();
    let results = results_of(&experiments);
    (experiments, results)
}

fn results_of(experiments: &[Experiment]) -> Vec<TrialResult> {
    let trials = experiments.iter().flat_map(|experiment| experiment.trials(1).unwrap());
    trials.map(result).collect()
}

fn simulated(mut result: TrialResult) -> TrialResult {
    result.provenance.simulated = true;
    result.trial.config.seed += 1;
    result.id = result.trial.id();
    for phase in &mut result.phases {
        phase.throughput_ops_per_s *= 1.08;
    }
    result
}

fn result(trial: Trial) -> TrialResult {
    let config = &trial.config;
    let drift = 1.0 + 0.04 * f64::from(trial.repeat % 5);
    let own: u32 =
        trial.config.policy.bytes().chain(trial.config.backend.bytes()).map(u32::from).sum();
    let noise = drift * (1.0 + 0.03 * f64::from((trial.repeat * own) % 7));
    let mut result = TrialResult {
        schema_version: SCHEMA_VERSION,
        id: trial.id(),
        provenance: provenance(config),
        phases: Vec::new(),
        codec: None,
        invalid_reasons: Vec::new(),
        shared_with: None,
        trial: trial.clone(),
    };
    if config.kind == TrialKind::Codec {
        let base = if config.backend == "reed-solomon-simd" { 3.0 } else { 1.2 };
        let speed = base * noise / (1.0 + 9000.0 / config.value_bytes as f64);
        result.codec = Some(CodecResult {
            encode_gb_per_s: speed,
            decode_gb_per_s: speed * 0.8,
            encodes: 100,
            decodes: 100,
        });
    } else {
        result.phases = vec![phase("load", config, noise), phase("run", config, noise)];
    }
    result
}

fn provenance(config: &TrialConfig) -> Provenance {
    Provenance {
        commit: "0123abc".to_owned(),
        cpu_model: "Synthetic CPU & Co <test>".to_owned(),
        cores: 2,
        memory_bytes: 8 << 30,
        kernel: "6.1".to_owned(),
        durability: config.durability.clone(),
        shared_machine: true,
        started_at: "2026-01-02T03:04:05Z".to_owned(),
        ..Provenance::default()
    }
}

fn phase(name: &str, config: &TrialConfig, noise: f64) -> PhaseResult {
    let code = config.parsed_code().unwrap();
    let (n, k) = (f64::from(code.n()), f64::from(code.k()));
    let bytes_per_us = if config.rate_mbit > 0.0 { config.rate_mbit / 8.0 } else { 800.0 };
    let wire_us = config.value_bytes as f64 * (n - 1.0) / k / bytes_per_us;
    let overhead_us = 700.0 + if k > 1.0 { 900.0 } else { 0.0 };
    let loss = 1.0 + config.loss_percent / 4.0;
    let us = (overhead_us + wire_us * f64::from(config.clients)) * loss * noise;
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for index in 0..1000_u64 {
        histogram.record((us + us * (index * index) as f64 / 300_000.0) as u64).unwrap();
    }
    let latency = LatencySummary::of(&histogram).unwrap();
    let live = config.value_bytes * config.records;
    let node = |node: u32| NodeResources {
        role: quantity::NODE.to_owned(),
        node,
        leader: node == 0,
        cpu_seconds: 0.4,
        bytes_sent: (1000.0 * config.value_bytes as f64 * n / k / 4.0) as u64,
        bytes_retransmitted: (1000.0 * config.value_bytes as f64 * config.loss_percent / 400.0 / k)
            as u64,
        payload_bytes: live / u64::from(code.k()),
        record_bytes: live / u64::from(code.k()) + 150 * config.records,
        allocated_bytes: live / u64::from(code.k()) + 4096 * 16,
        ..NodeResources::default()
    };
    let throughput = f64::from(config.clients) * 1e6 / us;
    PhaseResult {
        name: name.to_owned(),
        seconds: 1.5,
        operations: 1000,
        throughput_ops_per_s: throughput,
        user_bytes_written: 1000 * config.value_bytes,
        live_user_bytes: live,
        timeouts: if config.loss_percent > 10.0 { 100 } else { 0 },
        latency: [quantity::PUT, quantity::GET, quantity::SCAN, quantity::RMW]
            .map(|kind| (kind.to_owned(), latency.clone()))
            .into(),
        nodes: (0..u32::from(config.nodes)).map(node).collect(),
        timeline: timeline(throughput, us),
        events: events(config),
        samples: samples(k, noise),
        numbers: stages(us, wire_us, k),
        ..PhaseResult::default()
    }
}

/// Down for a second at 3 s, slower after 7 s.
fn timeline(throughput: f64, us: f64) -> Vec<TimelinePoint> {
    let point = |index: u64| {
        let at_ms = index * 250;
        let share = match at_ms {
            3000..=3999 => 0.0,
            7000.. => 0.4,
            _ => 0.9 + 0.02 * (index % 7) as f64,
        };
        let operations = (throughput / 4.0 * share) as u64;
        let p50_us = if operations == 0 { 0 } else { (us / share) as u64 };
        TimelinePoint {
            at_ms,
            interval_ms: 250,
            operations: [(quantity::PUT.to_owned(), operations)].into(),
            errors: u64::from(operations == 0),
            p50_us,
            p99_us: 4 * p50_us,
            ..TimelinePoint::default()
        }
    };
    (0..40).map(point).collect()
}

/// Two events, or as many as no label has room for.
fn events(config: &TrialConfig) -> Vec<TimelineEvent> {
    let event = |at_ms, name: &str| TimelineEvent { at_ms, name: name.to_owned() };
    if config.records == 999 {
        let all =
            (1..=9_u64).map(|index| event(900 * index, &format!("rate {} Mbit/s", 50 * index)));
        return all.collect();
    }
    vec![event(3000, "kill leader"), event(3600, "restart n0"), event(7000, "rate 50 Mbit/s")]
}

fn samples(k: f64, noise: f64) -> BTreeMap<String, Vec<f64>> {
    let values = (0..30).map(|index| 400.0 * noise + 60.0 * k + 9.0 * f64::from(index % 13));
    let values: Vec<f64> = values.collect();
    let times = [quantity::FIRST_COMMIT_MS, quantity::NEW_LEADER_MS, quantity::FIRST_READ_MS];
    let others = [quantity::HEAL_MS, quantity::STALENESS_MS, quantity::REPAIR_SECONDS];
    let all = times.into_iter().chain(others).chain([quantity::REPAIR_BYTES]);
    all.map(|name| (name.to_owned(), values.clone())).collect()
}

fn stages(us: f64, wire_us: f64, k: f64) -> BTreeMap<String, f64> {
    let encode = if k > 1.0 { 140.0 } else { 0.0 };
    let parts = [0.2 * us, encode, wire_us, 300.0, 0.5 * us, 20.0];
    let stages = quantity::STAGES.iter().zip(parts);
    let availability = (quantity::AVAILABILITY.to_owned(), 0.97);
    let capacity = (quantity::CAPACITY_OPS_PER_S.to_owned(), 4e6 / us);
    let stages = stages.map(|(name, value)| ((*name).to_owned(), value));
    let stale = (quantity::STALE_SHARE.to_owned(), 0.01 * k);
    let decode = (quantity::STAGE_DECODE_US.to_owned(), 1.0 + encode / 2.0);
    stages.chain([availability, capacity, decode, stale]).collect()
}
