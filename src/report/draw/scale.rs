//! Scales and ticks of our own: the plotting library's clip end labels and drop the lowest label of
//! a log axis.

/// A linear axis, a logarithmic one, or one logarithmic down to its least positive value with a
/// step of its own for 0.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    pub log: bool,
    /// Where 0 lies, on a log axis that has a 0 as well.
    zero_at: Option<f64>,
}

/// A labelled place.
pub(super) type Tick = (f64, String);

/// An axis without its place on the sheet.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub scale: Scale,
    pub ticks: Vec<Tick>,
    pub label: String,
    /// Names of categories, and no numbers.
    pub is_named: bool,
}

impl Scale {
    /// Logarithmic where the range spans a decade and a half.
    pub fn of(values: &[f64], from_zero: bool) -> Self {
        let positive = values.iter().copied().filter(|value| *value > 0.0);
        let low = positive.clone().fold(f64::INFINITY, f64::min);
        let high = positive.fold(0.0_f64, f64::max);
        if high <= 0.0 || high / low < 30.0 {
            return Self::linear(values, from_zero);
        }
        let has_zero = values.iter().any(|value| *value <= 0.0);
        let (low, high) = (low.log10(), high.log10());
        let margin = 0.05 * (high - low);
        // One step of its own to the left, for the 0.
        let zero_at = has_zero.then_some(low - 0.2 * (high - low));
        Self { low: zero_at.unwrap_or(low) - margin, high: high + margin, log: true, zero_at }
    }

    /// Linear, with room at its ends (none below 0).
    pub fn linear(values: &[f64], from_zero: bool) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = if from_zero { low.min(0.0) } else { low };
        let span = if high > low { high - low } else { high.abs().max(1.0) };
        let below = if from_zero { 0.0 } else { 0.06 * span };
        Self { low: low - below, high: high + 0.06 * span, log: false, zero_at: None }
    }

    /// Linear between exactly these.
    pub fn between(low: f64, high: f64) -> Self {
        Self { low, high, log: false, zero_at: None }
    }

    /// A place for each of `count` names.
    pub fn names(count: usize) -> Self {
        Self::between(-0.5, count as f64 - 0.5)
    }

    /// 0 at the lower end, 1 at the upper.
    pub fn share(&self, value: f64) -> f64 {
        let at = match (self.log, self.zero_at) {
            (true, Some(zero)) if value <= 0.0 => zero,
            (true, _) => value.max(1e-12).log10(),
            (false, _) => value,
        };
        (at - self.low) / (self.high - self.low)
    }

    /// The value that bars start at.
    pub fn floor(&self) -> f64 {
        if self.log { 10_f64.powf(self.low) } else { self.low.max(0.0) }
    }

    /// Values to label, about `wanted` of them.
    pub fn ticks(&self, wanted: u32) -> Vec<Tick> {
        let values =
            if self.log { self.log_ticks() } else { linear_ticks(self.low, self.high, wanted) };
        values.into_iter().map(|value| (value, tick_text(value))).collect()
    }

    /// Values to mark without a label: the digits between decades.
    pub fn minor_ticks(&self) -> Vec<f64> {
        if !self.log {
            return Vec::new();
        }
        let least = self.zero_at.map_or(self.low, |zero| zero + 0.15 * (self.high - self.low));
        let mut found = Vec::new();
        let mut exponent = self.low.floor();
        while exponent <= self.high {
            let all = (2..10).map(|digit| f64::from(digit) * 10_f64.powf(exponent));
            found.extend(all.filter(|value| (least..=self.high).contains(&value.log10())));
            exponent += 1.0;
        }
        found
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = self.high - self.low;
        let factors: &[f64] = if decades < 1.7 {
            &[1.0, 2.0, 5.0]
        } else if decades < 2.6 {
            &[1.0, 3.0]
        } else {
            &[1.0]
        };
        let mut ticks: Vec<f64> = self.zero_at.map(|_| 0.0).into_iter().collect();
        let least = self.zero_at.map_or(self.low, |zero| zero + 0.1 * decades);
        let stride = if decades > 6.5 { 2.0 } else { 1.0 };
        let mut exponent = self.low.floor();
        while exponent <= self.high {
            let all = factors.iter().map(|factor| factor * 10_f64.powf(exponent));
            ticks.extend(all.filter(|tick| (least..=self.high).contains(&tick.log10())));
            exponent += stride;
        }
        ticks
    }
}

fn linear_ticks(low: f64, high: f64, wanted: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(wanted);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let mut index = (low / step).ceil();
    let mut ticks = Vec::new();
    while index * step <= high + step * 1e-9 {
        ticks.push(index * step);
        index += 1.0;
    }
    ticks
}

/// A number on an axis: `0.5`, `12k`, `3M`.
pub(super) fn tick_text(value: f64) -> String {
    if value.abs() >= 1e6 {
        return format!("{}M", short(value / 1e6));
    }
    if value.abs() >= 1e4 { format!("{}k", short(value / 1e3)) } else { short(value) }
}

fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.ticks(5).into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn a_range_over_decades_is_logarithmic_and_keeps_its_zero() {
        let scale = Scale::of(&[0.0, 0.1, 20.0], false);
        assert!(scale.log);
        assert_eq!(texts(&scale), ["0", "0.1", "1", "10"]);
        assert!(scale.share(0.0) > 0.0 && scale.share(0.0) < scale.share(0.1));
        assert!(scale.minor_ticks().iter().all(|minor| *minor > 0.1));
    }

    #[test]
    fn a_narrow_range_is_linear_from_zero() {
        let scale = Scale::of(&[900.0, 1500.0], true);
        assert!(!scale.log);
        assert_eq!(texts(&scale), ["0", "500", "1000", "1500"]);
        assert_eq!((scale.floor(), scale.share(0.0)), (0.0, 0.0));
    }

    #[test]
    fn every_value_lies_inside() {
        for values in [vec![3.0], vec![0.0], vec![1.0, 1e7], vec![-1.0, 2.0], vec![5.0, 5.0]] {
            for from_zero in [false, true] {
                let scale = Scale::of(&values, from_zero);
                for value in &values {
                    assert!((0.0..=1.0).contains(&scale.share(*value)), "{values:?}");
                }
                assert!(!scale.ticks(5).is_empty(), "{values:?}");
            }
        }
    }
}
