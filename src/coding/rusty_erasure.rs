//! `rusty_erasure`: GF(2^8) by vector instructions, with a Cauchy matrix (every pattern decodes).

use super::coder::ErasureCode;
use crate::types::{Code, ShardSet};
use rusty_erasure::{Coder, DecodePlan, Matrix};
use std::collections::BTreeMap;
use std::fmt;

pub(super) struct Library {
    coder: Coder,
    /// By shards present and shards lost.
    plans: BTreeMap<(ShardSet, ShardSet), DecodePlan>,
}

impl Library {
    pub(super) fn new(code: Code) -> Self {
        let matrix = Matrix::cauchy(usize::from(code.k()), usize::from(code.m()))
            .expect("1 <= k, 1 <= m and k + m <= 32 are within the library's range");
        let coder = rusty_erasure::coder(matrix).expect("a Cauchy matrix is a systematic one");
        Self { coder, plans: BTreeMap::new() }
    }
}

impl ErasureCode for Library {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.coder.encode(data, parity).expect("counts and lengths are those of the code");
    }

    fn recover(&mut self, present: &[Option<&[u8]>], lost: ShardSet, out: &mut [&mut [u8]]) {
        let held: ShardSet =
            (0_u8..).zip(present).filter(|(_, p)| p.is_some()).map(|(index, _)| index).collect();
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        let coder = &self.coder;
        let plan = self.plans.entry((held, lost)).or_insert_with(|| {
            let present: Vec<bool> = present.iter().map(Option::is_some).collect();
            let lost: Vec<usize> = lost.iter().map(usize::from).collect();
            coder.decode_plan(&present, &lost).expect("k shards of a Cauchy code always decode")
        });
        coder.recover_with(plan, present, out).expect("counts and lengths are those of the plan");
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("rusty_erasure").field("plans", &self.plans.len()).finish()
    }
}

/// Inverted matrices kept: more patterns than a cluster shows while it is alive.
const PLANS_MAX: usize = 256;
