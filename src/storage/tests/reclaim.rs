//! Space given back: what lives stays readable through crashes, what is dead gives its room back.

use super::super::{Disk as _, Log, LogOptions, Recovered, SimDisk};
use super::{accept, indexes, meta, options, promise};
use crate::rng::Rng;
use crate::types::{Bytes, Record, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// A user of the log as a node is one: keys that are overwritten, each write in a slot of its own.
struct User {
    log: Log<SimDisk>,
    disk: SimDisk,
    /// The latest slot of each key, up to the last one.
    live: BTreeMap<u64, u64>,
    last: u64,
    synced: u64,
    /// The last durable index snapshot: its slot, and what lived then.
    image: (u64, BTreeMap<u64, u64>),
    floor: u64,
}

const SHARD_BYTES: usize = 900;

fn open(disk: &SimDisk) -> (Log<SimDisk>, Recovered) {
    let options = LogOptions { space_multiple: 1.5, ..options() };
    let (log, recovered) = Log::open(disk.clone(), options, 99).unwrap();
    log.check_invariants();
    (log, recovered)
}

/// Which key a slot writes.
fn key(slot: u64, keys: u64) -> u64 {
    Rng::new(slot).below(keys)
}

fn image_bytes(live: &BTreeMap<u64, u64>) -> Vec<u8> {
    live.iter().flat_map(|(key, slot)| [key.to_le_bytes(), slot.to_le_bytes()].concat()).collect()
}

impl User {
    fn new() -> Self {
        let disk = SimDisk::new();
        let (log, _) = open(&disk);
        let live = BTreeMap::new();
        Self { log, disk, live, last: 0, synced: 0, image: (0, BTreeMap::new()), floor: 0 }
    }

    fn write(&mut self, keys: u64) {
        self.last += 1;
        self.log.append(&[accept(self.last, (1, 1), &[2], SHARD_BYTES)]).unwrap();
        self.live.insert(key(self.last, keys), self.last);
    }

    fn sync(&mut self) {
        self.log.sync().unwrap();
        self.synced = self.last;
    }

    /// Parts of an index snapshot, maybe not all of them.
    fn write_image(&mut self, parts: u32, of: u32) {
        let bytes = image_bytes(&self.live);
        let length = bytes.len().div_ceil(of as usize).max(1);
        let slot = Slot(self.last);
        for (part, chunk) in (0..parts).zip(bytes.chunks(length)) {
            let bytes = Bytes::copy_from_slice(chunk);
            self.log.append(&[Record::Index { slot, part, parts: of, bytes }]).unwrap();
        }
    }

    fn take_image(&mut self, of: u32) {
        if image_bytes(&self.live).chunks(1).len() < 64 {
            return;
        }
        self.write_image(of, of);
        self.sync();
        self.image = (self.last, self.live.clone());
    }

    /// Forgets what is superseded up to a floor at or below the image.
    fn reclaim(&mut self, floor: u64) {
        let live: BTreeSet<u64> = self.live.values().copied().collect();
        let dead: Vec<Slot> = (self.floor.saturating_sub(500)..=floor)
            .filter(|slot| *slot > 0 && !live.contains(slot))
            .map(Slot)
            .collect();
        self.log.reclaim(Slot(floor), &dead, true).unwrap();
        self.floor = floor;
    }

    /// Starts again after a crash: what was synced is there.
    fn restart(&mut self, keys: u64) {
        let (log, recovered) = open(&self.disk);
        self.log = log;
        assert!(recovered.faulty.is_empty() && !recovered.unknown_damage, "{recovered:?}");
        if self.image.0 > 0 {
            let index = recovered.index.expect("the image was synced");
            assert!(index.slot.0 >= self.image.0, "an older image: {:?}", index.slot);
            if index.slot.0 == self.image.0 {
                assert_eq!(index.bytes, image_bytes(&self.image.1), "the image as it was given");
            }
            assert!(recovered.floor <= index.slot);
        }
        let slots: BTreeSet<u64> = recovered.entries.iter().map(|e| e.meta.slot().0).collect();
        let last = slots.last().copied().unwrap_or(0).max(self.synced);
        self.live.clear();
        for slot in 1..=last {
            self.live.insert(key(slot, keys), slot);
        }
        self.last = last;
        self.synced = last;
        // As a node does: what its state does not know as current is forgotten again.
        self.reclaim(recovered.floor.0);
    }

    fn check(&mut self) {
        self.log.check_invariants();
        for slot in self.live.values().copied().collect::<Vec<u64>>() {
            assert_eq!(indexes(&mut self.log, slot), [2], "slot {slot} lives");
            let value = self.log.read(Slot(slot)).unwrap().unwrap();
            assert_eq!(value.meta, meta(slot, 1, SHARD_BYTES));
        }
    }
}

#[test]
fn what_lives_survives_reclaim_compaction_and_crashes() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let keys = [3, 40, 300][usize::try_from(seed % 3).unwrap()];
        let mut user = User::new();
        user.log.append(&[promise(1)]).unwrap();
        for _ in 0..250 {
            match rng.below(20) {
                0..12 => (0..rng.range(1, 12)).for_each(|_| user.write(keys)),
                12..15 => user.sync(),
                15 => user.take_image(u32::try_from(rng.range(1, 4)).unwrap()),
                16 => user.write_image(1, 2),
                17 => {
                    let floor = rng.range(user.floor, user.image.0.max(user.floor));
                    user.reclaim(floor);
                }
                18 => while user.log.compact(20_000).unwrap() > 0 && rng.chance(0.9) {},
                _ => {
                    if rng.chance(0.5) {
                        user.disk.crash(&mut rng);
                    } else {
                        user.disk.power_cut(&mut rng);
                    }
                    user.restart(keys);
                }
            }
        }
        user.check();
        user.disk.crash(&mut rng);
        user.restart(keys);
        user.check();
    }
}

#[test]
fn overwriting_the_same_keys_takes_bounded_space() {
    let mut user = User::new();
    let keys = 50;
    let mut most = 0;
    for step in 0..20_000_u64 {
        user.write(keys);
        if step % 16 == 0 {
            user.sync();
            user.log.compact(64 << 10).unwrap();
        }
        if step % 400 == 0 {
            user.take_image(1);
            user.reclaim(user.image.0);
        }
        most = most.max(user.log.usage().allocated_bytes);
    }
    user.check();
    let live = 50 * 1100;
    // Garbage between two snapshots, the multiple of what lives, and segments that are open.
    let bound = 400 * 1100 + live * 2 + 6 * (64 << 10);
    assert!(most < bound, "{most} bytes at most, bound {bound}");
    assert!(20_000 * 1000 > 10 * bound, "the test writes far more than the bound");
    let (files, allocated) = (user.disk.list().unwrap(), user.log.usage().allocated_bytes);
    let on_disk: u64 = files.iter().filter(|f| f.name.ends_with(".seg")).map(|f| f.bytes).sum();
    assert_eq!(on_disk, allocated, "what is counted is what is there");
}

#[test]
fn many_live_values_take_less_than_twice_their_bytes_however_often_they_are_overwritten() {
    let mut user = User::new();
    // A hundred segments live, and each is overwritten evenly: none gets empty by itself.
    let (keys, image_every) = (6000, 2000);
    let (mut garbage, mut most) = (Vec::new(), 0);
    for step in 0..80_000_u64 {
        garbage.extend(user.live.get(&key(user.last + 1, keys)).copied().map(Slot));
        user.write(keys);
        if step % 16 == 0 {
            user.sync();
            user.log.compact(64 << 10).unwrap();
        }
        if step % image_every == 0 {
            user.take_image(1);
            let floor = user.image.0;
            let is_gone = |slot: &Slot| slot.0 <= floor;
            let (gone, kept): (Vec<Slot>, Vec<Slot>) = garbage.into_iter().partition(is_gone);
            user.log.reclaim(Slot(floor), &gone, true).unwrap();
            garbage = kept;
        }
        if step > 20_000 {
            most = most.max(user.log.usage().allocated_bytes);
        }
    }
    user.check();
    let live = keys * 1100;
    assert!(most < 2 * live, "{most} bytes at most, {live} live");
    assert!(most > live, "{most} bytes cannot be all");
}

#[test]
fn a_few_live_values_do_not_keep_every_segment() {
    let mut user = User::new();
    // One key in 40 is never written again.
    let keys = 4000;
    for _ in 0..4000 {
        user.write(keys);
    }
    user.sync();
    user.take_image(2);
    user.live.retain(|key, _| key % 40 == 0);
    user.take_image(2);
    user.reclaim(user.image.0);
    let before = user.log.usage();
    for _ in 0..2000 {
        if user.log.compact(16 << 10).unwrap() == 0 {
            break;
        }
        user.sync();
    }
    user.write(keys);
    user.sync();
    let after = user.log.usage();
    assert!(after.allocated_bytes * 4 < before.allocated_bytes, "{before:?} {after:?}");
    user.check();
}

#[test]
fn without_its_image_a_log_says_so() {
    let mut user = User::new();
    for _ in 0..200 {
        user.write(20);
    }
    user.take_image(1);
    user.reclaim(user.image.0);
    user.log.append(&[accept(201, (1, 1), &[2], 10)]).unwrap();
    // A roll makes the floor durable.
    for slot in 202..400 {
        user.log.append(&[accept(slot, (1, 1), &[2], SHARD_BYTES)]).unwrap();
    }
    user.log.sync().unwrap();
    let bytes = image_bytes(&user.image.1);
    let mut is_hit = false;
    for file in user.disk.list().unwrap() {
        let contents = user.disk.read_at(&file.name, 0, 1 << 20).unwrap();
        if let Some(at) = contents.windows(bytes.len()).position(|window| window == bytes) {
            is_hit |= user.disk.corrupt_at(&file.name, at as u64 + 5, 1);
        }
    }
    assert!(is_hit, "the image is somewhere");
    let (_, recovered) = open(&user.disk);
    assert_eq!(recovered.index, None);
    assert_eq!(recovered.floor, Slot(200));
}
