//! The language of the scripts: one line a command, its words as a client would say them.
//!
//! A key or value is a word; `\0` in it is a zero byte, `*N` repeats what stands before N times. Options
//! follow as words or `name=number`. In a txn each operation stands in braces.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::*;
use proto::membershippb;
use proto::prost::Message;
use proto::raft_request::Body;

use super::show;
use super::world::{World, config};
use crate::lease::LeaseId;
use crate::membership::MemberChange;
use crate::{AtOnce, Fit, Stop, Turn, check};

/// A fresh interpreter for each script.
pub(super) fn interpreter() -> impl FnMut(&[&str]) -> String {
    let mut world = World::new(1);
    move |commands: &[&str]| {
        let mut answers = String::new();
        for command in commands {
            let answer = run(&mut world, command);
            let answer = answer.unwrap_or_else(|refusal| format!("refused: {refusal}"));
            if !answer.is_empty() {
                for line in answer.lines() {
                    answers += line.trim_end();
                    answers.push('\n');
                }
            }
        }
        answers
    }
}

/// The words of a command: positions, then options by name.
struct Words<'a> {
    plain: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

const FLAGS: [&str; 14] = [
    "prev",
    "keys",
    "count",
    "noput",
    "nodelete",
    "fragment",
    "progress",
    "ignore_value",
    "ignore_lease",
    "denied",
    "held",
    "all",
    "learner",
    "put_between",
];

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        let mut words = Self { plain: Vec::new(), options: BTreeMap::new() };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) if !name.is_empty() => drop(words.options.insert(name, value)),
                _ if FLAGS.contains(&word) => drop(words.options.insert(word, "")),
                _ => words.plain.push(word),
            }
        }
        words
    }

    fn word(&self, i: usize) -> &'a str {
        self.plain.get(i).copied().unwrap_or_default()
    }

    fn bytes(&self, i: usize) -> Bytes {
        bytes(self.word(i))
    }

    fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    fn number(&self, name: &str) -> i64 {
        self.options.get(name).map_or(0, |n| n.parse().expect("a number"))
    }

    fn n(&self, i: usize) -> i64 {
        self.word(i).parse().unwrap_or_else(|_| panic!("{:?} is no number", self.word(i)))
    }
}

fn bytes(word: &str) -> Bytes {
    if let Some((unit, n)) = word.split_once('*') {
        return unit.repeat(n.parse().expect("how often")).into();
    }
    word.replace("\\0", "\0").replace("\"\"", "").into_bytes().into()
}

type Answer = Result<String, String>;

fn run(world: &mut World, line: &str) -> Answer {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words = Words::new(rest);
    match command {
        "put" | "del" | "txn" | "compact" => write(world, command, rest, &words),
        "get" => get(world, &words),
        "stream" => stream(world, &words),
        "grant" | "revoke" | "checkpoint_lease" | "leases" | "ttl" | "renew" | "time"
        | "expired" | "due" | "promote" | "demote" => lease(world, command, &words),
        "watch" | "cancel" | "ask" | "tick" | "read" | "room" | "deliver" | "pump" | "overflow"
        | "settle" => watch(world, command, &words),
        "alarm" => alarm(world, &words),
        "member" | "version" | "downgrade" | "attributes" | "members" => {
            members(world, command, &words)
        }
        "auth" => world
            .ask::<AuthenticateResponse>(Body::Authenticate, &no_request())
            .map(|_| "ok".into()),
        "auth_enable" => world
            .ask::<AuthEnableResponse>(Body::AuthEnable, &AuthEnableRequest {})
            .map(|_| "ok".into()),
        _ => store(world, command, &words),
    }
}

fn no_request() -> InternalAuthenticateRequest {
    InternalAuthenticateRequest::default()
}

fn store(world: &mut World, command: &str, words: &Words<'_>) -> Answer {
    match command {
        "open" => {
            let quota_bytes = words.number("quota");
            *world = World::with(1, crate::Config { quota_bytes, ..config() });
        }
        "prune" => world.prune(),
        "prune_turn" => {
            world.state.prune_turn();
        }
        "checkpoint" => world.checkpoint(),
        "crash" => world.crash(),
        "collect" => {
            let before = world.state.size().on_disk;
            while world.collect() {
                world.checkpoint();
            }
            assert!(world.state.size().on_disk < before, "collecting gives space back");
        }
        "status" => {
            let (index, _) = world.state.applied();
            let (head, compacted) = (world.state.head(), world.state.compacted());
            let n_keys = world.state.n_keys();
            return Ok(format!(
                "applied {index}, head {head}, compacted {compacted}, {n_keys} keys in the index"
            ));
        }
        "hash" => {
            let hash = world.hash(words.word(0).parse().unwrap_or(0))?;
            return Ok(format!(
                "{:08x} at {}, compacted {}",
                hash.hash, hash.revision, hash.compact_revision
            ));
        }
        "hashes" => {
            let lines = world.state.hashes().map(|h| {
                format!("{:08x} at {}, compacted {}", h.hash, h.revision, h.compact_revision)
            });
            return Ok(lines.collect::<Vec<_>>().join("\n"));
        }
        _ => panic!("no such command: {command}"),
    }
    Ok(String::new())
}

fn put_request(words: &Words<'_>) -> PutRequest {
    PutRequest {
        key: words.bytes(0),
        value: words.bytes(1),
        lease: words.number("lease"),
        prev_kv: words.has("prev"),
        ignore_value: words.has("ignore_value"),
        ignore_lease: words.has("ignore_lease"),
    }
}

fn delete_request(words: &Words<'_>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: words.bytes(0),
        range_end: words.bytes(1),
        prev_kv: words.has("prev"),
    }
}

fn range_request(words: &Words<'_>) -> RangeRequest {
    let sort = words.options.get("sort").copied().unwrap_or_default();
    let (target, order) = sort.split_once(':').unwrap_or((sort, "none"));
    let place = |names: [&str; 5], name: &str| {
        names
            .iter()
            .position(|n| *n == name)
            .map_or_else(|| name.parse().unwrap_or(0), |n| n as i32)
    };
    RangeRequest {
        key: words.bytes(0),
        range_end: words.bytes(1),
        limit: words.number("limit"),
        revision: words.number("rev"),
        sort_order: place(["none", "asc", "desc", "-", "-"], order),
        sort_target: place(["key", "version", "create", "mod", "value"], target),
        serializable: false,
        keys_only: words.has("keys"),
        count_only: words.has("count"),
        min_mod_revision: words.number("min_mod"),
        max_mod_revision: words.number("max_mod"),
        min_create_revision: words.number("min_create"),
        max_create_revision: words.number("max_create"),
    }
}

fn write(world: &mut World, command: &str, rest: &str, words: &Words<'_>) -> Answer {
    let text = |e: proto::Error| e.text().to_owned();
    let answer = match command {
        "put" => {
            let request = put_request(words);
            check::put(&request).map_err(text)?;
            show::put(&world.ask(Body::Put, &request)?)
        }
        "del" => {
            let request = delete_request(words);
            check::delete_range(&request).map_err(text)?;
            show::delete(&world.ask(Body::DeleteRange, &request)?)
        }
        "txn" => {
            let request = txn_request(rest);
            check::txn(&request, check::TXN_OPS_MAX_DEFAULT).map_err(text)?;
            if check::is_read_only(&request) {
                read_txn(world, &request)?
            } else {
                show::txn(&world.ask(Body::Txn, &request)?)
            }
        }
        _ => {
            let request = CompactionRequest { revision: words.n(0), physical: false };
            let response: CompactionResponse = world.ask(Body::Compaction, &request)?;
            format!("rev {}", response.header.expect("a header").revision)
        }
    };
    Ok(answer)
}

fn message(stop: Stop) -> String {
    match stop {
        Stop::Refused(status) => status.message.into_owned(),
        Stop::Fatal(fatal) => panic!("{fatal}"),
    }
}

fn read_txn(world: &World, request: &TxnRequest) -> Answer {
    let mut out = Vec::new();
    let fit = world.state.read_txn_within(request, AtOnce::ALL, &mut out).map_err(message)?;
    assert_eq!(fit, Fit::Whole);
    Ok(show::txn(&TxnResponse::decode(out.as_slice()).expect("a response")))
}

fn get(world: &World, words: &Words<'_>) -> Answer {
    let request = range_request(words);
    check::range(&request).map_err(|e| e.text().to_owned())?;
    let mut out = Vec::new();
    world.state.range(&request, &mut out).map_err(message)?;
    Ok(show::range(&RangeResponse::decode(out.as_slice()).expect("a response")))
}

fn stream(world: &mut World, words: &Words<'_>) -> Answer {
    let request = range_request(words);
    check::range_stream(&request).map_err(|status| status.message.into_owned())?;
    let mut stream = world.state.range_stream(request, words.number("size") as usize);
    let mut answer = Vec::new();
    loop {
        let mut out = Vec::new();
        let turn = world.state.range_stream_step(&mut stream, &mut out).map_err(message)?;
        let response = RangeStreamResponse::decode(out.as_slice()).expect("a response");
        let response = response.range_response.expect("a message holds a response");
        let n = response.kvs.len();
        let lines = show::range(&response);
        let first = lines.lines().next().expect("a line");
        answer.push(format!("{n} rows, {first}"));
        if turn == Turn::Last {
            return Ok(answer.join("\n"));
        }
        if words.has("put_between") {
            let key = Bytes::from_static(b"zz");
            let put = PutRequest { key, ..PutRequest::default() };
            world.ask::<PutResponse>(Body::Put, &put)?;
        }
        if let Some(revision) = words.options.get("compact_between") {
            let revision = revision.parse().expect("a number");
            let request = CompactionRequest { revision, physical: false };
            drop(world.ask::<CompactionResponse>(Body::Compaction, &request));
        }
    }
}

/// `if mod(a)=2 value(b)>x then {put a 1} {get b} else {del c}`
fn txn_request(text: &str) -> TxnRequest {
    let mut txn = TxnRequest::default();
    let mut part = "if";
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('{') {
            let end = closing(inner);
            let op = RequestOp { request: operation(&inner[..end]) };
            if part == "then" {
                txn.success.push(op);
            } else {
                txn.failure.push(op);
            }
            rest = inner[end + 1..].trim_start();
            continue;
        }
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after.trim_start();
        match word {
            "if" | "then" | "else" => part = word,
            comparison => txn.compare.push(compare(comparison)),
        }
    }
    txn
}

fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (i, c) in text.char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return i;
        }
    }
    panic!("a brace is open in {text:?}")
}

fn operation(text: &str) -> Option<Request> {
    let (command, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let words = Words::new(rest);
    Some(match command {
        "put" => Request::RequestPut(put_request(&words)),
        "get" => Request::RequestRange(range_request(&words)),
        "del" => Request::RequestDeleteRange(delete_request(&words)),
        "txn" => Request::RequestTxn(txn_request(rest)),
        "" => return None,
        _ => panic!("no such operation: {text}"),
    })
}

fn compare(text: &str) -> Compare {
    let (target, rest) = text.split_once('(').expect("a target");
    let (keys, rest) = rest.split_once(')').expect("a key");
    let (key, range_end) = keys.split_once(',').unwrap_or((keys, ""));
    let at = rest.find(|c: char| !"=!<>".contains(c)).unwrap_or(rest.len());
    let (operator, operand) = rest.split_at(at);
    let number = || operand.parse().expect("a number");
    let (target, union) = match target {
        "version" => (CompareTarget::Version, TargetUnion::Version(number())),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number())),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number())),
        "value" => (CompareTarget::Value, TargetUnion::Value(bytes(operand))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number())),
        // A value where a version is asked for.
        "mismatch" => (CompareTarget::Version, TargetUnion::Value(bytes(operand))),
        _ => panic!("no such target: {target}"),
    };
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => panic!("no such operator: {operator}"),
    };
    Compare {
        result: result as i32,
        target: target as i32,
        key: bytes(key),
        range_end: bytes(range_end),
        target_union: Some(union),
    }
}

fn lease(world: &mut World, command: &str, words: &Words<'_>) -> Answer {
    let now = world.now_ms;
    Ok(match command {
        "grant" => {
            let request = LeaseGrantRequest { id: words.n(0), ttl: words.n(1) };
            let response: LeaseGrantResponse = world.ask(Body::LeaseGrant, &request)?;
            format!("lease {} for {} s", response.id, response.ttl)
        }
        "revoke" => {
            let request = LeaseRevokeRequest { id: words.n(0) };
            let response: LeaseRevokeResponse = world.ask(Body::LeaseRevoke, &request)?;
            format!("rev {}", response.header.expect("a header").revision)
        }
        "checkpoint_lease" => {
            let one = LeaseCheckpoint { id: words.n(0), remaining_ttl: words.n(1) };
            let request = LeaseCheckpointRequest { checkpoints: vec![one] };
            let response: LeaseCheckpointResponse = world.ask(Body::LeaseCheckpoint, &request)?;
            format!("rev {}", response.header.expect("a header").revision)
        }
        "leases" => {
            let ids: Vec<_> =
                world.state.leases().list().iter().map(|id| id.0.to_string()).collect();
            format!("leases {}", ids.join(" "))
        }
        "ttl" => {
            let found = world.state.leases().time_to_live(LeaseId(words.n(0)), now);
            match found.map_err(|e| e.text().to_owned())? {
                None => "no such lease".to_owned(),
                Some(lease) => {
                    let keys: Vec<_> = lease.keys.iter().map(|key| show::bytes(key)).collect();
                    format!("{} of {} s left: {}", lease.ttl, lease.granted, keys.join(" "))
                }
            }
        }
        "renew" => format!("{:?}", world.state.leases().renew(LeaseId(words.n(0)), now)),
        "time" => {
            world.now_ms = words.n(0) as u64;
            world.state.tell(world.now_ms);
            String::new()
        }
        "expired" => {
            let ids = world.state.leases().expired(now, 500);
            format!("expired {:?}", ids.iter().map(|id| id.0).collect::<Vec<_>>())
        }
        "due" => format!("due {:?}", world.state.leases().due_checkpoints(now, 500)),
        "promote" => {
            world.state.promote(1, now, words.word(0).parse().unwrap_or(0));
            String::new()
        }
        _ => {
            world.state.demote();
            String::new()
        }
    })
}

fn watch(world: &mut World, command: &str, words: &Words<'_>) -> Answer {
    let stream: u32 = words.word(0).parse().unwrap_or(0);
    let request = |union| WatchRequest { request_union: Some(union) };
    match command {
        "watch" => {
            let create = watch_create_request(words);
            let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
            let permit = if words.has("denied") { Err(denied.to_owned()) } else { Ok(()) };
            world.watch(stream, request(RequestUnion::CreateRequest(create)), permit);
        }
        "cancel" => {
            let cancel = WatchCancelRequest { watch_id: words.n(1) };
            world.watch(stream, request(RequestUnion::CancelRequest(cancel)), Ok(()));
        }
        "ask" => {
            let ask = WatchProgressRequest {};
            world.watch(stream, request(RequestUnion::ProgressRequest(ask)), Ok(()));
        }
        "tick" => {
            let (stream, client) =
                world.streams.get_mut(&crate::watch::StreamId(stream)).expect("a stream");
            stream.tick(&world.state, client);
        }
        "room" => {
            let room = if words.has("all") { None } else { Some(words.n(1) as usize) };
            world.stream(stream).1.room = room;
        }
        "deliver" => assert!(world.deliver(), "nothing to deliver"),
        "overflow" => world.overflow(),
        "pump" => return Ok(format!("{:?}", world.pump(stream).expect("a stream"))),
        "settle" => world.settle(),
        _ => {
            if !words.has("held") {
                world.settle();
            }
            let responses = world.read(stream);
            let shown: Vec<_> = responses.iter().map(show::watch).collect();
            return Ok(if shown.is_empty() { "nothing".to_owned() } else { shown.join("\n") });
        }
    }
    Ok(String::new())
}

fn watch_create_request(words: &Words<'_>) -> WatchCreateRequest {
    let filter = |name, filter| words.has(name).then_some(filter);
    WatchCreateRequest {
        key: words.bytes(1),
        range_end: words.bytes(2),
        start_revision: words.number("rev"),
        progress_notify: words.has("progress"),
        filters: [filter("noput", 0), filter("nodelete", 1)].into_iter().flatten().collect(),
        prev_kv: words.has("prev"),
        watch_id: words.number("id"),
        fragment: words.has("fragment"),
    }
}

fn alarm(world: &mut World, words: &Words<'_>) -> Answer {
    let action = match words.word(0) {
        "raise" => alarm_request::AlarmAction::Activate,
        "disarm" => alarm_request::AlarmAction::Deactivate,
        _ => alarm_request::AlarmAction::Get,
    };
    let alarm = match words.word(1) {
        "nospace" => AlarmType::Nospace,
        "corrupt" => AlarmType::Corrupt,
        _ => AlarmType::None,
    };
    let member_id = words.word(2).parse().unwrap_or(0);
    let request = AlarmRequest { action: action as i32, member_id, alarm: alarm as i32 };
    let response: AlarmResponse = world.ask(Body::Alarm, &request)?;
    let show = |a: &AlarmMember| format!("{} {}", show::alarm(a.alarm), a.member_id);
    let alarms: Vec<_> = response.alarms.iter().map(show).collect();
    Ok(if alarms.is_empty() { "no alarms".to_owned() } else { alarms.join("\n") })
}

fn members(world: &mut World, command: &str, words: &Words<'_>) -> Answer {
    match command {
        "member" => {
            let change = member_change(words);
            let index = world.next_index();
            let checked = world.state.membership().check(&change);
            world.state.conf_change(index, 1, checked.is_ok().then_some(change));
            checked.map_err(|e| e.text().to_owned())?;
        }
        "attributes" => {
            let attributes = membershippb::Attributes {
                name: words.word(1).to_owned(),
                client_urls: vec![words.word(2).to_owned()],
            };
            let request = membershippb::ClusterMemberAttrSetRequest {
                member_id: words.n(0) as u64,
                member_attributes: Some(attributes),
            };
            world
                .apply(Body::ClusterMemberAttrSet, &request)
                .0
                .result
                .expect("it is never refused");
        }
        "version" => {
            let request = membershippb::ClusterVersionSetRequest { ver: words.word(0).to_owned() };
            world.apply(Body::ClusterVersionSet, &request).0.result.expect("it is never refused");
        }
        "downgrade" => {
            let ver = words.word(0).to_owned();
            let request = membershippb::DowngradeInfoSetRequest { enabled: !ver.is_empty(), ver };
            world.apply(Body::DowngradeInfoSet, &request).0.result.expect("it is never refused");
        }
        _ => {
            let membership = world.state.membership();
            let mut lines = vec![format!("version {:?}", membership.version())];
            let downgrade = membership.downgrade();
            lines.push(format!("downgrade {} {:?}", downgrade.enabled, downgrade.target));
            for member in membership.members() {
                let Member { id, name, peer_urls, client_urls, is_learner } = member;
                let learner = if *is_learner { " learner" } else { "" };
                lines.push(format!("{id} {name:?} {peer_urls:?} {client_urls:?}{learner}"));
            }
            return Ok(lines.join("\n"));
        }
    }
    Ok(String::new())
}

fn member_change(words: &Words<'_>) -> MemberChange {
    let id = words.n(1) as u64;
    let peer_urls = vec![words.word(2).to_owned()];
    match words.word(0) {
        "add" => {
            let is_learner = words.has("learner");
            MemberChange::Add(Member { id, peer_urls, is_learner, ..Member::default() })
        }
        "remove" => MemberChange::Remove { id },
        "update" => MemberChange::Update { id, peer_urls },
        "raise" => MemberChange::Promote { id },
        other => panic!("no such change: {other}"),
    }
}
