//! Members whose cables are pulled, while clients can still reach all of them.
//!
//! ```text
//!        this test (a relay at each member's port)
//!          │ client        │ client        │ client      a cable each
//!        ┌─┴──┐          ┌─┴──┐          ┌─┴──┐
//!        │ m0 │          │ m1 │          │ m2 │          a network namespace each
//!        └─┬──┘          └─┬──┘          └─┬──┘
//!          └──── peer ─────┴──────┬────────┘             a bridge in one more: what is cut
//! ```
//!
//! A cable out of the bridge cuts both ways and says nothing to either side. One way is cut by routes
//! that lead nowhere. This takes root and iproute2; for others nothing is tested.

use std::process::{self as this, Command, Stdio};
use std::time::Duration;

use proto::Method;
use proto::etcdserverpb::RangeResponse;
use stdx::tool;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::fleet::{Fleet, Place, Program};
use super::load::{Asked, Done, Load, N_KEYS};
use super::{answered, judged, put};
use crate::support::block_on;
use crate::support::process::anything;

const MEMBERS: usize = 3;
const CLIENTS: u64 = 8;
/// Longer than any election takes: what is not answered by then is not answered.
const SILENCE: Duration = Duration::from_secs(2);
/// Larger than any value of the load.
const VALUES_OF_OUR_OWN: u64 = 1 << 40;

#[derive(Clone, Copy, Debug)]
enum Cut {
    Both,
    /// Others don't hear the member.
    Mute,
    /// The member doesn't hear the others.
    Deaf,
}

/// Namespaces, cables between them, and what is cut. They go with this.
struct Network {
    name: String,
    namespaces: Vec<String>,
}

impl Network {
    /// `None`, and a word about it, where namespaces are not for us.
    fn lay() -> Option<Self> {
        let mut network = Self { name: format!("rt{}", this::id()), namespaces: Vec::new() };
        let hub = network.hub();
        if !network.namespace(&hub) {
            tool::skipped("partitions", "network namespaces take root and iproute2");
            return None;
        }
        must(&format!("-n {hub} link add name br0 type bridge"));
        must(&format!("-n {hub} link set br0 up"));
        for at in 0..MEMBERS {
            network.connect(at);
        }
        Some(network)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn of(&self, at: usize) -> String {
        format!("{}-m{at}", self.name)
    }

    fn namespace(&mut self, name: &str) -> bool {
        let made = ip(&format!("netns add {name}"));
        if made {
            self.namespaces.push(name.to_owned());
        }
        made
    }

    /// A namespace with a cable to the bridge and one to us.
    fn connect(&mut self, at: usize) {
        let (name, member, hub) = (self.name.clone(), self.of(at), self.hub());
        assert!(self.namespace(&member), "no namespace {member}");
        let (client, peer, gate) = (client_host(at), peer_host(at), gate(at));
        for words in [
            format!("-n {member} link set lo up"),
            format!("link add name {name}c{at} type veth peer name client netns {member}"),
            format!("addr add {gate}/30 dev {name}c{at}"),
            format!("link set {name}c{at} up"),
            format!("-n {member} addr add {client}/30 dev client"),
            format!("-n {member} link set client up"),
            format!("-n {member} link add name peer type veth peer name m{at} netns {hub}"),
            format!("-n {member} addr add {peer}/24 dev peer"),
            format!("-n {member} link set peer up"),
            format!("-n {hub} link set m{at} master br0 up"),
        ] {
            must(&words);
        }
    }

    fn place(&self, at: usize) -> Place {
        Place { namespace: self.of(at), client_host: client_host(at), peer_host: peer_host(at) }
    }

    fn cut(&self, at: usize, cut: Cut) {
        if let Cut::Both = cut {
            return must(&format!("-n {} link set m{at} nomaster", self.hub()));
        }
        self.nowhere("add", at, cut);
    }

    fn heal(&self, at: usize, cut: Cut) {
        if let Cut::Both = cut {
            return must(&format!("-n {hub} link set m{at} master br0", hub = self.hub()));
        }
        self.nowhere("del", at, cut);
    }

    /// Adds or deletes routes that lead nowhere.
    fn nowhere(&self, verb: &str, at: usize, cut: Cut) {
        for other in (0..MEMBERS).filter(|other| *other != at) {
            let (from, to) = if let Cut::Mute = cut { (at, other) } else { (other, at) };
            must(&format!("-n {} route {verb} blackhole {}/32", self.of(from), peer_host(to)));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            ip(&format!("netns del {namespace}"));
        }
    }
}

/// Addresses kept for tests of networks; those of two runs side by side differ.
fn client_net(at: usize, host: u32) -> String {
    format!("198.18.{}.{}", this::id() % 256, 4 * at as u32 + host)
}

fn gate(at: usize) -> String {
    client_net(at, 1)
}

fn client_host(at: usize) -> String {
    client_net(at, 2)
}

/// The bridge is in a namespace of its own: nobody else sees these.
fn peer_host(at: usize) -> String {
    format!("198.19.0.{}", at + 1)
}

fn ip(words: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn must(words: &str) {
    assert!(ip(words), "refused: ip {words}");
}

/// Takes connections to a port of ours to the same port of a member.
async fn relay(port: u16, host: String) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let host = host.clone();
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect((host, port)).await else { return };
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
}

#[test]
fn a_leader_cut_off_acknowledges_and_shows_nothing_and_the_others_go_on() {
    let Some(network) = Network::lay() else { return };
    block_on(async {
        let programs = (0..MEMBERS).map(|at| Program::Inside(network.place(at))).collect();
        let mut fleet = Fleet::seated("partition", programs, &[]);
        for (at, seat) in fleet.seats.iter_mut().enumerate() {
            relay(seat.home.client_port, client_host(at)).await;
            seat.start();
        }
        fleet.all_serve().await;
        let load = Load::begin(CLIENTS, 1, &fleet.ports());
        let mut ours = Vec::new();
        for cut in [Cut::Both, Cut::Mute, Cut::Deaf] {
            answered(&load, 100).await;
            let at = fleet.leader().await;
            let id = fleet.id(at).await;
            network.cut(at, cut);
            fleet.failover(id).await;
            let value = VALUES_OF_OUR_OWN + ours.len() as u64;
            silent(&fleet, at, value, cut).await;
            ours.push(Done { asked: Asked::Put { key: N_KEYS, value }, known: 0, told: None });
            answered(&load, 100).await;
            network.heal(at, cut);
            fleet.all_serve().await;
        }
        answered(&load, 100).await;
        let mut done = load.end().await;
        done.extend(ours);
        assert!(judged(&fleet, &done).await > 0);
    });
}

/// Neither writes nor linearizable reads are answered by a member cut off.
async fn silent(fleet: &Fleet, at: usize, value: u64, cut: Cut) {
    let client = fleet.seats[at].connect().await.expect("a relay");
    let anything = anything();
    let (write, read) = tokio::join!(
        timeout(SILENCE, put(&client, N_KEYS, value)),
        timeout(SILENCE, client.call::<RangeResponse>(Method::Range, &anything)),
    );
    assert!(!matches!(write, Ok(Ok(_))), "wrote while cut off ({cut:?}): {write:?}");
    assert!(!matches!(read, Ok(Ok(_))), "read while cut off ({cut:?}): {read:?}");
}
