//! What figures say of trials that are missing, failed, or were disturbed.

use super::*;
use crate::experiment::TrialConfig;
use crate::report::caption::note;
use crate::report::quantity;
use crate::report::remarks;
use crate::report::result::TrialResult;
use crate::report::result::tests::sample;
use crate::report::table::Table;

fn experiment(figure: &str) -> Experiment {
    let text = format!(
        "id = \"X\"\ntitle = \"t\"\nclaim = \"c\"\nbaseline = \"replicate\"\nrepeats = 2\n[fixed]\n\
         nodes = 5\n[axes]\npolicy = [\"replicate\", \"craft\"]\n[[figures]]\nid = \"x\"\n\
         title = \"x\"\nseries = [\"policy\"]\n{figure}\n"
    );
    Experiment::parse("x.toml", &text).unwrap()
}

fn results(at: &[(u64, f64)]) -> Vec<TrialResult> {
    let mut all = Vec::new();
    for (value_bytes, rate_mbit) in at {
        for (policy, us) in [("replicate", 1000), ("craft", 500)] {
            for repeat in 0..2_u32 {
                let config = TrialConfig {
                    policy: policy.to_owned(),
                    value_bytes: *value_bytes,
                    rate_mbit: *rate_mbit,
                    seed: u64::from(repeat),
                    ..TrialConfig::default()
                };
                all.push(sample("X", repeat, config, us + u64::from(repeat)));
            }
        }
    }
    all
}

fn figure(experiment: &Experiment, results: &[TrialResult]) -> FigureData {
    let rows: Vec<Row<'_>> = results.iter().map(Row::of).collect();
    FigureData::of(experiment, &experiment.figures[0], &rows).unwrap().unwrap()
}

#[test]
fn a_missing_cell_of_a_surface_is_named_by_both_axes() {
    let experiment = experiment(
        "kind = \"surface\"\nx = \"value_bytes\"\ny_axis = \"rate_mbit\"\ny = \"throughput\"",
    );
    let mut all = results(&[(1024, 10.0), (1024, 100.0), (4096, 10.0), (4096, 100.0)]);
    let is_it = |result: &TrialResult| {
        let config = &result.trial.config;
        config.policy == "craft" && config.value_bytes == 1024 && config.rate_mbit > 50.0
    };
    for result in all.iter_mut().filter(|result| is_it(result)) {
        result.invalid_reasons = vec!["the generator was late".to_owned()];
    }
    let data = figure(&experiment, &all);
    assert_eq!(data.absent, ["craft at 1 KiB and 100 Mbit/s"]);
    assert!(note(&data).contains("no valid trial: craft at 1 KiB and 100 Mbit/s"));
}

#[test]
fn what_was_not_served_is_hollow_and_what_disturbed_a_trial_is_said() {
    let experiment = experiment("x = \"value_bytes\"\ny = \"throughput\"");
    let mut all = results(&[(1024, 0.0), (4096, 0.0), (16384, 0.0)]);
    for result in all.iter_mut().filter(|result| result.trial.config.policy == "craft") {
        let run = &mut result.phases[1];
        match (result.trial.config.value_bytes, result.trial.repeat) {
            // It served nothing: a store that failed, and a trial that counts.
            (1024, _) => (run.operations, run.throughput_ops_per_s) = (0, 0.0),
            (4096, 1) => run.not_started = 1,
            (16384, 1) => {
                run.numbers.insert(quantity::UNPLANNED_ELECTIONS.to_owned(), 2.0);
            }
            _ => {}
        }
    }
    let data = figure(&experiment, &all);
    let Plot::Points(points) = &data.plot else { panic!("{:?}", data.plot) };
    let craft = points.series.iter().find(|line| line.name == "craft").unwrap();
    let seen: Vec<_> = craft.points.iter().map(|at| (at.hollow, at.notes.clone())).collect();
    let expected = [
        (true, vec![ERRORS]),
        (true, vec![remarks::NOT_STARTED]),
        (false, vec![remarks::ELECTION]),
    ];
    assert_eq!(seen, expected);
    assert!(craft.points[0].y.median.abs() < 1e-9, "no throughput is drawn as none");
    let said = note(&data);
    assert!(said.contains("hollow: errors > 1 % or operations not started"), "{said}");
    assert!(said.contains("unplanned election in one trial"), "{said}");
    assert!(Table::of(&data).csv().contains("unplanned election"));
}

#[test]
fn an_interval_of_capacities_has_the_bracket_of_each_search_in_it() {
    let experiment = experiment("x = \"value_bytes\"\ny = \"capacity_ops_per_s\"");
    let mut all = results(&[(1024, 0.0)]);
    for result in &mut all {
        let held = if result.trial.config.policy == "craft" { 200.0 } else { 100.0 };
        let numbers = &mut result.phases[1].numbers;
        numbers.insert(quantity::CAPACITY_OPS_PER_S.to_owned(), held);
        numbers.insert(quantity::CAPACITY_ABOVE_OPS_PER_S.to_owned(), held * 1.04);
    }
    let data = figure(&experiment, &all);
    let Plot::Points(points) = &data.plot else { panic!("{:?}", data.plot) };
    let is_near = |one: f64, other: f64| (one / other - 1.0).abs() < 1e-9;
    for line in &points.series {
        let held = if line.name == "craft" { 200.0 } else { 100.0 };
        let y = line.points[0].y;
        assert!(is_near(y.median, held * 1.04_f64.sqrt()), "the middle: {y:?}");
        assert!(is_near(y.low.unwrap(), held) && is_near(y.high.unwrap(), held * 1.04), "{y:?}");
    }
    // Of a ratio both may be off.
    let ratio = data.ratios[0].ratio;
    assert!(is_near(ratio.median, 2.0) && is_near(ratio.high.unwrap(), 2.0 * 1.04), "{ratio:?}");
}
