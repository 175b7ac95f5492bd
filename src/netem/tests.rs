//! Laws of the emulated network: what is lost, delayed, doubled, held back, and the same per seed.

use super::*;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn network(link: LinkConfig) -> Netem {
    Netem::new(NetemConfig { link, ..NetemConfig::default() }, 5)
}

fn drain(netem: &mut Netem) -> Vec<(Instant, Delivery)> {
    let mut out = Vec::new();
    while let Some(at) = netem.poll_timeout() {
        while let Some(delivery) = netem.poll_deliver(at) {
            out.push((at, delivery));
        }
    }
    netem.check_invariants();
    out
}

fn send_many(netem: &mut Netem, count: u64, bytes: usize) {
    for number in 0..count {
        let mut datagram = vec![0; bytes];
        datagram[..8].copy_from_slice(&number.to_le_bytes());
        netem.handle_datagram(Instant::from_nanos(number), address(1), address(2), datagram);
    }
}

#[test]
fn a_clear_link_passes_everything_in_order_and_at_once() {
    let mut netem = network(LinkConfig::default());
    assert!(netem.is_clear(address(1), address(2)));
    send_many(&mut netem, 100, 8);
    for number in 0..100_u64 {
        assert_eq!(netem.poll_deliver(Instant::ZERO).unwrap().bytes, number.to_le_bytes());
    }
    assert_eq!(netem.stats().dropped(), 0);
}

#[test]
fn loss_duplication_and_corruption_keep_their_rates() {
    let link = LinkConfig { loss: 0.1, duplicate: 0.05, corrupt: 0.02, ..LinkConfig::default() };
    let mut netem = network(link);
    send_many(&mut netem, 100_000, 8);
    let arrived = drain(&mut netem).len() as u64;
    let stats = netem.stats();
    assert!((9_500..10_500).contains(&stats.lost), "{stats:?}");
    assert!((4_200..4_800).contains(&stats.duplicated), "{stats:?}");
    assert!((1_650..1_950).contains(&stats.corrupted), "{stats:?}");
    assert_eq!(arrived, 100_000 - stats.lost + stats.duplicated);
}

#[test]
fn bursts_lose_runs_of_datagrams() {
    let link =
        LinkConfig { burst_enter: 0.01, burst_exit: 0.1, burst_loss: 1.0, ..LinkConfig::default() };
    let mut netem = network(link);
    send_many(&mut netem, 100_000, 8);
    let numbers: Vec<u64> = drain(&mut netem)
        .iter()
        .map(|(_, delivery)| u64::from_le_bytes(delivery.bytes[..8].try_into().unwrap()))
        .collect();
    // A share of enter / (enter + exit) is lost, in runs of 1 / exit datagrams on average.
    let lost = 100_000 - numbers.len();
    let runs = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!((7_500..10_700).contains(&lost), "{lost}");
    assert!((8..13).contains(&(lost / runs)), "{lost} lost in {runs} runs");
}

#[test]
fn bandwidth_spaces_datagrams_and_a_full_queue_drops() {
    let link = LinkConfig { rate_mbit: 8.0, queue_bytes: 10_000, ..LinkConfig::default() };
    let mut netem = network(link);
    send_many(&mut netem, 50, 1000);
    let arrived = drain(&mut netem);
    assert_eq!(arrived.len(), 10);
    assert_eq!(netem.stats().overflowed, 40);
    for pair in arrived.windows(2) {
        assert_eq!(pair[1].0.since(pair[0].0), Duration::from_millis(1));
    }
}

#[test]
fn a_card_is_shared_by_all_links_of_its_node() {
    let mut netem = network(LinkConfig::default());
    netem.set_card(address(1), &NodeConfig { rate_mbit: 8.0, queue_bytes: 0 });
    for to in 2..6 {
        netem.handle_datagram(Instant::ZERO, address(1), address(to), vec![0; 1000]);
        netem.handle_datagram(Instant::ZERO, address(to), address(1), vec![0; 1000]);
    }
    let arrived = drain(&mut netem);
    let last = arrived.iter().map(|(at, _)| *at).max().unwrap();
    assert_eq!(last, Instant::from_nanos(4_000_000));
    assert_eq!(arrived.iter().filter(|(at, _)| *at == Instant::ZERO).count(), 4);
}

#[test]
fn jitter_and_reordering_change_the_order_within_their_bounds() {
    let link = LinkConfig {
        delay_ms: 2.0,
        jitter_ms: 1.0,
        reorder: 0.1,
        reorder_ms: 5.0,
        ..LinkConfig::default()
    };
    let mut netem = network(link);
    send_many(&mut netem, 1000, 8);
    let arrived = drain(&mut netem);
    assert!(arrived.iter().all(|(at, _)| (1_000_000..8_001_000).contains(&at.as_nanos())));
    assert!(!arrived.is_sorted_by_key(|(_, delivery)| delivery.bytes.clone()));
}

#[test]
fn a_partition_has_a_direction_and_heals() {
    let mut netem = network(LinkConfig::default());
    netem.set_down(address(1), address(2), true);
    netem.handle_datagram(Instant::ZERO, address(1), address(2), vec![1]);
    netem.handle_datagram(Instant::ZERO, address(2), address(1), vec![2]);
    assert_eq!(drain(&mut netem).len(), 1);
    netem.set_down(address(1), address(2), false);
    netem.handle_datagram(Instant::ZERO, address(1), address(2), vec![3]);
    assert_eq!(drain(&mut netem).len(), 1);
    assert_eq!(netem.stats().partitioned, 1);
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let link = LinkConfig {
        loss: 0.2,
        duplicate: 0.2,
        corrupt: 0.2,
        delay_ms: 1.0,
        jitter_ms: 1.0,
        ..LinkConfig::default()
    };
    let run = |seed| {
        let mut netem =
            Netem::new(NetemConfig { link: link.clone(), ..NetemConfig::default() }, seed);
        send_many(&mut netem, 500, 16);
        drain(&mut netem)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn what_is_under_way_is_bounded() {
    let link = LinkConfig { delay_ms: 1000.0, ..LinkConfig::default() };
    let config = NetemConfig { link, max_queued_bytes: 1000, ..NetemConfig::default() };
    let mut netem = Netem::new(config, 1);
    send_many(&mut netem, 500, 100);
    netem.check_invariants();
    assert_eq!(netem.stats().overflowed, 490);
}

#[test]
fn the_configuration_is_read_strictly() {
    let text = "[link]\nloss = 0.01\ndelay_ms = 0.5\n[[links]]\nto = \"127.0.0.1:9\"\n\
                link = { down = true }\n[card]\nrate_mbit = 1000.0\n";
    let config: NetemConfig = toml::from_str(text).unwrap();
    config.validate().unwrap();
    assert!(config.link_between(address(1), "127.0.0.1:9".parse().unwrap()).down);
    assert!(!config.link_between(address(1), address(2)).down);
    assert!(toml::from_str::<NetemConfig>("[link]\nlos = 0.1\n").is_err());
    let config: NetemConfig = toml::from_str("[link]\nloss = 1.5\n").unwrap();
    assert!(config.validate().unwrap_err().to_string().contains("loss = 1.5"));
}

#[test]
fn a_sender_that_keeps_to_its_cards_room_loses_nothing_and_keeps_it_busy() {
    let mut netem = network(LinkConfig::default());
    assert_eq!(netem.card_room(Instant::ZERO, address(1)).bytes, usize::MAX);
    // A byte takes a microsecond.
    netem.set_card(address(1), &NodeConfig { rate_mbit: 8.0, queue_bytes: 0 });
    let (mut now, mut sent) = (Instant::ZERO, 0_u64);
    let end = Instant::from_nanos(1_000_000_000);
    while now < end {
        let room = netem.card_room(now, address(1));
        if room.bytes == 0 {
            assert!(room.ready_at > now);
            now = room.ready_at;
            continue;
        }
        netem.handle_datagram(now, address(1), address(2), vec![0; 1000]);
        sent += 1000;
    }
    assert_eq!(netem.stats().dropped(), 0);
    assert!((1_000_000..=1_000_000 + 70_000).contains(&sent), "{sent}");
}
