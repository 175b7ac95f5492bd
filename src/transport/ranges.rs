//! A set of `u64` kept as sorted, disjoint, half-open ranges: packet numbers, message ids, bytes.
//!
//! It does not bound itself: owners cap [`RangeSet::range_count`]. Invariant: ranges are non-empty,
//! ascending, and never touch. Appending at the end, the common case, is O(1).

use std::collections::VecDeque;

/// Sorted, disjoint, half-open ranges.
#[derive(Clone, Debug, Default)]
pub(super) struct RangeSet {
    ranges: VecDeque<(u64, u64)>,
}

impl RangeSet {
    /// Adds `start..end`; returns how many of its members were new.
    pub fn insert(&mut self, start: u64, end: u64) -> u64 {
        if start >= end {
            return 0;
        }
        match self.ranges.back_mut() {
            None => {
                self.ranges.push_back((start, end));
                return end - start;
            }
            Some(last) if start > last.1 => {
                self.ranges.push_back((start, end));
                return end - start;
            }
            Some(last) if start >= last.0 => {
                let fresh = end.saturating_sub(last.1);
                last.1 = last.1.max(end);
                return fresh;
            }
            Some(_) => {}
        }
        self.insert_inside(start, end)
    }

    /// True when `value` is a member.
    pub fn contains(&self, value: u64) -> bool {
        match self.ranges.back() {
            None => false,
            Some(last) if value >= last.0 => value < last.1,
            Some(_) => {
                let at = self.ranges.partition_point(|range| range.1 <= value);
                self.ranges.get(at).is_some_and(|range| range.0 <= value)
            }
        }
    }

    /// True when all of the non-empty `start..end` are members.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 <= start);
        self.ranges.get(at).is_some_and(|range| range.0 <= start && end <= range.1)
    }

    /// True when inserting `start..end` would add a range: it neither meets nor touches any.
    pub fn would_add_range(&self, start: u64, end: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < start);
        self.ranges.get(at).is_none_or(|range| range.0 > end)
    }

    /// Removes the lowest range and returns its end.
    pub fn pop_lowest(&mut self) -> Option<u64> {
        self.ranges.pop_front().map(|range| range.1)
    }

    /// Ranges from the highest down.
    pub fn descending(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().rev().copied()
    }

    /// The highest member plus one, or `None` when empty.
    pub fn end(&self) -> Option<u64> {
        self.ranges.back().map(|range| range.1)
    }

    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    pub fn check_invariants(&self) {
        let mut previous_end = None;
        for &(start, end) in &self.ranges {
            assert!(start < end, "empty range {start}..{end}");
            assert!(previous_end.is_none_or(|p| p < start), "ranges touch at {start}");
            previous_end = Some(end);
        }
    }

    fn insert_inside(&mut self, start: u64, end: u64) -> u64 {
        // First range that touches or follows `start..end`.
        let first = self.ranges.partition_point(|range| range.1 < start);
        let mut last = first;
        let (mut low, mut high, mut covered) = (start, end, 0);
        while let Some(&(s, e)) = self.ranges.get(last) {
            if s > end {
                break;
            }
            covered += e.min(end).saturating_sub(s.max(start));
            low = low.min(s);
            high = high.max(e);
            last += 1;
        }
        if first == last {
            self.ranges.insert(first, (low, high));
        } else {
            self.ranges[first] = (low, high);
            self.ranges.drain(first + 1..last);
        }
        end - start - covered
    }
}

#[cfg(test)]
mod tests {
    use super::RangeSet;
    use crate::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_plain_set() {
        let mut rng = Rng::new(7);
        for _ in 0..300 {
            let (mut set, mut twin) = (RangeSet::default(), BTreeSet::new());
            for _ in 0..60 {
                let start = rng.below(100);
                let end = start + rng.below(12);
                let adds = set.would_add_range(start, end);
                let ranges_before = set.range_count();
                let fresh = (start..end).filter(|value| twin.insert(*value)).count() as u64;
                assert_eq!(set.insert(start, end), fresh);
                set.check_invariants();
                if start < end {
                    assert_eq!(adds, set.range_count() > ranges_before);
                    assert!(set.covers(start, end));
                    assert!(!set.covers(start, 200));
                }
                for value in 0..115 {
                    assert_eq!(set.contains(value), twin.contains(&value));
                }
                assert_eq!(set.end(), twin.last().map(|last| last + 1));
            }
        }
    }
}
