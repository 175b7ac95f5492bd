//! Machine to machine, in memory: what the transport itself costs, without system calls.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distkv::time::{Duration, Instant};
use distkv::transport::{Transport, TransportConfig, TransportEvent};
use std::net::SocketAddr;

/// The allocator of the real program: large buffers come and go, and the system's gives pages back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Two machines and a clock that moves with every exchange.
struct Pair {
    nodes: [Transport; 2],
    addresses: [SocketAddr; 2],
    now: Instant,
}

impl Pair {
    fn new(config: &TransportConfig) -> Self {
        let nodes = [1, 2].map(|epoch| Transport::new(config.clone(), epoch, epoch));
        let addresses = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Self { nodes, addresses, now: Instant::from_nanos(1) }
    }

    /// Moves everything that either has to send; returns how many messages arrived.
    fn turn(&mut self) -> usize {
        let mut arrived = 0;
        for from in [0, 1] {
            self.now = self.now + Duration::from_micros(10);
            self.nodes[from].handle_timeout(self.now);
            while let Some(transmit) = self.nodes[from].poll_transmit(self.now) {
                for datagram in transmit.contents.chunks(transmit.segment_bytes) {
                    let source = self.addresses[from];
                    self.nodes[1 - from].handle_datagram(self.now, source, datagram);
                }
            }
            while let Some(event) = self.nodes[1 - from].poll_event() {
                arrived += usize::from(matches!(event, TransportEvent::Message { .. }));
            }
        }
        arrived
    }

    fn send_all(&mut self, message: &Bytes, count: usize) {
        let to = self.addresses[1];
        for _ in 0..count {
            let sent = self.nodes[0].send(self.now, to, std::slice::from_ref(message));
            sent.expect("the queue holds one round");
        }
        let mut missing = count;
        while missing > 0 {
            missing -= self.turn();
        }
    }
}

fn benchmark(criterion: &mut Criterion) {
    let paths =
        [("loopback", TransportConfig::default()), ("ethernet", TransportConfig::for_ethernet())];
    for (path, config) in paths {
        let mut group = criterion.benchmark_group(format!("transport/{path}"));
        for (bytes, count) in [(64, 4096), (1024, 1024), (65_536, 64), (1 << 20, 4)] {
            let mut pair = Pair::new(&config);
            let message = Bytes::from(vec![7; bytes]);
            group.throughput(if bytes < 65_536 {
                Throughput::Elements(count as u64)
            } else {
                Throughput::Bytes((bytes * count) as u64)
            });
            group.bench_function(format!("{bytes} B x {count}"), |bencher| {
                bencher.iter(|| pair.send_all(&message, count));
            });
        }
        group.finish();
    }
    criterion.bench_function("transport/round trip of 64 B", |bencher| {
        let mut pair = Pair::new(&TransportConfig::default());
        let message = Bytes::from(vec![7; 64]);
        bencher.iter(|| pair.send_all(&message, 1));
    });
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
