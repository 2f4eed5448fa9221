//! What travels between this member and each of the others: `etcd_network_*`.
//!
//! The thread that serves a peer asks for its numbers once and then keeps them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::number::{Counter, Gauge, Histogram, Scale};
use super::text::{Kind, Samples};

/// Members whose numbers are shown. Beyond them they are counted, but nobody sees it.
const PEERS_MAX: usize = 128;

const SNAPSHOT: Scale = Scale::seconds(Duration::from_millis(100), 10);
const ROUND_TRIP: Scale = Scale::seconds(Duration::from_micros(100), 16);

/// One other member's numbers.
#[derive(Debug)]
pub struct Peer {
    id: u64,
    pub is_known: Gauge,
    pub is_active: Gauge,
    pub disconnected: Counter,
    pub received_bytes: Counter,
    pub received_failures: Counter,
    pub round_trip: Histogram,
    pub sent_bytes: Counter,
    pub sent_failures: Counter,
    pub snapshots_received: Snapshots,
    pub snapshots_sent: Snapshots,
}

/// Snapshots in one direction.
#[derive(Debug)]
pub struct Snapshots {
    pub inflight: Gauge,
    pub failures: Counter,
    pub success: Counter,
    pub took: Histogram,
}

impl Snapshots {
    fn new() -> Self {
        Self {
            inflight: Gauge::default(),
            failures: Counter::default(),
            success: Counter::default(),
            took: Histogram::new(SNAPSHOT),
        }
    }
}

impl Peer {
    fn new(id: u64) -> Self {
        Self {
            id,
            is_known: Gauge::default(),
            is_active: Gauge::default(),
            disconnected: Counter::default(),
            received_bytes: Counter::default(),
            received_failures: Counter::default(),
            round_trip: Histogram::new(ROUND_TRIP),
            sent_bytes: Counter::default(),
            sent_failures: Counter::default(),
            snapshots_received: Snapshots::new(),
            snapshots_sent: Snapshots::new(),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Peers {
    local: RwLock<String>,
    /// Sorted by id.
    peers: RwLock<Vec<Arc<Peer>>>,
}

impl Peers {
    /// Says who this member is.
    pub fn set_local(&self, id: u64) {
        *self.local.write().unwrap_or_else(PoisonError::into_inner) = format!("{id:x}");
    }

    /// The numbers of a member, which are kept until the process ends.
    pub fn peer(&self, id: u64) -> Arc<Peer> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        match peers.binary_search_by_key(&id, |peer| peer.id) {
            Ok(at) => Arc::clone(&peers[at]),
            Err(at) => {
                let peer = Arc::new(Peer::new(id));
                if peers.len() < PEERS_MAX {
                    peers.insert(at, Arc::clone(&peer));
                }
                peer
            }
        }
    }

    pub(super) fn render(&self, text: &mut String) {
        let local = self.local.read().unwrap_or_else(PoisonError::into_inner);
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let mut out = Rendering { text, local: &local, peers: &peers };
        out.pairs();
        out.traffic();
        out.snapshots("receive", "From", |peer| &peer.snapshots_received);
        out.snapshots("send", "To", |peer| &peer.snapshots_sent);
    }
}

struct Rendering<'a> {
    text: &'a mut String,
    local: &'a str,
    peers: &'a [Arc<Peer>],
}

impl Rendering<'_> {
    /// What is between two members, told by both their ids.
    fn pairs(&mut self) {
        let (text, local) = (&mut *self.text, self.local);
        let gauge = |text: &mut String, name: &str, help: &str, of: fn(&Peer) -> f64, kind| {
            let mut samples = Samples::new(text, name, kind, help);
            // A peer that was lost is still told of.
            let was_met = |peer: &&Arc<Peer>| of(peer) > 0.0 || peer.disconnected.get() > 0;
            for peer in self.peers.iter().filter(was_met) {
                let remote = format!("{:x}", peer.id);
                samples.number(&[("Local", local), ("Remote", &remote)], of(peer));
            }
        };
        let name = "etcd_network_active_peers";
        gauge(
            text,
            name,
            "Peers there is a connection to.",
            |p| p.is_active.get() as f64,
            Kind::Gauge,
        );
        let (name, help) = ("etcd_network_disconnected_peers_total", "Connections to peers lost.");
        gauge(text, name, help, |p| p.disconnected.get() as f64, Kind::Counter);
        let name = "etcd_network_known_peers";
        gauge(
            text,
            name,
            "Peers that are in the cluster.",
            |p| p.is_known.get() as f64,
            Kind::Gauge,
        );
    }

    fn traffic(&mut self) {
        self.counter("peer_received_bytes_total", "Bytes from a peer.", "From", |p| {
            &p.received_bytes
        });
        let help = "Messages from a peer that could not be taken.";
        self.counter("peer_received_failures_total", help, "From", |p| &p.received_failures);
        let help = "How long a message to a peer and back takes.";
        self.histogram("peer_round_trip_time_seconds", help, "To", |p| &p.round_trip);
        self.counter("peer_sent_bytes_total", "Bytes to a peer.", "To", |p| &p.sent_bytes);
        let help = "Messages to a peer that could not be sent.";
        self.counter("peer_sent_failures_total", help, "To", |p| &p.sent_failures);
    }

    fn snapshots(&mut self, verb: &str, label: &'static str, of: fn(&Peer) -> &Snapshots) {
        let name = |rest: &str| format!("snapshot_{verb}_{rest}");
        self.counter(&name("failures"), "Snapshots that failed.", label, |p| &of(p).failures);
        let inflights = format!("etcd_network_{}", name("inflights_total"));
        let help = "Snapshots under way.";
        let mut samples = Samples::new(self.text, &inflights, Kind::Gauge, help);
        for peer in self.peers.iter().filter(|peer| of(peer).took.count() > 0) {
            let id = format!("{:x}", peer.id);
            samples.number(&[(label, &id)], of(peer).inflight.get() as f64);
        }
        self.counter(&name("success"), "Snapshots that arrived.", label, |p| &of(p).success);
        let help = "How long a snapshot takes.";
        self.histogram(&name("total_duration_seconds"), help, label, |p| &of(p).took);
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        of: impl Fn(&Peer) -> &Counter,
    ) {
        let name = format!("etcd_network_{name}");
        let mut samples = Samples::new(self.text, &name, Kind::Counter, help);
        for peer in self.peers.iter().filter(|peer| of(peer).get() > 0) {
            let id = format!("{:x}", peer.id);
            samples.number(&[(label, &id)], of(peer).get() as f64);
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        of: impl Fn(&Peer) -> &Histogram,
    ) {
        let name = format!("etcd_network_{name}");
        let mut samples = Samples::new(self.text, &name, Kind::Histogram, help);
        for peer in self.peers.iter().filter(|peer| of(peer).count() > 0) {
            let id = format!("{:x}", peer.id);
            samples.histogram(&[(label, &id)], of(peer));
        }
    }
}
