//! Encoding and decoding by every backend, against copying the value: what an operation's arithmetic
//! costs. Sizes are of the value; decoding lacks one data shard.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use distkv::coding::{Backend, Coder};
use distkv::rng::Rng;
use distkv::types::{Bytes, Code, Shard};
use std::hint::black_box;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 4] = [1 << 10, 16 << 10, 64 << 10, 1 << 20];

fn payload(bytes: usize) -> Bytes {
    let mut contents = vec![0; bytes];
    Rng::new(1).fill(&mut contents);
    contents.into()
}

fn coding(criterion: &mut Criterion) {
    for (k, m) in [(3, 2), (10, 4)] {
        let code = Code::new(k, m).expect("small codes exist");
        let mut group = criterion.benchmark_group(format!("coding/{code}"));
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_millis(700));
        group.sample_size(10);
        for bytes in SIZES {
            let payload = payload(bytes);
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(BenchmarkId::new("copy (baseline)", bytes), |bencher| {
                bencher.iter(|| black_box(Bytes::copy_from_slice(black_box(&payload))));
            });
            for backend in Backend::ALL {
                let mut coder = Coder::new(backend, code);
                group.bench_function(BenchmarkId::new(format!("encode/{backend}"), bytes), |b| {
                    b.iter(|| black_box(coder.encode(black_box(&payload))));
                });
                let survivors: Vec<Shard> = coder.encode(&payload)[1..=usize::from(k)].to_vec();
                group.bench_function(BenchmarkId::new(format!("decode/{backend}"), bytes), |b| {
                    b.iter(|| black_box(coder.decode(bytes, black_box(&survivors))));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, coding);
criterion_main!(benches);
