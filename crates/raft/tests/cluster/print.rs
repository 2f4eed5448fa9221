//! How messages and effects look in scripts.

use std::fmt::Write as _;

use bytes::Bytes;
use raft::{
    AppendReply, Body, ConfState, Dropped, Entry, EntryKind, Flow, Message, NodeId, Proposal,
    RoleKind, Status,
};

pub(crate) fn message(arrow: &str, m: &Message) -> String {
    let term = if m.term.0 > 0 { format!(" {}", m.term) } else { String::new() };
    format!("{} {arrow} {}{term} {}", m.from, m.to, body(&m.body))
}

pub(crate) fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::Append { .. } => "Append",
        Body::AppendReply(_) => "AppendReply",
        Body::Vote { pre: false, .. } => "Vote",
        Body::Vote { pre: true, .. } => "PreVote",
        Body::VoteReply { pre: false, .. } => "VoteReply",
        Body::VoteReply { pre: true, .. } => "PreVoteReply",
        Body::Heartbeat { .. } => "Heartbeat",
        Body::HeartbeatReply { .. } => "HeartbeatReply",
        Body::Snapshot(_) => "Snapshot",
        Body::TimeoutNow => "TimeoutNow",
        Body::TransferLeader => "TransferLeader",
        Body::ReadIndex { .. } => "Read",
        Body::ReadIndexReply { .. } => "ReadReply",
        Body::Propose { .. } => "Propose",
    }
}

fn body(body: &Body) -> String {
    let kind = kind_of(body);
    match body {
        Body::Append { prev, entries, commit } => {
            format!("{kind} base={prev} [{}] commit={commit}", ids(entries))
        }
        Body::AppendReply(AppendReply::Accepted { last }) => format!("{kind} ok={last}"),
        Body::AppendReply(AppendReply::Rejected { at, hint }) => {
            format!("{kind} no={at} hint={hint}")
        }
        Body::Vote { pre: _, last, transfer } => {
            format!("{kind} last={last}{}", if *transfer { " transfer" } else { "" })
        }
        Body::VoteReply { pre: _, granted: true, committed: _ } => format!("{kind} yes"),
        Body::VoteReply { pre: _, granted: false, committed } => {
            format!("{kind} no commit={committed}")
        }
        Body::Heartbeat { commit, context } => format!("{kind} commit={commit}{}", round(context)),
        Body::HeartbeatReply { context } => format!("{kind}{}", round(context)),
        Body::Snapshot(snapshot) => {
            format!("{kind} {} {}", snapshot.id(), conf(&snapshot.conf_state))
        }
        Body::TimeoutNow | Body::TransferLeader => kind.to_owned(),
        Body::ReadIndex { context } => format!("{kind} {context}"),
        Body::ReadIndexReply { context, index } => format!("{kind} {context} at {index}"),
        Body::Propose { entries } => {
            let texts: Vec<String> = entries.iter().map(proposal).collect();
            format!("{kind} [{}]", texts.join(" "))
        }
    }
}

fn proposal((kind, data): &Proposal) -> String {
    match kind {
        EntryKind::Normal => text(data),
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => format!("conf {}", text(data)),
    }
}

pub(crate) fn text(data: &Bytes) -> String {
    if data.len() > 16 {
        return format!("{} bytes", data.len());
    }
    format!("{:?}", String::from_utf8_lossy(data))
}

fn round(context: &Bytes) -> String {
    match <[u8; 8]>::try_from(context.as_ref()) {
        Ok(bytes) => format!(" round={}", u64::from_be_bytes(bytes)),
        Err(_) if context.is_empty() => String::new(),
        Err(_) => format!(" context={}", text(context)),
    }
}

pub(crate) fn ids(entries: &[Entry]) -> String {
    let ids: Vec<String> = entries.iter().map(|entry| entry.id().to_string()).collect();
    match ids.as_slice() {
        [first, .., last] if ids.len() > 6 => format!("{first} … {last}"),
        _ => ids.join(" "),
    }
}

fn names(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    names.join(" ")
}

pub(crate) fn conf(conf: &ConfState) -> String {
    let mut line = format!("voters=({})", names(&conf.voters));
    if conf.is_joint() {
        let _ = write!(line, "&&({})", names(&conf.voters_outgoing));
    }
    if !conf.learners.is_empty() {
        let _ = write!(line, " learners=({})", names(&conf.learners));
    }
    if !conf.learners_next.is_empty() {
        let _ = write!(line, " next=({})", names(&conf.learners_next));
    }
    line
}

pub(crate) fn role(role: RoleKind, leader: Option<NodeId>) -> String {
    match (role, leader) {
        (RoleKind::Follower, Some(leader)) => format!("follower({leader})"),
        (RoleKind::Follower, None) => "follower".to_owned(),
        (RoleKind::PreCandidate, _) => "pre-candidate".to_owned(),
        (RoleKind::Candidate, _) => "candidate".to_owned(),
        (RoleKind::Leader, _) => "leader".to_owned(),
    }
}

pub(crate) fn status(status: &Status, last: raft::EntryId) -> String {
    let role = role(status.role, status.leader);
    format!("{} {} {role} last={last} commit={}", status.id, status.term, status.commit)
}

pub(crate) fn progress(status: &Status) -> Vec<String> {
    let line = |peer: &raft::PeerStatus| {
        let flow = match peer.flow {
            Flow::Probe => "probe".to_owned(),
            Flow::Replicate => "replicate".to_owned(),
            Flow::Snapshot { pending } => format!("snapshot({pending})"),
        };
        let mut line = format!("{} {flow} match={} next={}", peer.id, peer.matched, peer.next);
        for (is, word) in [
            (peer.learner, " learner"),
            (!peer.active, " inactive"),
            (peer.paused, " paused"),
            (status.heir == Some(peer.id), " heir"),
        ] {
            if is {
                line.push_str(word);
            }
        }
        if peer.in_flight > 0 {
            let _ = write!(line, " inflight={}", peer.in_flight);
        }
        line
    };
    status.peers.iter().map(line).collect()
}

pub(crate) fn dropped(dropped: &Dropped) -> String {
    match dropped {
        Dropped::Proposal { reason } => format!("refuses: {reason:?}"),
        Dropped::ConfChange { position, reason } => {
            format!("empties the conf change at {position}: {reason:?}")
        }
        Dropped::Read { context, reason } => format!("drops read {context}: {reason:?}"),
        Dropped::Unfit { index, reason } => format!("changes nothing at {index}: {reason:?}"),
    }
}
