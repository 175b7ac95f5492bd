//! The UDP socket of a node or client: batches in and out, and an optional emulated network.
//!
//! Segmentation and receive offload through `quinn-udp`. It knows datagrams only; reliability is the
//! transport's. A send that would block is kept in a bounded queue, beyond which datagrams are
//! dropped and counted, as a network would: the transport recovers. A path that refuses
//! segmentation offload, or a datagram size, falls back and is counted; it is never an error.

use crate::netem::{CardRoom, Netem};
use crate::time::Instant;
use crate::transport::Transmit;
use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use tokio::io::Interest;

/// Buffers handed to one system call, each large enough for one received offload train.
const RECV_BUFFERS: usize = 16;
const RECV_BUFFER_BYTES: usize = 65_536;

/// Sizes of a socket's buffers and queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    /// Wanted kernel buffer per direction; the kernel may grant less.
    pub kernel_buffer_bytes: usize,
    /// Bytes that wait for the kernel to take them; beyond it datagrams are dropped.
    pub max_send_queue_bytes: usize,
    /// Batches of receive buffers read by one [`NodeSocket::recv_batch`] at most.
    pub max_recv_rounds: usize,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self { kernel_buffer_bytes: 8 << 20, max_send_queue_bytes: 8 << 20, max_recv_rounds: 16 }
    }
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process has the address.
    #[error("{address} is in use: stop the process that has it, or choose another port")]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("{address} is not an address of this machine")]
    AddressNotAvailable {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot open a UDP socket at {address}: {source}")]
    Open {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Send calls.
    pub send_calls: u64,
    /// Receive calls that returned something.
    pub recv_calls: u64,
    /// Batches that had to wait for the kernel.
    pub sends_delayed: u64,
    /// Datagrams dropped because the queue was full.
    pub datagrams_dropped: u64,
    /// Batches sent again one by one because offload was refused.
    pub offload_refused: u64,
    /// Datagrams that the system refused (size, unreachable, permission): as good as lost.
    pub send_errors: u64,
    /// Errors on receiving other than "nothing there", such as a refused port's echo.
    pub recv_errors: u64,
}

/// Has a datagram been too large for the path to its peer?
#[derive(Debug, Default)]
enum TooLarge {
    #[default]
    No,
    Met {
        to: SocketAddr,
        bytes: usize,
    },
    Told,
}

/// A bound UDP socket within a tokio runtime.
#[derive(Debug)]
pub struct NodeSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    config: SocketConfig,
    buffers: Vec<u8>,
    queue: VecDeque<Transmit>,
    queued_bytes: usize,
    netem: Option<Netem>,
    offload: bool,
    /// The first datagram that was larger than the path takes.
    too_large: TooLarge,
    stats: SocketStats,
}

impl NodeSocket {
    /// Binds `address` (port 0: any free port). `netem`, when given, handles all that is sent.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Says which address is in use, or not this machine's.
    pub fn bind(
        address: SocketAddr,
        config: SocketConfig,
        netem: Option<Netem>,
    ) -> Result<Self, SocketError> {
        let explain = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                SocketError::AddressInUse { address }
            } else if source.kind() == io::ErrorKind::AddrNotAvailable {
                SocketError::AddressNotAvailable { address }
            } else {
                SocketError::Open { address, source }
            }
        };
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
            .map_err(explain)?;
        // Best effort: a smaller buffer costs speed under load, not correctness.
        let _ = socket.set_recv_buffer_size(config.kernel_buffer_bytes);
        let _ = socket.set_send_buffer_size(config.kernel_buffer_bytes);
        socket.bind(&address.into()).map_err(explain)?;
        let state = UdpSocketState::new((&socket).into()).map_err(explain)?;
        let io = tokio::net::UdpSocket::from_std(socket.into()).map_err(explain)?;
        let local = io.local_addr().map_err(explain)?;
        let offload = state.max_gso_segments() > 1;
        Ok(Self {
            io,
            state,
            local,
            config,
            buffers: vec![0; RECV_BUFFERS * RECV_BUFFER_BYTES],
            queue: VecDeque::new(),
            queued_bytes: 0,
            netem,
            offload,
            too_large: TooLarge::No,
            stats: SocketStats::default(),
        })
    }

    /// The bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits until there is something to receive.
    ///
    /// # Errors
    /// Only when the runtime shuts down.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Waits until queued batches can be sent; does not return while nothing is queued.
    ///
    /// # Errors
    /// Only when the runtime shuts down.
    pub async fn writable(&self) -> io::Result<()> {
        if self.queue.is_empty() {
            std::future::pending::<()>().await;
        }
        self.io.writable().await
    }

    /// True when batches wait for [`Self::writable`].
    #[must_use]
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Hands every waiting datagram, up to a bound, to `f`; returns how many. Does not block.
    pub fn recv_batch(&mut self, mut f: impl FnMut(SocketAddr, &[u8])) -> usize {
        let mut count = 0;
        for _ in 0..self.config.max_recv_rounds {
            let mut metas = [RecvMeta::default(); RECV_BUFFERS];
            let received = {
                let mut chunks = self.buffers.chunks_exact_mut(RECV_BUFFER_BYTES);
                let mut slices: [IoSliceMut<'_>; RECV_BUFFERS] =
                    std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
                self.io.try_io(Interest::READABLE, || {
                    self.state.recv((&self.io).into(), &mut slices, &mut metas)
                })
            };
            let received = match received {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return count,
                Err(_) => {
                    self.stats.recv_errors += 1;
                    continue;
                }
            };
            self.stats.recv_calls += 1;
            for (meta, buffer) in
                metas[..received].iter().zip(self.buffers.chunks_exact(RECV_BUFFER_BYTES))
            {
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    f(meta.addr, datagram);
                    count += 1;
                }
            }
        }
        count
    }

    /// What may be sent now: little, or nothing until then, while the emulated card is behind.
    pub fn room(&mut self, now: Instant) -> CardRoom {
        match &mut self.netem {
            Some(netem) => netem.card_room(now, self.local),
            None => CardRoom { bytes: usize::MAX, ready_at: now },
        }
    }

    /// Sends a batch, through the emulated network when there is one. `now` is the driver's clock.
    pub fn send(&mut self, now: Instant, transmit: Transmit) {
        let local = self.local;
        let Some(netem) = &mut self.netem else { return self.send_now(transmit) };
        if netem.is_clear(local, transmit.to) {
            return self.send_now(transmit);
        }
        for datagram in transmit.contents.chunks(transmit.segment_bytes.max(1)) {
            netem.handle_datagram(now, local, transmit.to, datagram.to_vec());
        }
        self.deliver_due(now);
    }

    /// Sends what the emulated network holds back no longer.
    pub fn deliver_due(&mut self, now: Instant) {
        let Some(netem) = &mut self.netem else { return };
        let mut due = Vec::new();
        while let Some(delivery) = netem.poll_deliver(now) {
            due.push(delivery);
        }
        // Neighbours of one size to one address share a system call again.
        let mut batch: Option<(Transmit, usize)> = None;
        for delivery in due {
            let bytes = delivery.bytes.len();
            if let Some((transmit, segments)) = &mut batch
                && transmit.to == delivery.to
                && transmit.segment_bytes == bytes
                && *segments < 32
                && transmit.contents.len() + bytes <= 60_000
            {
                transmit.contents.extend_from_slice(&delivery.bytes);
                *segments += 1;
                continue;
            }
            let next = Transmit { to: delivery.to, segment_bytes: bytes, contents: delivery.bytes };
            if let Some((done, _)) = batch.replace((next, 1)) {
                self.send_now(done);
            }
        }
        if let Some((done, _)) = batch {
            self.send_now(done);
        }
    }

    /// When [`Self::deliver_due`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.netem.as_ref()?.poll_timeout()
    }

    /// The emulated network, to change it at run time or to read its counters.
    pub fn netem_mut(&mut self) -> Option<&mut Netem> {
        self.netem.as_mut()
    }

    /// Sends what is queued, as far as the kernel takes it.
    pub fn flush(&mut self) {
        while let Some(mut transmit) = self.queue.pop_front() {
            self.queued_bytes -= transmit.contents.len();
            if let Sent::Blocked { taken_bytes } = self.try_send(&transmit) {
                transmit.contents.drain(..taken_bytes);
                self.queued_bytes += transmit.contents.len();
                self.queue.push_front(transmit);
                return;
            }
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> SocketStats {
        self.stats
    }

    fn send_now(&mut self, mut transmit: Transmit) {
        if transmit.contents.is_empty() {
            return;
        }
        if self.queue.is_empty() {
            match self.try_send(&transmit) {
                Sent::Done => return,
                Sent::Blocked { taken_bytes } => {
                    transmit.contents.drain(..taken_bytes);
                }
            }
        }
        if self.queued_bytes + transmit.contents.len() > self.config.max_send_queue_bytes {
            let datagrams = transmit.contents.len().div_ceil(transmit.segment_bytes.max(1));
            self.stats.datagrams_dropped += datagrams as u64;
            return;
        }
        self.stats.sends_delayed += 1;
        self.queued_bytes += transmit.contents.len();
        self.queue.push_back(transmit);
    }

    fn try_send(&mut self, transmit: &Transmit) -> Sent {
        let segment_bytes = transmit.segment_bytes.max(1);
        if self.offload {
            let segments = self.state.max_gso_segments().max(1);
            let mut taken_bytes = 0;
            for batch in transmit.contents.chunks(segment_bytes.saturating_mul(segments)) {
                match self.send_call(transmit.to, batch, segment_bytes) {
                    Ok(()) => taken_bytes += batch.len(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Sent::Blocked { taken_bytes };
                    }
                    Err(error) if batch.len() > segment_bytes && is_offload_error(&error) => {
                        // EIO: the device cannot. Anything else may be this path's alone.
                        self.offload &= error.raw_os_error() != Some(libc::EIO);
                        self.stats.offload_refused += 1;
                        let rest = &transmit.contents[taken_bytes..];
                        return self.send_singly(transmit.to, rest, segment_bytes, taken_bytes);
                    }
                    Err(error) => {
                        self.note_error(&error, transmit.to, batch.len());
                        taken_bytes += batch.len();
                    }
                }
            }
            return Sent::Done;
        }
        self.send_singly(transmit.to, &transmit.contents, segment_bytes, 0)
    }

    fn send_singly(
        &mut self,
        to: SocketAddr,
        contents: &[u8],
        segment_bytes: usize,
        mut taken_bytes: usize,
    ) -> Sent {
        for datagram in contents.chunks(segment_bytes) {
            match self.send_call(to, datagram, segment_bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Sent::Blocked { taken_bytes };
                }
                Err(error) => self.note_error(&error, to, datagram.len()),
            }
            taken_bytes += datagram.len();
        }
        Sent::Done
    }

    fn note_error(&mut self, error: &io::Error, to: SocketAddr, bytes: usize) {
        self.stats.send_errors += 1;
        if matches!(self.too_large, TooLarge::No) && error.raw_os_error() == Some(libc::EMSGSIZE) {
            self.too_large = TooLarge::Met { to, bytes };
        }
    }

    /// The first datagram that was larger than the path to its peer takes; told once.
    pub fn take_too_large(&mut self) -> Option<(SocketAddr, usize)> {
        let TooLarge::Met { to, bytes } = self.too_large else { return None };
        self.too_large = TooLarge::Told;
        Some((to, bytes))
    }

    fn send_call(
        &mut self,
        to: SocketAddr,
        contents: &[u8],
        segment_bytes: usize,
    ) -> io::Result<()> {
        self.stats.send_calls += 1;
        let transmit = quinn_udp::Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: (contents.len() > segment_bytes).then_some(segment_bytes),
            src_ip: None,
        };
        let attempt = || self.state.try_send((&self.io).into(), &transmit);
        match attempt() {
            // Once more through the runtime, so that it knows to wait for writability.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.io.try_io(Interest::WRITABLE, attempt)
            }
            result => result,
        }
    }
}

enum Sent {
    /// Sent, or lost as on a network.
    Done,
    /// The kernel takes no more; the first bytes, whole datagrams, are gone.
    Blocked { taken_bytes: usize },
}

fn is_offload_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netem::{LinkConfig, NetemConfig};
    use crate::transport::{Transport, TransportConfig, TransportEvent};
    use bytes::Bytes;
    use std::time::Duration;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    struct End {
        socket: NodeSocket,
        transport: Transport,
        got: Vec<Bytes>,
    }

    impl End {
        fn new(epoch: u64, config: TransportConfig, netem: Option<Netem>) -> Self {
            let socket = NodeSocket::bind(any(), SocketConfig::default(), netem).unwrap();
            Self { socket, transport: Transport::new(config, epoch, epoch), got: Vec::new() }
        }

        /// One round of a driver's loop; waits a little when there is nothing to do.
        async fn turn(&mut self, origin: std::time::Instant) {
            let clock = || Instant::from_nanos(origin.elapsed().as_nanos() as u64 + 1);
            let timers = [self.transport.poll_timeout(), self.socket.poll_timeout()];
            let wait =
                timers.into_iter().flatten().min().map_or(Duration::MAX, |t| t.since(clock()));
            tokio::select! {
                ready = self.socket.readable() => ready.unwrap(),
                ready = self.socket.writable() => ready.unwrap(),
                () = tokio::time::sleep(wait.min(Duration::from_millis(1))) => {}
            }
            let now = clock();
            let transport = &mut self.transport;
            self.socket.recv_batch(|from, bytes| transport.handle_datagram(now, from, bytes));
            self.transport.handle_timeout(now);
            self.socket.deliver_due(now);
            self.socket.flush();
            while let Some(transmit) = self.transport.poll_transmit(now) {
                self.socket.send(now, transmit);
            }
            while let Some(event) = self.transport.poll_event() {
                if let TransportEvent::Message { bytes, .. } = event {
                    self.got.push(bytes);
                }
            }
        }
    }

    fn exchange(config: &TransportConfig, link: Option<LinkConfig>) -> (End, End) {
        let netem = |seed| {
            let config = NetemConfig { link: link.clone()?, ..NetemConfig::default() };
            Some(Netem::new(config, seed))
        };
        runtime().block_on(async {
            let mut a = End::new(1, config.clone(), netem(1));
            let mut b = End::new(2, config.clone(), netem(2));
            let origin = std::time::Instant::now();
            let to = b.socket.local_addr();
            for number in 0..200_usize {
                let bytes = Bytes::from(vec![number as u8; 10 + number * 300]);
                a.transport.send(Instant::from_nanos(1), to, &[bytes]).unwrap();
            }
            while b.got.len() < 200 {
                assert!(origin.elapsed() < Duration::from_secs(20), "{} arrived", b.got.len());
                a.turn(origin).await;
                b.turn(origin).await;
            }
            (a, b)
        })
    }

    #[test]
    fn messages_cross_the_loopback() {
        for config in [TransportConfig::default(), TransportConfig::for_ethernet()] {
            let (a, mut b) = exchange(&config, None);
            b.got.sort_by_key(Bytes::len);
            for (number, bytes) in b.got.iter().enumerate() {
                assert_eq!((bytes.len(), bytes[0]), (10 + number * 300, number as u8));
            }
            assert_eq!(a.socket.stats().send_errors, 0);
            assert!(a.socket.stats().send_calls < a.transport.stats().datagrams_sent);
        }
    }

    #[test]
    fn messages_cross_an_emulated_network() {
        let link = LinkConfig { loss: 0.1, delay_ms: 1.0, jitter_ms: 0.5, ..LinkConfig::default() };
        let (mut a, _) = exchange(&TransportConfig::for_ethernet(), Some(link));
        assert!(a.socket.netem_mut().unwrap().stats().lost > 0);
        assert!(a.transport.stats().bytes_retransmitted > 0);
    }

    #[test]
    fn an_address_in_use_is_named() {
        runtime().block_on(async {
            let first = NodeSocket::bind(any(), SocketConfig::default(), None).unwrap();
            let error = NodeSocket::bind(first.local_addr(), SocketConfig::default(), None);
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&format!("{} is in use", first.local_addr())), "{text}");
        });
    }

    #[test]
    fn a_datagram_too_large_for_the_path_is_counted_not_fatal() {
        runtime().block_on(async {
            let mut a = NodeSocket::bind(any(), SocketConfig::default(), None).unwrap();
            let to = a.local_addr();
            let contents = vec![0; 70_000];
            a.send(Instant::ZERO, Transmit { to, segment_bytes: 70_000, contents });
            assert_eq!(a.stats().send_errors, 1);
            assert_eq!(a.take_too_large(), Some((to, 70_000)));
            assert_eq!(a.take_too_large(), None, "told once");
        });
    }
}
