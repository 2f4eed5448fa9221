//! Messages on a stream: etcd's two framings, without I/O.
//!
//! ```text
//! message   u64 length ‖ raftpb.Message                       a heartbeat without sender: the link lives
//! msgapp    0                                                 the link lives
//!           1 ‖ u64 n ‖ n × (u64 length ‖ Entry) ‖ u64 commit   goes on where the last append ended
//!           2 ‖ u64 length ‖ raftpb.Message                   any other append
//! ```
//!
//! Numbers are big-endian. An append that follows the one before, in the same term, needs no head: both
//! ends remember where the last one ended.
//!
//! # Invariants
//!
//! - Both ends of a `msgapp` stream remember the same place: it is theirs alone, and begins with the
//!   stream.
//! - What is longer than [`FRAME_MAX`] ends the stream before any memory is taken for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use member::message::{self, Malformed};
use proto::prost::Message as _;
use proto::raftpb;
use raft::{Body, Entry, EntryId, Index, Message, NodeId, Term};

/// Which of a pair's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Appends alone.
    Append,
    /// Everything.
    Message,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Append, Self::Message];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Append => "msgapp",
            Self::Message => "message",
        }
    }
}

/// The longest message or entry a stream may carry, in bytes; etcd's bound.
pub(crate) const FRAME_MAX: u64 = 512 << 20;
/// Bytes made room for at once.
const RESERVE_MAX: usize = 1 << 20;
/// Entries in one append.
const ENTRIES_MAX: u64 = 1 << 20;

const LINK: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;
const WORD: usize = size_of::<u64>();

/// Where the last append on a stream ended.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    term: u64,
    index: u64,
}

impl Place {
    fn after(message: &Message) -> Self {
        match &message.body {
            Body::Append { prev, entries, .. } => {
                let last = entries.last().map_or(prev.index, |entry| entry.index);
                Self { term: message.term.0, index: last.0 }
            }
            Body::AppendReply(_)
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::Snapshot(_)
            | Body::TimeoutNow
            | Body::TransferLeader
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::Propose { .. } => Self::default(),
        }
    }

    /// Whether an append goes on here, all of it in one term.
    fn is_before(self, term: Term, prev: EntryId) -> bool {
        self.index == prev.index.0 && self.term == prev.term.0 && prev.term == term
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Encoder {
    kind: Kind,
    place: Place,
}

impl Encoder {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, place: Place::default() }
    }

    /// Says that the link lives.
    pub(crate) fn link(&self, out: &mut BytesMut) {
        match self.kind {
            Kind::Append => out.put_u8(LINK),
            Kind::Message => {
                let heartbeat = raftpb::Message {
                    r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
                    ..raftpb::Message::default()
                };
                out.put_u64(heartbeat.encoded_len() as u64);
                heartbeat.encode(out).expect("a buffer that grows");
            }
        }
    }

    pub(crate) fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        if self.kind == Kind::Append {
            if let Body::Append { prev, entries, commit } = &message.body
                && self.place.is_before(message.term, *prev)
            {
                return self.encode_entries(entries, *commit, out);
            }
            out.put_u8(MESSAGE);
            self.place = Place::after(message);
        }
        out.put_u64(message::encoded_len(message) as u64);
        message::encode(message, out);
    }

    fn encode_entries(&mut self, entries: &[Entry], commit: Index, out: &mut BytesMut) {
        out.put_u8(ENTRIES);
        out.put_u64(entries.len() as u64);
        for entry in entries {
            out.put_u64(message::encoded_entry_len(entry) as u64);
            message::encode_entry(entry, out);
            self.place.index += 1;
        }
        out.put_u64(commit.0);
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Decoder {
    kind: Kind,
    /// Who sends, and who receives: appends without a head do not say.
    from: NodeId,
    to: NodeId,
    place: Place,
    buffer: BytesMut,
}

/// What a look at the buffer found.
enum Found {
    Message(Message),
    /// The link lives.
    Link,
    /// It takes more bytes.
    More,
}

impl Decoder {
    pub(crate) fn new(kind: Kind, from: NodeId, to: NodeId) -> Self {
        Self { kind, from, to, place: Place::default(), buffer: BytesMut::new() }
    }

    /// Takes in what came, and appends to `messages` what is whole.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        messages: &mut Vec<Message>,
    ) -> Result<(), Malformed> {
        self.buffer.extend_from_slice(bytes);
        loop {
            let found = match self.kind {
                Kind::Append => self.append()?,
                Kind::Message => self.message(0)?,
            };
            match found {
                Found::Message(message) => messages.push(message),
                Found::Link => {}
                Found::More => return Ok(()),
            }
        }
    }

    fn append(&mut self) -> Result<Found, Malformed> {
        match self.buffer.first() {
            None => Ok(Found::More),
            Some(&LINK) => {
                self.buffer.advance(1);
                Ok(Found::Link)
            }
            Some(&ENTRIES) => self.entries(),
            Some(&MESSAGE) => {
                let found = self.message(1)?;
                if let Found::Message(message) = &found {
                    self.place = Place::after(message);
                }
                Ok(found)
            }
            Some(_) => Err(Malformed),
        }
    }

    /// A message with its length, `at` this far into the buffer.
    fn message(&mut self, at: usize) -> Result<Found, Malformed> {
        let Some(len) = self.word(at) else { return Ok(Found::More) };
        let len = bounded(len)?;
        let start = at + WORD;
        if self.buffer.len() < start + len {
            // No more is taken on a mere claim than what comes is likely to fill soon.
            self.buffer.reserve((start + len - self.buffer.len()).min(RESERVE_MAX));
            return Ok(Found::More);
        }
        self.buffer.advance(start);
        let bytes = self.buffer.split_to(len).freeze();
        if is_link(&bytes) {
            return Ok(Found::Link);
        }
        message::decode(bytes).map(Found::Message)
    }

    fn entries(&mut self) -> Result<Found, Malformed> {
        let Some(n) = self.word(1) else { return Ok(Found::More) };
        if n > ENTRIES_MAX {
            return Err(Malformed);
        }
        let mut end = 1 + WORD;
        for _ in 0..n {
            let Some(len) = self.word(end) else { return Ok(Found::More) };
            end += WORD + bounded(len)?;
        }
        if self.buffer.len() < end + WORD {
            return Ok(Found::More);
        }
        let mut frame = self.buffer.split_to(end + WORD).freeze();
        frame.advance(1 + WORD);
        let entry = |_| {
            let len = frame.get_u64() as usize;
            message::decode_entry(frame.split_to(len))
        };
        let entries: Vec<Entry> = (0..n).map(entry).collect::<Result<_, _>>()?;
        let commit = Index(frame.get_u64());
        let prev = EntryId::new(Index(self.place.index), Term(self.place.term));
        self.place.index += n;
        let body = Body::Append { prev, entries, commit };
        let term = Term(self.place.term);
        Ok(Found::Message(Message { from: self.from, to: self.to, term, body }))
    }

    fn word(&self, at: usize) -> Option<u64> {
        let bytes = self.buffer.get(at..at + WORD)?;
        Some(u64::from_be_bytes(bytes.try_into().expect("a word")))
    }
}

fn bounded(len: u64) -> Result<usize, Malformed> {
    if len > FRAME_MAX { Err(Malformed) } else { usize::try_from(len).map_err(|_| Malformed) }
}

/// Whether this says no more than that the link lives.
fn is_link(bytes: &Bytes) -> bool {
    let heartbeat = raftpb::MessageType::MsgHeartbeat;
    bytes.len() < LINK_SIZE_MAX
        && raftpb::Message::decode(bytes.clone())
            .is_ok_and(|m| m.r#type() == heartbeat && m.from() == 0 && m.to() == 0)
}

/// A heartbeat without sender, with every field spelt out as older members do.
const LINK_SIZE_MAX: usize = 64;

/// Whether a message is one for the stream of appends. Its replies go with all the others.
pub(crate) fn is_append(message: &Message) -> bool {
    matches!(message.body, Body::Append { .. })
}

#[cfg(test)]
mod tests {
    use raft::{AppendReply, EntryKind};
    use stdx::{Generator, each_seed};

    use super::*;

    const FROM: NodeId = NodeId::new(7).expect("not 0");
    const TO: NodeId = NodeId::new(9).expect("not 0");

    /// Appends as a leader sends them: most go on where the last ended.
    fn appends(g: &mut Generator) -> Vec<Message> {
        let (mut term, mut index, mut last_term) = (3, 10, 3);
        g.vec(1..20, |g| {
            if g.chance(20) {
                term += 1;
            }
            if g.chance(20) {
                index = g.below(100);
            }
            let prev = EntryId::new(Index(index), Term(last_term));
            let n = g.below(4);
            let entry = |n| Entry {
                term: Term(term),
                index: Index(index + 1 + n),
                kind: EntryKind::Normal,
                data: vec![n as u8; 5].into(),
            };
            let entries: Vec<Entry> = (0..n).map(entry).collect();
            index += n;
            if n > 0 {
                last_term = term;
            }
            let body = Body::Append { prev, entries, commit: Index(g.below(50)) };
            Message { from: FROM, to: TO, term: Term(term), body }
        })
    }

    fn cut(g: &mut Generator, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let n = (1 + g.below(40) as usize).min(bytes.len());
            pieces.push(bytes[..n].to_vec());
            bytes = &bytes[n..];
        }
        pieces
    }

    #[test]
    fn what_is_received_is_what_was_sent_however_it_was_cut() {
        each_seed(|g| {
            for kind in Kind::ALL {
                let mut sent = appends(g);
                if kind == Kind::Message {
                    let body = Body::AppendReply(AppendReply::Accepted { last: Index(4) });
                    sent.push(Message { from: FROM, to: TO, term: Term(1), body });
                }
                let (mut encoder, mut bytes) = (Encoder::new(kind), BytesMut::new());
                for message in &sent {
                    if g.chance(30) {
                        encoder.link(&mut bytes);
                    }
                    encoder.encode(message, &mut bytes);
                }
                let (mut decoder, mut received) = (Decoder::new(kind, FROM, TO), Vec::new());
                for piece in cut(g, &bytes) {
                    decoder.receive(&piece, &mut received).expect("well-formed");
                }
                assert_eq!(received, sent);
            }
        });
    }

    #[test]
    fn an_append_that_goes_on_needs_no_head() {
        let entry = |index| Entry {
            term: Term(5),
            index: Index(index),
            kind: EntryKind::Normal,
            data: Bytes::from_static(b"x"),
        };
        let append = |prev: u64, entries: Vec<Entry>| {
            let prev = EntryId::new(Index(prev), Term(5));
            let body = Body::Append { prev, entries, commit: Index(1) };
            Message { from: FROM, to: TO, term: Term(5), body }
        };
        let (mut encoder, mut bytes) = (Encoder::new(Kind::Append), BytesMut::new());
        encoder.encode(&append(3, vec![entry(4)]), &mut bytes);
        assert_eq!(bytes.split()[0], MESSAGE);
        encoder.encode(&append(4, vec![entry(5), entry(6)]), &mut bytes);
        assert_eq!(bytes.split()[0], ENTRIES);
        encoder.encode(&append(5, vec![entry(6)]), &mut bytes);
        assert_eq!(bytes.split()[0], MESSAGE, "sent again");
    }

    #[test]
    fn a_length_beyond_all_bounds_ends_the_stream_at_once() {
        let mut decoder = Decoder::new(Kind::Message, FROM, TO);
        let huge = (FRAME_MAX + 1).to_be_bytes();
        assert_eq!(decoder.receive(&huge, &mut Vec::new()), Err(Malformed));
    }

    #[test]
    fn no_bytes_bring_the_decoder_down() {
        each_seed(|g| {
            for kind in Kind::ALL {
                let mut decoder = Decoder::new(kind, FROM, TO);
                let mut bytes = g.bytes(0..100);
                if let Some(first) = bytes.first_mut() {
                    *first %= 3;
                }
                let _ = decoder.receive(&bytes, &mut Vec::new());
            }
        });
    }

    fn recorded(name: &str) -> Vec<u8> {
        let text = include_str!("../../testdata/recorded/etcd_3.7.1_streams.txt");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let digits = line.expect("a recorded line").as_bytes();
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("digits")
        };
        digits.chunks(2).map(byte).collect()
    }

    fn recorded_id(name: &str) -> NodeId {
        let bytes = recorded(name).try_into().expect("eight bytes");
        NodeId::new(u64::from_be_bytes(bytes)).expect("not 0")
    }

    fn decoded(kind: Kind, bytes: &[u8]) -> Vec<Message> {
        let mut decoder = Decoder::new(kind, recorded_id("from"), recorded_id("to"));
        let mut messages = Vec::new();
        decoder.receive(bytes, &mut messages).expect("what etcd sent");
        assert!(decoder.buffer.is_empty(), "to its end");
        messages
    }

    #[test]
    fn the_appends_of_an_etcd_leader_are_understood() {
        let messages = decoded(Kind::Append, &recorded("msgapp"));
        let shown: Vec<_> = messages
            .iter()
            .map(|message| {
                assert_eq!((message.from, message.to), (recorded_id("from"), recorded_id("to")));
                assert_eq!(message.term, Term(2));
                let Body::Append { prev, entries, commit } = &message.body else {
                    panic!("an append: {message:?}")
                };
                assert!(entries.iter().all(|e| e.index == prev.index.next() && e.term == Term(2)));
                (prev.index.0, entries.len(), commit.0)
            })
            .collect();
        let puts = (8..12).flat_map(|prev| [(prev, 1, prev), (prev + 1, 0, prev + 1)]);
        assert_eq!(shown, puts.collect::<Vec<_>>());

        let (mut encoder, mut bytes) = (Encoder::new(Kind::Append), BytesMut::new());
        messages.iter().for_each(|message| encoder.encode(message, &mut bytes));
        let recorded = recorded("msgapp");
        let (said, links) = recorded.split_at(bytes.len());
        assert_eq!(bytes, said, "and said in the same bytes");
        assert!(links.iter().all(|kind| *kind == LINK), "{links:?}");
    }

    #[test]
    fn the_heartbeats_of_an_etcd_leader_are_understood() {
        let bytes = recorded("message");
        let messages = decoded(Kind::Message, &bytes);
        let beat = Body::Heartbeat { commit: Index(8), context: Bytes::new() };
        assert_eq!(messages.iter().map(|m| &m.body).collect::<Vec<_>>(), [&beat, &beat]);

        let (mut encoder, mut said) = (Encoder::new(Kind::Message), BytesMut::new());
        encoder.encode(&messages[0], &mut said);
        encoder.link(&mut said);
        encoder.encode(&messages[1], &mut said);
        assert_eq!(said, bytes, "and said in the same bytes");
    }
}
