//! The answer to a range, which may be long: its JSON is made and sent piece by piece.
//!
//! ```text
//! {"header":{…},"kvs":[{…},{…}      {…},{…}, …      {…}],"more":true,"count":"9"}
//! └───── first piece ────────┘    └─ the next ─┘    └──── last, and the end ────┘
//! ```
//!
//! # Invariants
//!
//! - A piece of the answer is of whole fields, in the order of their numbers: it is an answer by itself.
//! - No more than a few pieces of an answer are in memory, however slowly it is read.
//! - An answer that fails underway ends where it is: what came of it is no JSON.

use bytes::Bytes;
use proto::error::{Error, Status};
use proto::etcdserverpb::RangeResponse;
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use serde::Serialize;
use tokio::sync::mpsc::{self, Sender};

use super::super::answer::{Answer, Content};
use super::super::service::Service;
use super::codec::internal;
use super::exchange::Exchange;
use super::from_grpc;

/// Pieces of one answer that wait for its client.
const PIECES_MAX: usize = 1;

/// Answers with what comes of a call for one range.
pub(super) async fn answer<S: Service>(mut exchange: Exchange<S>) -> Result<Answer, Status> {
    let first = exchange.next().await?.ok_or(Error::Stopped)?;
    let mut text = Text::default();
    let begun = text.piece(&first)?;
    let Some(second) = exchange.next().await? else {
        return Ok(from_grpc(Content::Whole([begun, text.end()?].concat().into())));
    };
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        // Whoever waits for more of it learns from its end that it failed.
        drop(send(exchange, text, begun, second, &sender).await);
    });
    Ok(from_grpc(Content::Lines(pieces)))
}

async fn send<S: Service>(
    mut exchange: Exchange<S>,
    mut text: Text,
    begun: Vec<u8>,
    mut piece: Bytes,
    to: &Sender<Bytes>,
) -> Result<(), Status> {
    let gone = |_| Status::from(Error::Stopped);
    to.send(begun.into()).await.map_err(gone)?;
    loop {
        to.send(text.piece(&piece)?.into()).await.map_err(gone)?;
        let next = tokio::select! {
            next = exchange.next() => next?,
            () = to.closed() => return Ok(()),
        };
        let Some(next) = next else { break };
        piece = next;
    }
    to.send(text.end()?.into()).await.map_err(gone)
}

/// JSON in the making.
#[derive(Default)]
struct Text {
    has_rows: bool,
    /// What stands behind the rows.
    tail: RangeResponse,
}

impl Text {
    fn piece(&mut self, piece: &Bytes) -> Result<Vec<u8>, Status> {
        let piece_said = RangeResponse::decode(piece.clone()).map_err(internal)?;
        let RangeResponse { header, kvs, more, count } = piece_said;
        let mut json = Vec::with_capacity(2 * piece.len());
        if header.is_some() {
            write(&mut json, &RangeResponse { header, ..RangeResponse::default() })?;
            json.pop();
        }
        for row in &kvs {
            self.row(&mut json, row)?;
        }
        self.tail.more |= more;
        self.tail.count += count;
        Ok(json)
    }

    fn row(&mut self, json: &mut Vec<u8>, row: &KeyValue) -> Result<(), Status> {
        let before: &[u8] = if self.has_rows { b"," } else { b",\"kvs\":[" };
        json.extend_from_slice(before);
        self.has_rows = true;
        write(json, row)
    }

    fn end(&self) -> Result<Vec<u8>, Status> {
        let mut json = Vec::new();
        if self.has_rows {
            json.push(b']');
        }
        if self.tail == RangeResponse::default() {
            json.push(b'}');
            return Ok(json);
        }
        let at = json.len();
        write(&mut json, &self.tail)?;
        json[at] = b',';
        Ok(json)
    }
}

fn write(json: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Status> {
    serde_json::to_writer(json, value).map_err(internal)
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::ResponseHeader;
    use stdx::each_seed;

    use super::*;

    #[test]
    fn pieces_are_the_json_of_the_whole() {
        each_seed(|g| {
            let row = |g: &mut stdx::Generator| KeyValue {
                key: g.bytes(1..5).into(),
                value: g.bytes(0..5).into(),
                version: 1,
                ..KeyValue::default()
            };
            let whole = RangeResponse {
                header: Some(ResponseHeader { revision: 7, ..ResponseHeader::default() }),
                kvs: g.vec(0..6, row),
                more: g.chance(50),
                count: g.below(3) as i64,
            };
            let part = |kvs| RangeResponse { kvs, ..RangeResponse::default() };
            let mut kvs = whole.kvs.clone();
            let mut pieces = vec![RangeResponse { header: whole.header, ..part(Vec::new()) }];
            while !kvs.is_empty() {
                let rest = kvs.split_off(g.int(0..=kvs.len()));
                pieces.push(part(std::mem::replace(&mut kvs, rest)));
            }
            pieces.push(RangeResponse { kvs: Vec::new(), header: None, ..whole.clone() });
            let mut text = Text::default();
            let made = pieces.iter().map(|piece| text.piece(&piece.encode_to_vec().into()));
            let mut json = made.collect::<Result<Vec<_>, _>>().expect("pieces").concat();
            json.extend(text.end().expect("an end"));
            assert_eq!(json, serde_json::to_vec(&whole).expect("a response"));
        });
    }
}
