use std::collections::{BTreeMap, BTreeSet};

use proto::method::Method;

use super::*;

/// What can be known of a family from its text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    kind: String,
    labels: BTreeSet<String>,
    ends: Vec<String>,
}

const RECORDED: &str = include_str!("../../testdata/metrics.txt");

/// Families that appear only when something has gone wrong, or with a snapshot between members:
/// these are named after etcd's source, not recorded.
const SELDOM: [&str; 11] = [
    "etcd_network_peer_received_failures_total",
    "etcd_network_server_stream_failures_total",
    "etcd_network_snapshot_receive_failures",
    "etcd_network_snapshot_receive_inflights_total",
    "etcd_network_snapshot_receive_success",
    "etcd_network_snapshot_receive_total_duration_seconds",
    "etcd_network_snapshot_send_failures",
    "etcd_network_snapshot_send_inflights_total",
    "etcd_network_snapshot_send_success",
    "etcd_network_snapshot_send_total_duration_seconds",
    "etcd_server_learner_promote_failures",
];

#[test]
fn every_family_has_the_name_type_labels_and_buckets_of_etcds() {
    let ours = shapes(&busy().render(|_| ()));
    let recorded: BTreeMap<_, _> = RECORDED.lines().filter_map(recorded_shape).collect();
    for (name, shape) in &recorded {
        assert_eq!(ours.get(name), Some(shape), "{name}");
    }
    let beyond: Vec<_> = ours.keys().filter(|name| !recorded.contains_key(*name)).collect();
    assert_eq!(beyond, SELDOM);
}

#[test]
fn a_fresh_member_shows_every_method_and_code_at_zero() {
    let text = Metrics::new(false).render(|_| ());
    let handled = text.lines().filter(|l| l.starts_with("grpc_server_handled_total{")).count();
    assert_eq!(handled, Method::ALL.len() * 17);
    assert!(!text.contains("grpc_server_handling_seconds"), "only shown when asked for");
    let line = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",\
                grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 0\n";
    assert!(text.contains(line));
    assert!(text.contains("\netcd_server_has_leader 0\n"));
}

/// Alerts wait for the 0.
#[test]
fn a_peer_that_was_lost_is_shown_as_inactive() {
    let metrics = Metrics::new(false);
    metrics.peers.set_local(1);
    let line = |n| format!("\netcd_network_active_peers{{Local=\"1\",Remote=\"2\"}} {n}\n");
    let peer = metrics.peers.peer(2);
    peer.is_known.set(1);
    assert!(!metrics.render(|_| ()).contains("\netcd_network_active_peers{"), "never met");
    peer.is_active.set(1);
    assert!(metrics.render(|_| ()).contains(&line(1)));
    peer.is_active.set(0);
    peer.disconnected.inc();
    assert!(metrics.render(|_| ()).contains(&line(0)));
}

#[test]
fn a_scrape_first_reads_what_is_kept_elsewhere() {
    let metrics = Metrics::new(false);
    metrics.wal_fsync.observe(Duration::from_micros(1500));
    let text = metrics.render(|m| m.db_size.set(20_480_000));
    assert!(text.contains("\netcd_mvcc_db_total_size_in_bytes 2.048e+07\n"));
    assert!(text.contains("wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0\n"));
    assert!(text.contains("wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1\n"));
    assert!(text.contains("wal_fsync_duration_seconds_sum 0.0015\n"));
}

#[test]
fn the_process_tells_its_memory_and_files() {
    let text = Metrics::new(false).render(|_| ());
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("it is shown");
        line.trim().parse().expect("a number")
    };
    assert!(value("process_resident_memory_bytes ") > 500_000.0);
    assert!(value("process_open_fds ") >= 3.0);
    assert!(value("process_max_fds ") >= value("process_open_fds "));
    assert!(value("process_start_time_seconds ") > 1.7e9);
}

/// Metrics in which every family has a sample.
fn busy() -> Metrics {
    let metrics = Metrics::new(true);
    let moment = Duration::from_millis(1);
    metrics.cluster_version.set("3.7");
    metrics.server_version.set("3.7.1");
    metrics.server_id.set("1");
    metrics.go_version.set("none");
    metrics.alarms.set(&[(1, "NOSPACE")]);
    metrics.features.set(vec![Feature { name: "AllBeta", stage: "BETA", enabled: false }]);
    metrics.apply.of(Operation::Put, true).observe(moment);
    metrics.request.of(Operation::Put, false).observe(moment);
    metrics.range.of(true).observe(moment);
    let version = metrics.client_requests.version(None);
    metrics.client_requests.count(version, CallType::Unary);
    metrics.last_checks.set(Check::ReadyzNonLearner, true);
    metrics.check_runs.inc(Check::ReadyzNonLearner, true);
    metrics.stream_failures.watch_send.inc();
    metrics.promote_failures.inc("because");
    metrics.peers.set_local(1);
    let peer = metrics.peers.peer(2);
    peer.is_known.set(1);
    peer.is_active.set(1);
    peer.round_trip.observe(moment);
    let counters = [
        &peer.disconnected,
        &peer.received_bytes,
        &peer.received_failures,
        &peer.sent_bytes,
        &peer.sent_failures,
    ];
    counters.iter().for_each(|counter| counter.inc());
    for snapshots in [&peer.snapshots_received, &peer.snapshots_sent] {
        snapshots.took.observe(moment);
        snapshots.failures.inc();
        snapshots.success.inc();
    }
    metrics
}

fn recorded_shape(line: &str) -> Option<(String, Shape)> {
    if line.starts_with('#') {
        return None;
    }
    let mut words = line.split(' ');
    let (name, kind, labels) = (words.next()?, words.next()?, words.next()?);
    let labels = labels.trim_matches(['{', '}']).split(',').filter(|l| !l.is_empty());
    let labels = labels.map(str::to_owned).collect();
    let shape = Shape { kind: kind.to_owned(), labels, ends: words.map(str::to_owned).collect() };
    Some((name.to_owned(), shape))
}

fn shapes(text: &str) -> BTreeMap<String, Shape> {
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.starts_with("# HELP")) {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a name and a type");
            current = name.to_owned();
            let shape = Shape { kind: kind.to_owned(), ..Shape::default() };
            assert!(shapes.insert(current.clone(), shape).is_none(), "{name} comes twice");
            continue;
        }
        assert!(line.starts_with(&current), "{line} is not of {current}");
        let shape = shapes.get_mut(&current).expect("begun above");
        let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        for label in labels.into_iter().flat_map(|(labels, _)| labels.split("\",")) {
            let (name, value) = label.split_once("=\"").expect("a label and its value");
            let value = value.trim_end_matches('"').to_owned();
            match name {
                "le" if shape.ends.contains(&value) => {}
                "le" => shape.ends.push(value),
                _ => drop(shape.labels.insert(name.to_owned())),
            }
        }
    }
    shapes
}
