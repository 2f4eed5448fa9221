//! Frames of any kind, in any order, with any content.
//!
//! The first byte says whether a greeting goes before them, and how they are cut.

use super::client;

/// # Panics
///
/// If how the input is cut shows, or the connection holds too much, or sends half a frame.
pub fn run(data: &[u8]) {
    let Some((&first, frames)) = data.split_first() else { return };
    let greeting = if first & 1 == 0 { client::hello() } else { Vec::new() };
    let input = [&greeting, frames].concat();
    let piece = 1 + usize::from(first >> 1);
    assert_eq!(outcome(&input, piece), outcome(&input, input.len().max(1)), "cut by {piece}");
    served(&input, piece);
}

fn outcome(input: &[u8], piece: usize) -> (String, bool, Vec<u8>) {
    let mut connection = client::server(client::limits());
    input.chunks(piece).for_each(|piece| connection.receive(piece));
    let (told, closed) = (client::events(&mut connection), connection.is_closed());
    (told, closed, client::output(&mut connection))
}

/// The same, with answers, time and a socket in between.
fn served(input: &[u8], piece: usize) {
    let mut connection = client::server(client::limits());
    let mut sent = Vec::new();
    for (n, piece) in input.chunks(piece).enumerate() {
        connection.receive(piece);
        client::answer(&mut connection);
        if n % 3 == 0 {
            sent.extend(client::output(&mut connection));
        }
        connection.tick(n as u64 * 40);
    }
    connection.close();
    client::answer(&mut connection);
    sent.extend(client::output(&mut connection));
    assert_eq!(connection.streams(), 0, "a closed connection has no streams");
    client::check_frames(&sent);
}
