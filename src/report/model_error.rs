//! How far simulated trials are from measured ones, by regime: where the link decides, and where the
//! CPU does. One number for both would be true of neither.

use super::metric::Metric;
use super::result::TrialResult;
use super::stats::median;
use crate::experiment::TrialConfig;
use crate::experiment::trial::TrialTarget;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const REGIMES: [&str; 2] = ["over emulated links", "on bare loopback"];

/// What trials that were simulated and measured say of the simulation, as a paragraph; empty when
/// nothing was simulated.
pub(super) fn paragraph(results: &[TrialResult]) -> String {
    if !results.iter().any(|result| result.provenance.simulated) {
        return String::new();
    }
    let mut said = Vec::new();
    for (regime, ratios) in REGIMES.into_iter().zip(ratios(results)) {
        let low = ratios.iter().copied().reduce(f64::min);
        let high = ratios.iter().copied().reduce(f64::max);
        if let (Some(low), Some(middle), Some(high)) = (low, median(&ratios), high) {
            let mut text = String::new();
            let _ = write!(
                text,
                "{regime} {middle:.2}x ({low:.2} to {high:.2}, {} points)",
                ratios.len()
            );
            said.push(text);
        }
    }
    let model = if said.is_empty() {
        "no point of this run was measured, too".to_owned()
    } else {
        format!(
            "at points that were measured, too, its throughput is {} of theirs",
            said.join(", ")
        )
    };
    format!(
        "\nSimulation: {model}. Intervals of simulated points are over seeds alone: \
         they do not hold that error.\n"
    )
}

/// Simulated over measured median throughput, of each point that has both; by regime.
fn ratios(results: &[TrialResult]) -> [Vec<f64>; 2] {
    let mut points: BTreeMap<String, (usize, [Vec<f64>; 2])> = BTreeMap::new();
    for result in results.iter().filter(|result| result.is_valid()) {
        let Some(value) = Metric::Throughput.of(result) else { continue };
        let config = &result.trial.config;
        let is_linked =
            config.rate_mbit > 0.0 || config.delay_ms > 0.0 || config.loss_percent > 0.0;
        let target = TrialTarget::Processes;
        let same = TrialConfig { seed: 0, target, costs: None, ..config.clone() };
        let Ok(point) = serde_json::to_string(&same) else { continue };
        let point = points.entry(result.trial.experiment.clone() + &point);
        let (_, values) = point.or_insert_with(|| (usize::from(!is_linked), Default::default()));
        values[usize::from(config.target == TrialTarget::Sim)].push(value);
    }
    let mut found: [Vec<f64>; 2] = Default::default();
    for (regime, [measured, simulated]) in points.into_values() {
        if let (Some(measured), Some(simulated)) = (median(&measured), median(&simulated))
            && measured > 0.0
        {
            found[regime].push(simulated / measured);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::tests::sample;
    use crate::sim::timed::Costs;

    #[test]
    fn how_far_simulation_is_off_is_said_by_regime() {
        let of = |target: TrialTarget, rate_mbit: f64, bytes: u64, us: u64| {
            let config =
                TrialConfig { target, rate_mbit, value_bytes: bytes, ..TrialConfig::default() };
            // As they are written down: simulated trials name their costs.
            let costs = (target == TrialTarget::Sim).then(Costs::default);
            let mut result = sample("S1", 0, TrialConfig { costs, ..config }, us);
            result.provenance.simulated = target == TrialTarget::Sim;
            result
        };
        let (sim, real) = (TrialTarget::Sim, TrialTarget::Processes);
        let mut results = vec![of(real, 0.0, 1000, 1000), of(real, 200.0, 1000, 1000)];
        assert_eq!(paragraph(&results), "");
        results.push(of(sim, 0.0, 4000, 1000));
        assert!(paragraph(&results).contains("no point of this run was measured, too"));
        results.extend([of(sim, 0.0, 1000, 500), of(sim, 200.0, 1000, 1000)]);
        results.extend([of(real, 200.0, 4000, 1000), of(sim, 200.0, 4000, 2000)]);
        let ratio = |faster: &TrialResult, slower: &TrialResult| {
            Metric::Throughput.of(faster).unwrap() / Metric::Throughput.of(slower).unwrap()
        };
        let [linked, bare] = ratios(&results);
        assert_eq!(bare, [ratio(&results[3], &results[0])]);
        assert_eq!(linked.len(), 2);
        let text = paragraph(&results);
        assert!(text.contains("over emulated links") && text.contains("2 points"), "{text}");
        assert!(text.contains("on bare loopback") && text.contains("1 points"), "{text}");
    }
}
