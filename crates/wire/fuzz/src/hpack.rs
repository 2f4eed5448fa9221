//! Header blocks, each the head of a call of its own: a length and so many bytes, again and again.

use super::client::{self, CONTINUATION, END_HEADERS, END_STREAM, HEADERS};

/// # Panics
///
/// If a block means something else when CONTINUATION frames carry part of it.
pub fn run(data: &[u8]) {
    let whole = outcome(data, |stream, block| {
        client::frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
    });
    let parted = outcome(data, |stream, block| {
        let (first, rest) = block.split_at(block.len() / 3);
        let (second, third) = rest.split_at(rest.len() / 2);
        let mut frames = client::frame(HEADERS, END_STREAM, stream, first);
        frames.extend(client::frame(CONTINUATION, 0, stream, second));
        frames.extend(client::frame(CONTINUATION, END_HEADERS, stream, third));
        frames
    });
    assert_eq!(whole, parted);
    client::check_frames(&whole.1);
}

fn outcome(mut data: &[u8], frames: impl Fn(u32, &[u8]) -> Vec<u8>) -> (String, Vec<u8>) {
    let mut connection = client::server(client::limits());
    connection.receive(&client::hello());
    let mut stream = 1;
    while let Some((&length, rest)) = data.split_first() {
        let (block, rest) = rest.split_at(rest.len().min(length.into()));
        connection.receive(&frames(stream, block));
        (data, stream) = (rest, stream + 2);
    }
    (client::events(&mut connection), client::output(&mut connection))
}
