//! Messages of one call: plain, compressed, lying about it, or no messages at all.
//!
//! The first byte holds three choices and the cut. Then come a flag, a length and so many bytes, again
//! and again; or, by the third choice, the body of the call as it is.

use wire::Limits;

use super::client::{self, DATA, END_STREAM};

const STREAMING: u8 = 1;
const GZIP: u8 = 2;
const AS_IT_IS: u8 = 4;
/// More frames than these would be a flood, and treated so.
const FRAMES_MAX: usize = 100;

/// # Panics
///
/// If the messages depend on how DATA frames cut them, or plain ones come out as others.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let (body, plain) = body(first, rest);
    let piece = (1 + usize::from(first >> 3)).max(body.len() / FRAMES_MAX);
    let whole = told(first, &body, body.len().max(1));
    assert_eq!(told(first, &body, piece), whole, "cut by {piece}");
    if first & STREAMING != 0 {
        for message in plain {
            let body = bytes::Bytes::from(message);
            assert!(whole.contains(&format!("body: {body:?}")), "{body:?} is lost");
        }
    }
}

/// The body of the call; and the plain messages at its front, if it was made of messages.
fn body(first: u8, mut rest: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    if first & AS_IT_IS != 0 {
        return (rest.to_vec(), Vec::new());
    }
    let (mut body, mut plain, mut is_plain) = (Vec::new(), Vec::new(), true);
    while let Some(([flag, length], bytes)) = rest.split_first_chunk() {
        let (message, bytes) = bytes.split_at(bytes.len().min((*length).into()));
        body.push(*flag);
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        is_plain &= *flag == 0;
        if is_plain {
            plain.push(message.to_vec());
        }
        rest = bytes;
    }
    (body, plain)
}

fn told(first: u8, body: &[u8], piece: usize) -> String {
    let limits = Limits { message_size_max: 1000, ..Limits::default() };
    let mut connection = client::server(limits);
    connection.receive(&client::hello());
    let path = if first & STREAMING != 0 { client::STREAM } else { client::UNARY };
    let encoding = if first & GZIP != 0 { "gzip" } else { "identity" };
    connection.receive(&client::call(1, path, encoding));
    for data in body.chunks(piece) {
        connection.receive(&client::frame(DATA, 0, 1, data));
    }
    connection.receive(&client::frame(DATA, END_STREAM, 1, &[]));
    client::check_frames(&client::output(&mut connection));
    client::events(&mut connection)
}
