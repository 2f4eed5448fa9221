//! Another implementation as the server: the `h2` crate, sent the same bytes by the same clients.
//!
//! A client makes a move, sound or a mistake; both servers are looked at; and what they did must be
//! the same: the requests they tell of (method, path, metadata, messages), how far they answered,
//! which streams and whether the connection they ended, and with what code. So two readings of the
//! RFC are compared, not ours with our own.
//!
//! Where they may differ is written here, and nowhere else: the test reads this very table. A
//! conversation ends where they differ, for from there on they are in different states. Something of
//! which they never differ fails the test as well.
//!
//! | RFC 9113 | of | ours | theirs | for |
//! |---|---|---|---|---|
//! | 4.2 | a frame of the wrong size | connection FRAME_SIZE_ERROR | connection PROTOCOL_ERROR | they have one code for it all |
//! | 4.3 | a header block that can't be read | connection COMPRESSION_ERROR | connection PROTOCOL_ERROR | they have one code for it all |
//! | 5.1 | data after the end | stream STREAM_CLOSED | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 5.1 | data after the end | fine | stream STREAM_CLOSED | they forget a stream once they have refused it |
//! | 5.1 | headers after the end | fine | connection PROTOCOL_ERROR | they forget a stream once they have refused it |
//! | 5.1 | headers after the end | stream STREAM_CLOSED | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 5.1 | headers after the end | connection STREAM_CLOSED | connection PROTOCOL_ERROR | they have one code for it all |
//! | 5.1.2 | whatever | stream REFUSED_STREAM | stream PROTOCOL_ERROR | one stream too many, and malformed: either is true |
//! | 5.1.2 | whatever | stream REFUSED_STREAM | connection PROTOCOL_ERROR | one stream too many, and malformed: either is true |
//! | 5.3.2 | a priority that depends on itself | fine | stream PROTOCOL_ERROR | priorities mean nothing any more; they go by RFC 7540 |
//! | 5.3.2 | a stream that depends on itself | fine | stream PROTOCOL_ERROR | priorities mean nothing any more; they go by RFC 7540 |
//! | 6.3 | a priority of the wrong size | stream FRAME_SIZE_ERROR | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 6.5.2 | a window setting out of range | connection FLOW_CONTROL_ERROR | connection PROTOCOL_ERROR | they have one code for it all |
//! | 6.5.3 | an answer to no settings | fine | connection PROTOCOL_ERROR | the RFC doesn't say |
//! | 6.8 | a goodbye | fine | connection NO_ERROR | we wait for the client to close, they say goodbye too |
//! | 6.9 | a window that grows by nothing | stream PROTOCOL_ERROR | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 8.1 | trailers with a pseudo-field | stream PROTOCOL_ERROR | fine | they don't look |
//! | 8.1.1 | trailers that are malformed | stream PROTOCOL_ERROR | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 8.1.1 | a body that is not as long as was said | fine | stream PROTOCOL_ERROR | we had answered already: the request is no call |
//! | 8.1.1 | a content-length and no body | fine | stream PROTOCOL_ERROR | we had answered already: the request is no call |
//! | 8.1.1 | a malformed request in two frames | stream PROTOCOL_ERROR | fine | they forget what was wrong with the first frame |
//! | 8.1.1 | a malformed request in two frames | stream PROTOCOL_ERROR | connection PROTOCOL_ERROR | they forget the first frame, and wonder at the second |
//! | 8.1.1 | a malformed request in two frames | stream FRAME_SIZE_ERROR | stream PROTOCOL_ERROR | as for more fields than wanted |
//! | 8.1.1 | a malformed request in two frames | fine | stream PROTOCOL_ERROR | as for a path without a slash |
//! | 8.2.1 | a name that is none | stream PROTOCOL_ERROR | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 8.2.1 | a field without a name | stream PROTOCOL_ERROR | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 8.2.1 | a value that is none | stream PROTOCOL_ERROR | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 8.3 | a pseudo-field nobody knows | stream PROTOCOL_ERROR | connection PROTOCOL_ERROR | they are stricter, as 5.4.1 permits |
//! | 8.3.1 | a request that lacks a field | stream PROTOCOL_ERROR | fine | they can do without a path |
//! | 8.3.1 | a path without a slash | fine | stream PROTOCOL_ERROR | we answer, in grpc-go's words |
//! | 10.5.1 | more fields than the server wants | stream FRAME_SIZE_ERROR | stream PROTOCOL_ERROR | ours is grpc-go's code; they answer 431 besides |

mod client;
mod fields;
mod mistake;
mod ours;
mod sign;
mod theirs;

use std::cell::Cell;
use std::fmt::Write;

use stdx::Generator;
use stdx::generate::each_seed_of;

use self::client::{Client, Move, greeting};
use self::ours::Ours;
use self::sign::{Sign, Verdict, sorted, verdict};
use self::theirs::Theirs;
use crate::Limits;

const SEEDS: u64 = 4000;
const MOVES_MAX: usize = 60;

/// A line of the table.
struct Freedom {
    what: &'static str,
    ours: &'static str,
    theirs: &'static str,
    n_met: Cell<u64>,
}

/// The table at the head of this file.
fn freedoms() -> Vec<Freedom> {
    let lines = include_str!("rival.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = lines.map(|line| line.split(" | ").collect::<Vec<_>>());
    let freedom = |row: Vec<&'static str>| Freedom {
        what: row[1],
        ours: row[2],
        theirs: row[3],
        n_met: Cell::new(0),
    };
    rows.skip(1).map(freedom).collect()
}

/// Small where that lets a few moves reach them.
fn limits() -> Limits {
    Limits {
        streams_max: 5,
        stream_window: 2000,
        header_list_size_max: 800,
        ping_interval_min_ms: 0,
        ..Limits::default()
    }
}

#[test]
fn another_librarys_server_takes_every_client_as_ours_does() {
    let freedoms = freedoms();
    assert!(!freedoms.is_empty(), "the table is not where it was");
    let mut n_conversations = 0;
    each_seed_of(SEEDS, |g| {
        converse(g, &freedoms);
        n_conversations += 1;
    });
    if n_conversations >= SEEDS {
        for Freedom { what, .. } in &freedoms {
            let met = |freedom: &Freedom| freedom.what == *what && freedom.n_met.get() > 0;
            assert!(freedoms.iter().any(met), "they never differ in {what}");
        }
    }
}

/// One client and both servers, until they part.
fn converse(g: &mut Generator, freedoms: &[Freedom]) {
    let limits = limits();
    let [hello, acknowledgement] = greeting();
    let mut client = Client::new(limits.stream_window);
    let mut theirs = Theirs::new(&limits, &hello);
    let mut ours = Ours::new(limits);
    ours.feed(&hello);
    assert_eq!(sorted(ours.feed(&acknowledgement)), []);
    theirs.feed(&acknowledgement);
    let mut story = String::new();
    let n_moves = g.int(1..=MOVES_MAX);
    for n in 0..=n_moves {
        let granted = |stream| ours.reader.granted(stream).min(theirs.reader.granted(stream));
        let step = if n < n_moves { client.next(g, granted) } else { Client::goodbye() };
        let (mine, other) = (sorted(ours.feed(&step.bytes)), sorted(theirs.feed(&step.bytes)));
        tell(&mut story, &step, &mine);
        if mine != other {
            let freedom = freedoms.iter().find(|freedom| allows(freedom, &step, &mine, &other));
            let freedom = freedom.unwrap_or_else(|| panic!("{story}theirs: {other:?}"));
            return freedom.n_met.set(freedom.n_met.get() + 1);
        }
        if matches!(verdict(&mine), Verdict::Connection(_)) {
            return;
        }
        client.heard(&mine);
    }
}

fn allows(freedom: &Freedom, step: &Move, ours: &[Sign], theirs: &[Sign]) -> bool {
    (freedom.what == step.what || freedom.what == "whatever")
        && freedom.ours == verdict(ours).to_string()
        && freedom.theirs == verdict(theirs).to_string()
}

fn tell(story: &mut String, step: &Move, signs: &[Sign]) {
    let shown = &step.bytes[..step.bytes.len().min(200)];
    writeln!(story, "{}: {shown:02x?}\n  ours: {signs:?}", step.what).expect("a text grows");
}
