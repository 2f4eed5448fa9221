//! How messages, entries and requests are spoken of in a trace.

use member::conf_change::MembershipChange;
use proto::raft_request;
use raft::{AppendReply, Body, Entry, EntryKind, Message};

use crate::clients::REQUESTS_MAX;
use crate::oracle::OWN_REQUESTS;

/// Where members number what they ask by themselves.
const OWN: u64 = OWN_REQUESTS / REQUESTS_MAX;

/// The 7th request of client 2 is `c2.7`; a change of membership has the number of the nemesis's act.
pub(crate) fn request(id: u64) -> String {
    match (id / REQUESTS_MAX, id % REQUESTS_MAX) {
        (0, act) => format!("change #{act}"),
        (OWN, n) => format!("own.{n}"),
        (client, n) => format!("c{client}.{n}"),
    }
}

fn content(kind: EntryKind, data: &bytes::Bytes) -> String {
    if data.is_empty() {
        return "empty".to_owned();
    }
    let id = match kind {
        EntryKind::Normal => raft_request::request_id(data),
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
            MembershipChange::decode(data.clone()).ok().map(|change| change.id)
        }
    };
    id.map_or_else(|| "?".to_owned(), request)
}

/// `7@3(c1.4)`: index, term, and whose it is.
pub(crate) fn entries(entries: &[Entry]) -> String {
    let word = |entry: &Entry| format!("{}({})", entry.id(), content(entry.kind, &entry.data));
    entries.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn body(body: &Body) -> Option<String> {
    Some(match body {
        Body::Append { prev, entries: some, commit } => {
            format!("append after {prev}: [{}], committed {commit}", entries(some))
        }
        Body::AppendReply(AppendReply::Accepted { last }) => format!("has all up to {last}"),
        Body::AppendReply(AppendReply::Rejected { at, hint }) => {
            format!("lacks {at}, perhaps agrees at {hint}")
        }
        Body::Vote { pre: true, last, .. } => format!("would you vote for me, with {last}?"),
        Body::Vote { last, transfer, .. } => {
            format!(
                "vote for me, with {last}{}",
                if *transfer { ", as the leader wants" } else { "" }
            )
        }
        Body::VoteReply { pre, granted, .. } => {
            format!(
                "{} {}",
                if *pre { "would" } else { "vote" },
                if *granted { "yes" } else { "no" }
            )
        }
        Body::Snapshot(snapshot) => format!("snapshot {}@{}", snapshot.index, snapshot.term),
        Body::TimeoutNow => "campaign at once".to_owned(),
        Body::TransferLeader => "make me the leader".to_owned(),
        Body::ReadIndex { .. } => "how far may a read go?".to_owned(),
        Body::ReadIndexReply { index, .. } => format!("a read may go to {index}"),
        Body::Propose { entries } => {
            let words = entries.iter().map(|(kind, data)| content(*kind, data));
            format!("propose {}", words.collect::<Vec<_>>().join(" "))
        }
        // They are all the time on the way, and what matters of them is seen by what follows.
        Body::Heartbeat { .. } | Body::HeartbeatReply { .. } => return None,
    })
}

/// `1 ► 2 term 3: …`; `None` of what is not worth a line.
pub(crate) fn message(message: &Message) -> Option<String> {
    let Message { from, to, term, body: said } = message;
    Some(format!("{from} ► {to} {term}: {}", body(said)?))
}
