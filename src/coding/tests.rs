//! Known answers, random erasures, every error.

use super::{Backend, Coder, CodingError};
use crate::rng::Rng;
use crate::types::{Bytes, Code, Shard, ShardSet};
use xxhash_rust::xxh3::xxh3_64;

fn payload(bytes: usize, seed: u64) -> Bytes {
    let mut contents = vec![0; bytes];
    Rng::new(seed).fill(&mut contents);
    contents.into()
}

fn shuffled(mut shards: Vec<Shard>, rng: &mut Rng) -> Vec<Shard> {
    for at in (1..shards.len()).rev() {
        let other = usize::try_from(rng.below(at as u64 + 1)).unwrap();
        shards.swap(at, other);
    }
    shards
}

#[test]
fn known_answers_never_change() {
    // The bytes rest on disks: a library that calculates others must not be taken in silently.
    let payload: Bytes = (0..=254_u8).collect::<Vec<u8>>().into();
    let golden = [
        (Backend::ReedSolomonErasure, [GOLDEN[0], GOLDEN[1]]),
        (Backend::ReedSolomonSimd, [GOLDEN[2], GOLDEN[3]]),
        (Backend::RustyErasure, [GOLDEN[4], GOLDEN[5]]),
    ];
    for (backend, expected) in golden {
        let digest = |k, m| {
            let shards = Coder::new(backend, Code::new(k, m).unwrap()).encode(&payload);
            xxh3_64(&shards.iter().map(|shard| shard.bytes.as_ref()).collect::<Vec<_>>().concat())
        };
        assert_eq!([digest(3, 2), digest(10, 4)], expected, "{backend}");
    }
}

#[test]
fn any_k_shards_in_any_order_rebuild_the_payload() {
    let mut rng = Rng::new(5);
    for backend in Backend::ALL {
        for round in 0..300_u64 {
            let k = u8::try_from(rng.range(1, 20)).unwrap();
            let m = u8::try_from(rng.range(0, 12)).unwrap();
            let code = Code::new(k, m).unwrap();
            let k_bytes = u64::from(k);
            let sizes = [0, 1, k_bytes - 1, k_bytes, k_bytes + 1, 2 * k_bytes + 1, 999, 5000];
            let bytes = sizes[usize::try_from(round % 8).unwrap()];
            let payload = payload(usize::try_from(bytes).unwrap(), round);
            let mut coder = Coder::new(backend, code);
            let shards = coder.encode(&payload);
            assert_eq!(shards.len(), usize::from(code.n()));
            let mut some = shuffled(shards.clone(), &mut rng);
            let extra = usize::try_from(rng.below(u64::from(m) + 1)).unwrap();
            some.truncate(usize::from(k) + extra);
            let context = format!("{backend} {code} {bytes} B, round {round}");
            assert_eq!(coder.decode(payload.len(), &some).as_ref(), Ok(&payload), "{context}");
            let wanted = ShardSet(u32::try_from(rng.below(1 << 31)).unwrap())
                .intersection(ShardSet::first(u32::from(code.n())));
            let rebuilt = coder.rebuild(payload.len(), &some, wanted).unwrap();
            let expected: Vec<Shard> =
                shards.into_iter().filter(|shard| wanted.contains(shard.index)).collect();
            assert_eq!(rebuilt, expected, "{context}");
        }
    }
}

#[test]
fn every_pattern_of_loss_decodes() {
    for backend in Backend::ALL {
        for (k, m) in [(3, 2), (2, 1), (4, 3), (5, 5), (6, 3)] {
            let code = Code::new(k, m).unwrap();
            let payload = payload(601, 9);
            let mut coder = Coder::new(backend, code);
            let shards = coder.encode(&payload);
            for set in (0_u32..1 << code.n()).filter(|set| set.count_ones() == u32::from(k)) {
                let some: Vec<Shard> =
                    shards.iter().filter(|s| ShardSet(set).contains(s.index)).cloned().collect();
                assert_eq!(coder.decode(601, &some).as_ref(), Ok(&payload), "{backend} {set:b}");
            }
        }
    }
}

#[test]
fn large_values_and_large_codes() {
    for backend in Backend::ALL {
        for (k, m, bytes) in [(3, 2, 16 << 20), (24, 8, 100_000), (31, 1, 65_537), (16, 16, 7)] {
            let code = Code::new(k, m).unwrap();
            let payload = payload(bytes, 3);
            let mut coder = Coder::new(backend, code);
            let shards = coder.encode(&payload);
            let last = shards[usize::from(m)..].to_vec();
            assert_eq!(coder.decode(bytes, &last), Ok(payload), "{backend} {code}");
        }
    }
}

#[test]
fn data_shards_are_slices_of_the_payload() {
    let payload = payload(3000, 1);
    for backend in Backend::ALL {
        let shards = Coder::new(backend, Code::new(3, 2).unwrap()).encode(&payload);
        for (index, shard) in shards[..3].iter().enumerate() {
            assert_eq!(shard.bytes.as_ptr(), payload[index * 1000..].as_ptr());
        }
    }
    let copies = Coder::new(Backend::default(), Code::new(1, 4).unwrap()).encode(&payload);
    assert!(copies.iter().all(|copy| copy.bytes.as_ptr() == payload.as_ptr()));
}

#[test]
fn wrong_shards_are_refused_by_name() {
    let code = Code::new(3, 2).unwrap();
    let payload = payload(90, 1);
    for backend in Backend::ALL {
        let mut coder = Coder::new(backend, code);
        let shards = coder.encode(&payload);
        let few = coder.decode(90, &shards[..2]);
        assert_eq!(few, Err(CodingError::TooFew { code, got: 2 }));
        let twice = [shards[0].clone(), shards[1].clone(), shards[0].clone()];
        assert_eq!(coder.decode(90, &twice), Err(CodingError::Duplicate { index: 0 }));
        let alien = [shards[0].clone(), Shard { index: 5, ..shards[1].clone() }];
        assert_eq!(coder.decode(90, &alien), Err(CodingError::Index { code, index: 5 }));
        let short = [shards[0].clone(), Shard::new(1, Bytes::from_static(b"x"))];
        let error = coder.decode(90, &short).unwrap_err();
        assert!(error.to_string().contains("shard 1 has 1 B"), "{error}");
        assert!(coder.decode(600, &shards).is_err(), "a wrong payload length");
    }
}

#[test]
fn backends_are_known_by_their_names() {
    for backend in Backend::ALL {
        assert_eq!(backend.to_string().parse(), Ok(backend));
    }
    let error = "isa-l".parse::<Backend>().unwrap_err().to_string();
    assert!(error.contains("rusty-erasure"), "{error}");
}

/// XXH3-64 over all shards of the bytes 0..=254, codes (3, 2) and (10, 4).
const GOLDEN: [u64; 6] = [
    4_260_066_728_957_491_301,
    16_449_251_982_044_282_278,
    5_921_679_871_078_318_183,
    9_664_101_463_049_321_084,
    16_921_722_527_302_527_999,
    17_438_139_031_438_425_797,
];
