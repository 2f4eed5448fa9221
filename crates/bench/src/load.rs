//! What is done to the servers, each load by its name.
//!
//! | module | what goes on the wire |
//! |---|---|
//! | `unary` | requests with one answer each, in a closed or an open loop |
//! | `keepalive` | leases kept alive on long streams |
//! | `watch` | one writer, many who hear of it |
//! | `whole` | what is not a rate: starting, memory |
//! | `space` | disk space that comes back, and puts meanwhile |
//!
//! Names say connections × requests in flight on each.

pub(crate) mod keepalive;
mod messages;
mod space;
pub(crate) mod unary;
pub(crate) mod watch;
pub(crate) mod whole;

use std::ops::RangeInclusive;

use proto::Method;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::http2::MESSAGE_HEAD_SIZE;
use crate::measure::{Sample, Setting, finish, measure};
use crate::process::Server;
use crate::request::{Order, Requests, compare_and_put, get, put, puts, range, value};
use keepalive::KeepAlive;
use unary::{Loop, Unary};
use watch::Watch;
use whole::Whole;

pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) what: What,
}

#[derive(Clone, Copy)]
pub(crate) enum What {
    Rate(Rate),
    Whole(Whole),
}

/// A load whose answers are counted.
#[derive(Clone, Copy)]
pub(crate) enum Rate {
    Unary { ask: Ask, connections: usize, form: Loop },
    KeepAlive { connections: usize, in_flight: usize },
    Watch { connections: usize, watchers_each: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Put,
    Get,
    GetSerializable,
    Txn,
    Range { rows: u64 },
}

pub(crate) const VALUE_SIZE: usize = 256;
const ROW_SIZE: usize = 1024;

/// Keys that are written to at random, that are read, and that are read in ranges.
const N_WRITTEN: u64 = 100_000;
const N_READ: u64 = 10_000;
const N_ROWS: u64 = 2000;

/// Puts to a transaction when a server is filled.
pub(crate) const FILL_BATCH: u64 = 100;
const FILL_BATCH_OF_ROWS: u64 = 40; // Within the window a server first allows.
pub(crate) const FILL_CONNECTIONS: usize = 4;
pub(crate) const FILL_IN_FLIGHT: usize = 4;

const fn closed(name: &'static str, doc: &'static str, ask: Ask, n: (usize, usize)) -> Named {
    let form = Loop::Closed { in_flight: n.1 };
    Named { name, doc, what: What::Rate(Rate::Unary { ask, connections: n.0, form }) }
}

const fn open(name: &'static str, doc: &'static str, ask: Ask, per_second: u64) -> Named {
    let form = Loop::Open { per_second };
    Named { name, doc, what: What::Rate(Rate::Unary { ask, connections: 10, form }) }
}

const fn watch(name: &'static str, doc: &'static str, n: (usize, usize)) -> Named {
    let rate = Rate::Watch { connections: n.0, watchers_each: n.1 };
    Named { name, doc, what: What::Rate(rate) }
}

const fn whole(name: &'static str, doc: &'static str, whole: Whole) -> Named {
    Named { name, doc, what: What::Whole(whole) }
}

/// Every load, in the order they are run and told.
pub(crate) const LOADS: &[Named] = &[
    closed("put-1x1", "put, 256 B", Ask::Put, (1, 1)),
    closed("put-10x2", "put, 256 B", Ask::Put, (10, 2)),
    closed("put-10x20", "put, 256 B", Ask::Put, (10, 20)),
    closed("put-100x10", "put, 256 B", Ask::Put, (100, 10)),
    open("put-open-1000", "put, 256 B, 1000 due a second", Ask::Put, 1000),
    open("put-open-4000", "put, 256 B, 4000 due a second", Ask::Put, 4000),
    closed("get-1x1", "get, linearizable", Ask::Get, (1, 1)),
    closed("get-10x2", "get, linearizable", Ask::Get, (10, 2)),
    closed("get-10x20", "get, linearizable", Ask::Get, (10, 20)),
    closed("get-100x10", "get, linearizable", Ask::Get, (100, 10)),
    open("get-open-4000", "get, linearizable, 4000 due a second", Ask::Get, 4000),
    closed("get-serializable-1x1", "get, serializable", Ask::GetSerializable, (1, 1)),
    closed("get-serializable-10x20", "get, serializable", Ask::GetSerializable, (10, 20)),
    closed("txn-10x20", "compare + put, 256 B", Ask::Txn, (10, 20)),
    closed("range100", "100 rows of 1 KB, 10×2", Ask::Range { rows: 100 }, (10, 2)),
    closed("range1000", "1000 rows of 1 KB, 4×1", Ask::Range { rows: 1000 }, (4, 1)),
    Named {
        name: "keepalive-10x20",
        doc: "lease keepalive on one stream a connection",
        what: What::Rate(Rate::KeepAlive { connections: 10, in_flight: 20 }),
    },
    watch("watch-1x1000", "events: 1 connection of 1000 watchers", (1, 1000)),
    watch("watch-10x100", "events: 10 connections of 100 watchers", (10, 100)),
    watch("watch-1000x1", "events: 1000 connections of 1 watcher", (1000, 1)),
    whole("start-empty", "from start to first answer, empty", Whole::StartEmpty),
    whole("start-1m", "from start to first answer, and memory, with 1 M keys", Whole::StartMillion),
    whole("idle-10k", "memory of 10,000 idle connections", Whole::Idle),
    whole("space", "1 M puts over 100 k keys, then compaction under load", Whole::Space),
];

/// Writes what the loads read, and what they write over.
pub(crate) fn fill(server: &Server) -> Result<(), Failure> {
    for family in ["put", "txn"] {
        fill_family(server, family, VALUE_SIZE, FILL_BATCH, N_WRITTEN, N_WRITTEN)?;
    }
    fill_family(server, "get", VALUE_SIZE, FILL_BATCH, N_READ, N_READ)?;
    fill_family(server, "range", ROW_SIZE, FILL_BATCH_OF_ROWS, N_ROWS, N_ROWS)
}

/// So many puts over so many keys, in order.
pub(crate) fn fill_family(
    server: &Server,
    family: &str,
    value_size: usize,
    batch: u64,
    n_puts: u64,
    n_keys: u64,
) -> Result<(), Failure> {
    let message = puts(family, &value(value_size), batch);
    let requests = Requests::new(Method::Txn, &message, Order::rising(batch, n_keys));
    let mut fleet = Fleet::connect(server.address, FILL_CONNECTIONS)?;
    let form = Loop::Closed { in_flight: FILL_IN_FLIGHT };
    let mut load = Unary::new(requests, form, FILL_CONNECTIONS).limited(n_puts.div_ceil(batch));
    finish(&mut fleet, &mut load)
}

impl Ask {
    fn requests(self) -> Requests {
        let written = || Order::random(N_WRITTEN);
        match self {
            Self::Put => Requests::new(Method::Put, &put("put", value(VALUE_SIZE)), written()),
            Self::Txn => {
                let txn = compare_and_put("txn", value(VALUE_SIZE));
                Requests::new(Method::Txn, &txn, written())
            }
            Self::Get => Requests::new(Method::Range, &get("get", false), Order::random(N_READ)),
            Self::GetSerializable => {
                Requests::new(Method::Range, &get("get", true), Order::random(N_READ))
            }
            Self::Range { rows } => {
                let order = Order::random(N_ROWS - rows + 1);
                Requests::new(Method::Range, &range("range", rows), order)
            }
        }
    }

    /// How many bytes an answer may have: enough to hold what was asked for, and too few to hold
    /// what a transaction answers whose condition failed.
    fn answer_sizes(self) -> RangeInclusive<usize> {
        match self {
            Self::Put | Self::Txn => MESSAGE_HEAD_SIZE..=VALUE_SIZE,
            Self::Get | Self::GetSerializable => VALUE_SIZE..=usize::MAX,
            Self::Range { rows } => rows as usize * ROW_SIZE..=usize::MAX,
        }
    }
}

impl Rate {
    /// Measures it once.
    pub(crate) fn run(self, server: &mut Server, setting: Setting) -> Result<Sample, Failure> {
        match self {
            Self::Unary { ask, connections, form } => {
                let mut fleet = Fleet::connect(server.address, connections)?;
                let load = Unary::new(ask.requests(), form, connections);
                let mut load = load.with_answers_of(ask.answer_sizes());
                measure(server, &mut fleet, &mut load, setting)
            }
            Self::KeepAlive { connections, in_flight } => {
                let mut load = KeepAlive::prepare(server, connections, in_flight)?;
                let mut fleet = Fleet::connect(server.address, connections)?;
                measure(server, &mut fleet, &mut load, setting)
            }
            Self::Watch { connections, watchers_each } => {
                let mut fleet = Fleet::connect(server.address, connections + 1)?;
                let mut load = Watch::prepare(&mut fleet, connections, watchers_each)?;
                measure(server, &mut fleet, &mut load, setting)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_loads_share_a_name() {
        for (n, load) in LOADS.iter().enumerate() {
            assert!(LOADS[..n].iter().all(|other| other.name != load.name), "{}", load.name);
        }
    }
}
