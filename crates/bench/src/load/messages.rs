//! Messages out of the pieces a stream's frames cut them into, and the fields of messages.
//!
//! A message that lies whole in one piece, as nearly all do, is looked at where it lies.

use crate::failure::Failure;
use crate::http2::MESSAGE_HEAD_SIZE;

/// The largest message a stream may bring.
const MESSAGE_MAX: usize = 16 << 20;

/// A long stream's messages.
#[derive(Default)]
pub(crate) struct Messages {
    /// The beginning of a message whose rest has not come.
    kept: Vec<u8>,
}

impl Messages {
    /// Shows each message that is whole with this piece.
    pub(crate) fn feed(
        &mut self,
        mut piece: &[u8],
        mut on_message: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while !self.kept.is_empty() && !piece.is_empty() {
            let wanted = match whole(&self.kept)? {
                Some(size) => size,
                None => MESSAGE_HEAD_SIZE,
            };
            let (part, rest) = piece.split_at(piece.len().min(wanted - self.kept.len()));
            self.kept.extend_from_slice(part);
            piece = rest;
            if whole(&self.kept)?.is_some_and(|size| size == self.kept.len()) {
                on_message(&self.kept[MESSAGE_HEAD_SIZE..])?;
                self.kept.clear();
            }
        }
        while let Some(message) = whole(piece)?.and_then(|size| piece.get(..size)) {
            on_message(&message[MESSAGE_HEAD_SIZE..])?;
            piece = &piece[message.len()..];
        }
        self.kept.extend_from_slice(piece);
        Ok(())
    }
}

/// How long the message is that begins here, with its head; `None` before its length is known.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(&[compressed, a, b, c, d]) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 || length > MESSAGE_MAX {
        return Err(Failure::Wrong("a compressed or oversized message"));
    }
    Ok(Some(MESSAGE_HEAD_SIZE + length))
}

/// The fields of an encoded message that have a length: number and content. Others are passed over.
///
/// Decoding would allocate for every event of every watcher; this only walks.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    /// What can't be read ends the walk: what was to be found is then missing.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let tag = varint(&mut self.0)?;
            let length = match tag & 7 {
                0 => {
                    varint(&mut self.0)?;
                    continue;
                }
                2 => varint(&mut self.0)? as usize,
                _ => return None,
            };
            let (content, rest) = self.0.split_at_checked(length)?;
            self.0 = rest;
            return Some((tag >> 3, content));
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::{PutRequest, ResponseHeader, WatchResponse};
    use proto::prost::Message;
    use stdx::each_seed;

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        each_seed(|g| {
            let sent: Vec<Vec<u8>> = g.vec(1..10, |g| g.bytes(0..50));
            let head = |m: &Vec<u8>| [&[0][..], &(m.len() as u32).to_be_bytes()].concat();
            let bytes: Vec<u8> = sent.iter().flat_map(|m| [head(m), m.clone()].concat()).collect();
            let (mut messages, mut got) = (Messages::default(), Vec::new());
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(g.int(1..=rest.len().min(70)));
                rest = later;
                let on_message = |m: &[u8]| {
                    got.push(m.to_vec());
                    Ok(())
                };
                messages.feed(piece, on_message).expect("sound messages");
            }
            assert_eq!(got, sent);
        });
    }

    #[test]
    fn fields_with_a_length_are_found_between_others() {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 7, ..Default::default() };
        let bytes = put.encode_to_vec();
        assert_eq!(Fields(&bytes).collect::<Vec<_>>(), [(1, &b"k"[..]), (2, b"v")]);
        let header = ResponseHeader { revision: i64::MAX, ..Default::default() };
        let answer = WatchResponse { header: Some(header), watch_id: 3, ..Default::default() };
        assert_eq!(Fields(&answer.encode_to_vec()).count(), 1);
    }

    #[test]
    fn whatever_the_bytes_the_walk_ends() {
        each_seed(|g| assert!(Fields(&g.bytes(0..200)).count() <= 100));
    }
}
