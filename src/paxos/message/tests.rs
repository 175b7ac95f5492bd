//! Messages survive the wire; garbage is refused.

use super::*;
use crate::config::EpochConfig;
use crate::rng::Rng;
use crate::types::{Code, Digest, Epoch};

fn every_message() -> Vec<Message> {
    let ballot = Ballot { round: 9, node: 3 };
    let slot = Slot(77);
    let id = ValueId { origin: ballot, slot };
    let payload = vec![5_u8; 3000];
    let meta = ValueMeta {
        id,
        epoch: Epoch(1),
        code: Code::new(3, 2).unwrap(),
        payload_bytes: 3000,
        digest: Digest::of(&payload),
        header: Bytes::from_static(b"put k"),
    };
    let shards = vec![Shard::new(2, Bytes::from(payload)), Shard::new(4, Bytes::new())];
    let value = ShardedValue { meta, shards };
    let held = ShardSet::one(4);
    let entries = vec![
        PromiseEntry::Accepted { ballot, claimed: held, value: value.clone() },
        PromiseEntry::Faulty { slot },
        PromiseEntry::AllFaulty,
    ];
    let configuration = Configuration::of_ranks(EpochConfig {
        epoch: Epoch(3),
        nodes: 5,
        policy: crate::config::Policy::Craft,
        code: Code::new(3, 2).unwrap(),
        hybrid_bytes: 4096,
    });
    vec![
        Message::PreVote { ballot, number: 2 },
        Message::Probe { epoch: Epoch(3), applied: slot },
        Message::Members {
            applied: slot,
            configuration: configuration.clone(),
            first_place: Some(4),
        },
        Message::Members { applied: slot, configuration: configuration.clone(), first_place: None },
        Message::Refused { incarnation: 9 },
        Message::PreVoteReply { ballot, number: 2, is_granted: true, promised: ballot },
        Message::Prepare { ballot, attempt: 4, released: Ballot::ZERO },
        Message::TakeOver { ballot },
        Message::Promise(Promise {
            ballot,
            attempt: 4,
            page: 1,
            is_last: false,
            configuration: configuration.clone(),
            applied: slot,
            entries,
        }),
        Message::Accept { ballot, commit: slot, entries: vec![value.clone(), value.clone()] },
        Message::Accepted { ballot, applied: slot, acks: vec![Ack { id, held }] },
        Message::Nack { promised: ballot },
        Message::Heartbeat { ballot, sequence: 3, commit: slot },
        Message::HeartbeatReply { ballot, sequence: 3, applied: slot, durable: slot, is_low: true },
        Message::Fetch {
            wants: vec![
                Want { slot, is_all: false, held: Some(id) },
                Want { slot, is_all: true, held: None },
            ],
        },
        Message::Shards {
            applied: slot,
            floor: Slot(9),
            missing: vec![slot],
            entries: vec![value],
        },
        Message::FetchIndex { slot, part: 3 },
        Message::IndexPart { slot, part: 3, parts: 9, bytes: Bytes::from(vec![7; 600]) },
    ]
}

#[test]
fn messages_survive_the_wire_and_cut_ones_are_refused() {
    for message in every_message() {
        let envelope = Envelope { from: NodeId(3), incarnation: 99, message };
        let bytes: Bytes = envelope.encode().concat().into();
        assert_eq!(Envelope::decode(bytes.clone()), Ok(envelope));
        for cut in (0..bytes.len()).filter(|cut| *cut < 300 || cut % 97 == 0) {
            assert!(Envelope::decode(bytes.slice(..cut)).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn garbage_never_panics_and_never_allocates_by_its_own_word() {
    let mut rng = Rng::new(3);
    for message in every_message() {
        let envelope = Envelope { from: NodeId(3), incarnation: 99, message };
        let bytes = envelope.encode().concat();
        for _ in 0..500 {
            let mut garbled = bytes.clone();
            for _ in 0..=rng.below(4) {
                let at = usize::try_from(rng.below(garbled.len() as u64)).unwrap();
                garbled[at] = u8::try_from(rng.below(256)).unwrap();
            }
            let _ = Envelope::decode(garbled.into());
        }
    }
}
