//! Recent values of a node, decoded, within a bound in bytes. The least recently used goes first.

use crate::types::{Bytes, Slot};
use std::collections::BTreeMap;

/// Values by the slot that wrote them.
#[derive(Debug)]
pub(super) struct Cache {
    max_bytes: usize,
    bytes: usize,
    values: BTreeMap<Slot, (u64, Bytes)>,
    by_use: BTreeMap<u64, Slot>,
    uses: u64,
    hits: u64,
    misses: u64,
}

impl Cache {
    pub(super) const fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            values: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            hits: 0,
            misses: 0,
        }
    }

    pub(super) fn insert(&mut self, slot: Slot, value: Bytes) {
        if charge(&value) > self.max_bytes {
            return;
        }
        self.remove(slot);
        self.bytes += charge(&value);
        self.uses += 1;
        self.values.insert(slot, (self.uses, value));
        self.by_use.insert(self.uses, slot);
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((_, value)) = self.values.remove(&oldest) {
                self.bytes -= charge(&value);
            }
        }
    }

    pub(super) fn find(&mut self, slot: Slot) -> Option<Bytes> {
        let Some((used, value)) = self.values.get_mut(&slot) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.uses += 1;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, slot);
        Some(value.clone())
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some((used, value)) = self.values.remove(&slot) {
            self.by_use.remove(&used);
            self.bytes -= charge(&value);
        }
    }

    /// Hits and misses since the start.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    pub(super) fn check_invariants(&self) {
        let bytes: usize = self.values.values().map(|(_, value)| charge(value)).sum();
        assert_eq!(bytes, self.bytes, "cached bytes");
        assert!(self.bytes <= self.max_bytes, "cache over its bound");
        assert_eq!(self.values.len(), self.by_use.len(), "cache order");
    }
}

/// What a value costs: its bytes and its places in two trees.
fn charge(value: &Bytes) -> usize {
    value.len() + ENTRY_BYTES
}

const ENTRY_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::new(2 * (100 + ENTRY_BYTES));
        let value = Bytes::from(vec![1; 100]);
        cache.insert(Slot(1), value.clone());
        cache.insert(Slot(2), value.clone());
        assert!(cache.find(Slot(1)).is_some());
        cache.insert(Slot(3), value);
        cache.check_invariants();
        assert!(cache.find(Slot(2)).is_none());
        assert!(cache.find(Slot(1)).is_some() && cache.find(Slot(3)).is_some());
        cache.insert(Slot(4), Bytes::from(vec![1; 1000]));
        assert!(cache.find(Slot(4)).is_none());
        assert_eq!(cache.counts(), (3, 2));
    }
}
