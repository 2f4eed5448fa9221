//! Raft's messages as they travel: `raftpb.Message`, one to one.
//!
//! The correspondence is the table in [`raft::Message`]'s module. Entries are opaque on their way: their
//! data is copied once, into the buffer that is sent, and not at all when they arrive.
//!
//! # Invariants
//!
//! - The decoder is total: what it does not know, or what must never travel, is [`Malformed`].
//! - A message decoded is the message that was encoded.

use bytes::{Bytes, BytesMut};
use proto::prost::Message as _;
use proto::prost::encoding::{self, WireType};
use proto::raftpb::{self, MessageType};
use raft::{
    AppendReply, Body, ConfState, Context, Entry, EntryId, EntryKind, Index, Message, NodeId,
    Snapshot, Term,
};

/// Bytes that are no message of a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// How a leader says that it asked for this election.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";
const ENTRIES: u32 = 7;
const COMMIT: u32 = 8;
const ENTRY_TYPE: u32 = 1;
const ENTRY_TERM: u32 = 2;
const ENTRY_INDEX: u32 = 3;
const ENTRY_DATA: u32 = 4;

/// How many bytes [`encode`] appends.
pub fn encoded_len(message: &Message) -> usize {
    head(message).encoded_len() + entries(message).map(field_len).sum::<usize>()
}

/// Appends the message.
pub fn encode(message: &Message, out: &mut BytesMut) {
    let mut head = head(message);
    // The fields go by their numbers, as etcd's do: of an append this one comes after the entries.
    let commit = if let Body::Append { .. } = message.body { head.commit.take() } else { None };
    head.encode(out).expect("a buffer that grows");
    for entry in entries(message) {
        encoding::encode_key(ENTRIES, WireType::LengthDelimited, out);
        encoding::encode_varint(entry_len(&entry) as u64, out);
        encode_parts(&entry, out);
    }
    if let Some(commit) = commit {
        encoding::uint64::encode(COMMIT, &commit, out);
    }
}

/// How many bytes [`encode_entry`] appends.
pub fn encoded_entry_len(entry: &Entry) -> usize {
    entry_len(&Parts::of(entry))
}

/// Appends a `raftpb.Entry`.
pub fn encode_entry(entry: &Entry, out: &mut BytesMut) {
    encode_parts(&Parts::of(entry), out);
}

/// Reads a `raftpb.Entry`; its data stays where it is.
pub fn decode_entry(bytes: Bytes) -> Result<Entry, Malformed> {
    entry(raftpb::Entry::decode(bytes).map_err(|_| Malformed)?)
}

/// An entry, or a proposal that is none yet.
struct Parts<'a> {
    kind: EntryKind,
    term: u64,
    index: u64,
    data: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(entry: &'a Entry) -> Self {
        let Entry { term, index, kind, data } = entry;
        Self { kind: *kind, term: term.0, index: index.0, data }
    }
}

fn entries(message: &Message) -> impl Iterator<Item = Parts<'_>> {
    let (entries, proposals): (&[Entry], &[_]) = match &message.body {
        Body::Append { entries, .. } => (entries, &[]),
        Body::Propose { entries } => (&[], entries),
        Body::AppendReply(_)
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::Snapshot(_)
        | Body::TimeoutNow
        | Body::TransferLeader
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => (&[], &[]),
    };
    let proposed = proposals.iter().map(|(kind, data): &(EntryKind, Bytes)| Parts {
        kind: *kind,
        term: 0,
        index: 0,
        data,
    });
    entries.iter().map(Parts::of).chain(proposed)
}

/// Tag, number: each of an entry's fields has a tag of one byte.
fn varint_len(value: u64) -> usize {
    1 + encoding::encoded_len_varint(value)
}

/// Zeros are left out, as etcd 3.7 does.
fn numbers(entry: &Parts<'_>) -> impl Iterator<Item = (u32, u64)> {
    let numbers =
        [(ENTRY_TYPE, entry.kind.number()), (ENTRY_TERM, entry.term), (ENTRY_INDEX, entry.index)];
    numbers.into_iter().filter(|(_, number)| *number != 0)
}

fn entry_len(entry: &Parts<'_>) -> usize {
    let data = match entry.data.len() {
        0 => 0,
        len => varint_len(len as u64) + len,
    };
    numbers(entry).map(|(_, number)| varint_len(number)).sum::<usize>() + data
}

#[expect(clippy::needless_pass_by_value, reason = "maps over an iterator of values")]
fn field_len(entry: Parts<'_>) -> usize {
    let len = entry_len(&entry);
    varint_len(len as u64) + len
}

fn encode_parts(entry: &Parts<'_>, out: &mut BytesMut) {
    for (tag, number) in numbers(entry) {
        encoding::uint64::encode(tag, &number, out);
    }
    if !entry.data.is_empty() {
        encoding::encode_key(ENTRY_DATA, WireType::LengthDelimited, out);
        encoding::encode_varint(entry.data.len() as u64, out);
        out.extend_from_slice(entry.data);
    }
}

/// All of a message but its entries.
fn head(message: &Message) -> raftpb::Message {
    let Message { from, to, term, body } = message;
    let mut out = raftpb::Message {
        to: Some(to.get()),
        from: Some(from.get()),
        term: Some(term.0).filter(|term| *term != 0), // Proposals have none.
        ..raftpb::Message::default()
    };
    let kind = match body {
        Body::Append { prev, commit, .. } => {
            place(&mut out, *prev);
            out.commit = Some(commit.0);
            MessageType::MsgApp
        }
        Body::AppendReply(reply) => {
            append_reply(&mut out, *reply);
            MessageType::MsgAppResp
        }
        Body::Vote { pre, last, transfer } => {
            place(&mut out, *last);
            out.context = transfer.then(|| Bytes::from_static(CAMPAIGN_TRANSFER));
            if *pre { MessageType::MsgPreVote } else { MessageType::MsgVote }
        }
        Body::VoteReply { pre, granted, committed } => {
            out.reject = (!granted).then_some(true);
            out.log_term = Some(committed.term.0);
            out.commit = Some(committed.index.0);
            if *pre { MessageType::MsgPreVoteResp } else { MessageType::MsgVoteResp }
        }
        Body::Heartbeat { commit, context } => {
            out.commit = Some(commit.0);
            out.context = Some(context.clone()).filter(|context| !context.is_empty());
            MessageType::MsgHeartbeat
        }
        Body::HeartbeatReply { context } => {
            out.context = Some(context.clone()).filter(|context| !context.is_empty());
            MessageType::MsgHeartbeatResp
        }
        Body::Snapshot(snapshot) => {
            out.snapshot = Some(snapshot_of(snapshot));
            MessageType::MsgSnap
        }
        Body::TimeoutNow => MessageType::MsgTimeoutNow,
        Body::TransferLeader => MessageType::MsgTransferLeader,
        Body::ReadIndex { context } => {
            out.entries = vec![context_entry(*context)];
            MessageType::MsgReadIndex
        }
        Body::ReadIndexReply { context, index } => {
            out.entries = vec![context_entry(*context)];
            out.index = Some(index.0);
            MessageType::MsgReadIndexResp
        }
        Body::Propose { .. } => MessageType::MsgProp,
    };
    out.r#type = Some(kind as i32);
    out
}

fn place(out: &mut raftpb::Message, at: EntryId) {
    out.index = Some(at.index.0);
    out.log_term = Some(at.term.0);
}

fn append_reply(out: &mut raftpb::Message, reply: AppendReply) {
    match reply {
        AppendReply::Accepted { last } => out.index = Some(last.0),
        AppendReply::Rejected { at, hint } => {
            out.reject = Some(true);
            out.index = Some(at.0);
            out.reject_hint = Some(hint.index.0);
            out.log_term = Some(hint.term.0);
        }
    }
}

fn context_entry(Context(context): Context) -> raftpb::Entry {
    let data = Bytes::copy_from_slice(&context.to_be_bytes());
    raftpb::Entry { data: Some(data), ..raftpb::Entry::default() }
}

fn snapshot_of(snapshot: &Snapshot) -> raftpb::Snapshot {
    let Snapshot { index, term, conf_state, data } = snapshot;
    let metadata = raftpb::SnapshotMetadata {
        conf_state: Some(conf_state_of(conf_state)),
        index: Some(index.0),
        term: Some(term.0),
    };
    raftpb::Snapshot { data: Some(data.clone()), metadata: Some(metadata) }
}

/// A configuration, as snapshots and the log's marks hold it.
pub fn conf_state_of(conf_state: &ConfState) -> raftpb::ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.get()).collect();
    raftpb::ConfState {
        voters: ids(&conf_state.voters),
        learners: ids(&conf_state.learners),
        voters_outgoing: ids(&conf_state.voters_outgoing),
        learners_next: ids(&conf_state.learners_next),
        auto_leave: Some(conf_state.auto_leave),
    }
}

/// Reads a message; the entries' data stays where it is.
pub fn decode(bytes: Bytes) -> Result<Message, Malformed> {
    from_wire(raftpb::Message::decode(bytes).map_err(|_| Malformed)?)
}

/// What a `raftpb.Message` says.
pub fn from_wire(m: raftpb::Message) -> Result<Message, Malformed> {
    let from = NodeId::new(m.from()).ok_or(Malformed)?;
    let to = NodeId::new(m.to()).ok_or(Malformed)?;
    let term = Term(m.term());
    Ok(Message { from, to, term, body: body(m)? })
}

fn body(m: raftpb::Message) -> Result<Body, Malformed> {
    let kind = MessageType::try_from(m.r#type.unwrap_or_default()).map_err(|_| Malformed)?;
    let at = EntryId::new(Index(m.index()), Term(m.log_term()));
    let commit = Index(m.commit());
    let granted = !m.reject();
    Ok(match kind {
        MessageType::MsgApp => {
            let entries = m.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
            Body::Append { prev: at, entries, commit }
        }
        MessageType::MsgAppResp if m.reject() => {
            let hint = EntryId::new(Index(m.reject_hint()), Term(m.log_term()));
            Body::AppendReply(AppendReply::Rejected { at: at.index, hint })
        }
        MessageType::MsgAppResp => Body::AppendReply(AppendReply::Accepted { last: at.index }),
        MessageType::MsgVote | MessageType::MsgPreVote => {
            let transfer = m.context() == CAMPAIGN_TRANSFER;
            Body::Vote { pre: kind == MessageType::MsgPreVote, last: at, transfer }
        }
        MessageType::MsgVoteResp | MessageType::MsgPreVoteResp => {
            let committed = EntryId::new(commit, Term(m.log_term()));
            Body::VoteReply { pre: kind == MessageType::MsgPreVoteResp, granted, committed }
        }
        MessageType::MsgHeartbeat => {
            Body::Heartbeat { commit, context: m.context.unwrap_or_default() }
        }
        MessageType::MsgHeartbeatResp => {
            Body::HeartbeatReply { context: m.context.unwrap_or_default() }
        }
        MessageType::MsgSnap => Body::Snapshot(Box::new(snapshot(m.snapshot.ok_or(Malformed)?)?)),
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        MessageType::MsgTransferLeader => Body::TransferLeader,
        MessageType::MsgReadIndex => Body::ReadIndex { context: context(&m.entries)? },
        MessageType::MsgReadIndexResp => {
            Body::ReadIndexReply { context: context(&m.entries)?, index: at.index }
        }
        MessageType::MsgProp => {
            let proposal = |e| entry(e).map(|Entry { kind, data, .. }| (kind, data));
            let entries = m.entries.into_iter().map(proposal).collect::<Result<_, _>>()?;
            Body::Propose { entries }
        }
        // These are said within a member alone.
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgStorageAppend
        | MessageType::MsgStorageAppendResp
        | MessageType::MsgStorageApply
        | MessageType::MsgStorageApplyResp
        | MessageType::MsgForgetLeader => return Err(Malformed),
    })
}

fn entry(entry: raftpb::Entry) -> Result<Entry, Malformed> {
    let number = u64::try_from(entry.r#type.unwrap_or_default()).map_err(|_| Malformed)?;
    let kind = EntryKind::from_number(number).ok_or(Malformed)?;
    let (term, index) = (Term(entry.term()), Index(entry.index()));
    Ok(Entry { term, index, kind, data: entry.data.unwrap_or_default() })
}

/// etcd's members name reads by 8 bytes.
fn context(entries: &[raftpb::Entry]) -> Result<Context, Malformed> {
    let data = entries.first().and_then(|entry| entry.data.as_deref()).ok_or(Malformed)?;
    data.try_into().map(|bytes| Context(u64::from_be_bytes(bytes))).map_err(|_| Malformed)
}

fn snapshot(snapshot: raftpb::Snapshot) -> Result<Snapshot, Malformed> {
    let metadata = snapshot.metadata.ok_or(Malformed)?;
    let conf_state = metadata.conf_state.clone().unwrap_or_default();
    let ids = |ids: Vec<u64>| {
        ids.into_iter().map(NodeId::new).collect::<Option<Vec<_>>>().ok_or(Malformed)
    };
    let conf_state = ConfState {
        voters: ids(conf_state.voters)?,
        learners: ids(conf_state.learners)?,
        voters_outgoing: ids(conf_state.voters_outgoing)?,
        learners_next: ids(conf_state.learners_next)?,
        auto_leave: conf_state.auto_leave.unwrap_or_default(),
    };
    let (index, term) = (Index(metadata.index()), Term(metadata.term()));
    Ok(Snapshot { index, term, conf_state, data: snapshot.data.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use stdx::{Generator, each_seed};

    use super::*;

    fn node(g: &mut Generator) -> NodeId {
        NodeId::new(g.number().max(1)).expect("not 0")
    }

    fn id(g: &mut Generator) -> EntryId {
        EntryId::new(Index(g.below(1 << 40)), Term(g.below(1 << 20)))
    }

    fn random_entry(g: &mut Generator) -> Entry {
        let kind = *g.pick(&[EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2]);
        let EntryId { index, term } = id(g);
        Entry { term, index, kind, data: g.bytes(0..200).into() }
    }

    fn random_body(g: &mut Generator) -> Body {
        let context: Bytes = g.bytes(0..20).into();
        match g.below(13) {
            0 => Body::AppendReply(AppendReply::Accepted { last: Index(g.number()) }),
            1 => Body::AppendReply(AppendReply::Rejected { at: Index(g.number()), hint: id(g) }),
            2 => Body::Vote { pre: g.chance(50), last: id(g), transfer: g.chance(50) },
            3 => Body::VoteReply { pre: g.chance(50), granted: g.chance(50), committed: id(g) },
            4 => Body::Heartbeat { commit: Index(g.number()), context },
            5 => Body::HeartbeatReply { context },
            6 => {
                let conf_state = ConfState::new(vec![node(g), node(g)], vec![node(g)]);
                let EntryId { index, term } = id(g);
                let data = g.bytes(0..50).into();
                Body::Snapshot(Box::new(Snapshot { index, term, conf_state, data }))
            }
            7 => Body::TimeoutNow,
            8 => Body::TransferLeader,
            9 => Body::ReadIndex { context: Context(g.number()) },
            10 => Body::ReadIndexReply { context: Context(g.number()), index: Index(g.number()) },
            11 => {
                let entries = g.vec(1..5, |g| {
                    let Entry { kind, data, .. } = random_entry(g);
                    (kind, data)
                });
                Body::Propose { entries }
            }
            _ => {
                let entries = g.vec(0..5, random_entry);
                Body::Append { prev: id(g), entries, commit: Index(g.number()) }
            }
        }
    }

    #[test]
    fn a_message_decoded_is_the_message_that_was_encoded() {
        each_seed(|g| {
            let (from, to) = (node(g), node(g));
            let message = Message { from, to, term: Term(g.below(1 << 30)), body: random_body(g) };
            let mut bytes = BytesMut::new();
            encode(&message, &mut bytes);
            assert_eq!(bytes.len(), encoded_len(&message));
            assert_eq!(decode(bytes.freeze()), Ok(message));
        });
    }

    #[test]
    fn an_entry_decoded_is_the_entry_that_was_encoded() {
        each_seed(|g| {
            let entry = random_entry(g);
            let mut bytes = BytesMut::new();
            encode_entry(&entry, &mut bytes);
            assert_eq!(bytes.len(), encoded_entry_len(&entry));
            assert_eq!(decode_entry(bytes.freeze()), Ok(entry));
        });
    }

    #[test]
    fn whatever_arrives_is_a_message_or_malformed() {
        each_seed(|g| {
            let mut bytes = BytesMut::new();
            let (from, to) = (node(g), node(g));
            encode(&Message { from, to, term: Term(1), body: random_body(g) }, &mut bytes);
            for _ in 0..g.int(1..=4) {
                let at = g.below(bytes.len() as u64) as usize;
                bytes[at] = g.below(256) as u8;
            }
            bytes.truncate(g.below(bytes.len() as u64 + 1) as usize);
            drop(decode(bytes.freeze()));
            drop(decode(g.bytes(0..60).into()));
        });
    }
}
