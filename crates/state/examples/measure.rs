//! How fast the state is with a million keys, and how much memory they take.
//!
//! `cargo run --release -p state --example measure [folder] [keys]`

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use bytes::{Bytes, BytesMut};
use proto::etcdserverpb::{LeaseGrantRequest, PutRequest, RangeRequest, RequestHeader};
use proto::raft_request::{self, Body};
use state::lease::{LeaseId, Renewal};
use state::{Config, State, lease};
use storage::disk::real::RealDisk;
use storage::revlog::{self, Hurry};

fn config() -> Config {
    Config {
        cluster_id: 1,
        member_id: 1,
        quota_bytes: -1,
        lease: lease::Config {
            ttl_min: 2,
            checkpoint: false,
            checkpoint_persist: false,
            checkpoint_interval_ms: lease::CHECKPOINT_INTERVAL_MS,
        },
        learners_max: 1,
        store: revlog::Config::default(),
    }
}

/// Resident memory, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("0 0");
    1024 * line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A key of 60 bytes, in an order that is none.
fn key(n: u64) -> Bytes {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("/registry/pods/namespace-{:04}/some-workload-{mixed:020x}", mixed % 1_000).into()
}

fn entry(kind: Body, request: &impl proto::prost::Message) -> Bytes {
    let mut entry = BytesMut::new();
    raft_request::frame_message(kind, &RequestHeader::default(), request, &mut entry);
    entry.freeze()
}

/// How long this thread has been running, whatever else the machine had to do.
fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

struct Report {
    began: Duration,
}

impl Report {
    fn done(&mut self, what: &str, n: u64) {
        let elapsed = busy() - self.began;
        let each = elapsed.as_nanos() as f64 / n as f64;
        let _ = writeln!(io::stdout(), "{what:34} {elapsed:>10.2?} {each:>10.0} ns each");
        self.began = busy();
    }
}

fn main() {
    let dir = env::args().nth(1).map_or_else(|| env::temp_dir().join("measure"), PathBuf::from);
    let n: u64 = env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let _ = fs::remove_dir_all(&dir);
    let mut state = State::open(Arc::new(RealDisk), &dir, config()).expect("an empty folder");
    let value = Bytes::from(vec![b'v'; 256]);
    let put = |i| {
        let put = PutRequest { key: key(i), value: value.clone(), ..PutRequest::default() };
        entry(Body::Put, &put)
    };
    let entries: Vec<_> = (0..n).map(put).collect();
    let mut out = Vec::new();
    let before = resident();
    let mut report = Report { began: busy() };
    for (i, entry) in entries.iter().enumerate() {
        out.clear();
        state.apply(i as u64 + 1, 1, entry, true, &mut out).expect("a disk that works");
    }
    report.done("put, new keys", n);
    let _ = writeln!(io::stdout(), "{:34} {} bytes a key", "memory", (resident() - before) / n);
    report.began = busy();
    state.checkpoint().commit(&mut Hurry).expect("a disk that works");
    report.done("checkpoint", 1);
    reads(&state, n, &mut report);
    leases(&mut state, n, &mut report);
    drop(state);
    report.began = busy();
    let state = State::open(Arc::new(RealDisk), &dir, config()).expect("what was written");
    report.done("open", state.n_keys() as u64);
    reads(&state, n, &mut report);
    drop(state);
    let _ = fs::remove_dir_all(&dir);
}

fn reads(state: &State, n: u64, report: &mut Report) {
    let mut out = Vec::new();
    let keys: Vec<_> = (0..n).map(|i| key(i * 7 % n)).collect();
    report.began = busy();
    for key in keys {
        out.clear();
        let get = RangeRequest { key, ..RangeRequest::default() };
        state.range(&get, &mut out).expect("a key that is there");
    }
    report.done("get", n);
    let all = RangeRequest {
        key: Bytes::from_static(b"/"),
        range_end: Bytes::from_static(b"0"),
        ..RangeRequest::default()
    };
    let counted = RangeRequest { count_only: true, ..all.clone() };
    state.range(&counted, &mut out).expect("a range");
    report.done("count", n);
    out = Vec::with_capacity(n as usize * 128);
    report.began = busy();
    state.range(&RangeRequest { keys_only: true, ..all.clone() }, &mut out).expect("a range");
    report.done("range, keys alone", n);
    out = Vec::with_capacity(n as usize * 512);
    report.began = busy();
    state.range(&all, &mut out).expect("a range");
    report.done("range, with values", n);
}

fn leases(state: &mut State, n: u64, report: &mut Report) {
    let n_leases = (n / 4).max(1);
    state.promote(1, 0, 0);
    for i in 0..n_leases {
        let grant = LeaseGrantRequest { id: 1 + i as i64 * 977, ttl: 60 };
        let entry = entry(Body::LeaseGrant, &grant);
        state.apply(n + i + 1, 1, &entry, false, &mut Vec::new()).expect("a disk that works");
    }
    report.done("lease grant", n_leases);
    for i in 0..n_leases {
        let id = LeaseId(1 + (i * 7 % n_leases) as i64 * 977);
        let renewed = state.leases().renew(id, 1_000);
        assert_eq!(renewed, Renewal::Renewed { ttl: 60 });
    }
    report.done("lease renew", n_leases);
}
