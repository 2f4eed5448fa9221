//! Floods, by the names under which they became known. Each ends the connection with
//! `ENHANCE_YOUR_CALM`, and costs a bounded amount of memory until then.

use super::peer::{
    self, CONTINUATION, DATA, FrameReader, GO_AWAY, HEADERS, PING, PRIORITY, RESET, SETTINGS,
    WINDOW_UPDATE, frame,
};
use crate::frame::{ACK, END_HEADERS, END_STREAM};
use crate::{Connection, Event, Limits};

/// More than any flood needs.
const ROUNDS_MAX: u32 = 100_000;

/// What a flood may make us hold ready for a client that reads nothing.
const OUTPUT_MAX: usize = 1024 * 1024;

struct Flooded {
    connection: Connection,
    rounds: u32,
    last_line: String,
}

/// Sends what `wave` makes until the server has enough.
fn flood(limits: Limits, mut wave: impl FnMut(u32) -> Vec<u8>) -> Flooded {
    let mut connection = peer::connection(limits);
    connection.receive(&peer::hello());
    let mut rounds = 0;
    while !connection.is_closed() {
        assert!(rounds < ROUNDS_MAX, "a flood without end");
        connection.receive(&wave(rounds));
        while connection.poll().is_some() {}
        assert!(connection.output_len() < OUTPUT_MAX, "a flood held in memory");
        rounds += 1;
    }
    let output = peer::take_output(&mut connection, usize::MAX);
    let last_line = FrameReader::new().read(&output).pop().unwrap();
    Flooded { connection, rounds, last_line }
}

fn assert_calmed(flooded: &Flooded, why: &str, rounds: u32) {
    assert!(flooded.last_line.contains("ENHANCE_YOUR_CALM"), "{}", flooded.last_line);
    assert!(flooded.last_line.ends_with(why), "{}", flooded.last_line);
    assert_eq!(flooded.rounds, rounds);
    assert_eq!(flooded.connection.streams(), 0);
}

/// The stream a client opens in the given round.
fn stream(round: u32) -> u32 {
    round * 2 + 1
}

#[test]
fn rapid_reset_is_ended() {
    let limits = Limits::default();
    let max = limits.resets_per_second_max;
    let flooded = flood(limits, |round| {
        let id = stream(round);
        [peer::call(id, "/t.T/Stream"), frame(RESET, 0, id, &[0, 0, 0, 8])].concat()
    });
    assert_calmed(&flooded, "too_many_resets", max + 1);
}

#[test]
fn made_you_reset_is_ended() {
    let limits = Limits { window_updates_per_second_max: u32::MAX, ..Limits::default() };
    let max = limits.resets_per_second_max;
    for mistake in 0..3 {
        let flooded = flood(limits.clone(), |round| {
            let id = stream(round);
            let provoke = match mistake {
                0 => frame(WINDOW_UPDATE, 0, id, &[0; 4]),
                1 => frame(DATA, 0, id, &[9, 0, 0, 0, 0]),
                _ => frame(HEADERS, END_HEADERS, id, &[0x82]),
            };
            [peer::call(id, "/t.T/Stream"), provoke].concat()
        });
        assert_calmed(&flooded, "too_many_resets", max + 1);
    }
}

#[test]
fn refused_requests_that_have_to_be_reset_are_ended() {
    let limits = Limits::default();
    let max = limits.resets_per_second_max;
    let flooded = flood(limits, |round| peer::call(stream(round), "/no.Body/Home"));
    assert_calmed(&flooded, "too_many_resets", max + 1);
}

#[test]
fn a_flood_of_streams_beyond_the_limit_is_ended() {
    let limits = Limits { streams_max: 10, ..Limits::default() };
    let max = limits.resets_per_second_max;
    let flooded = flood(limits, |round| peer::call(stream(round), "/t.T/Unary"));
    assert_calmed(&flooded, "too_many_resets", max + 11);
}

#[test]
fn a_continuation_flood_is_ended() {
    let limits = Limits::default();
    let max = limits.continuations_max;
    let flooded = flood(limits, |round| match round {
        0 => frame(HEADERS, END_STREAM, 1, &[0x82]),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    assert_calmed(&flooded, "too_many_continuations", max + 2);

    let flooded = flood(Limits::default(), |round| match round {
        0 => frame(HEADERS, END_STREAM, 1, &[0x82; 16_000]),
        _ => frame(CONTINUATION, 0, 1, &[0x82; 16_000]),
    });
    assert_calmed(&flooded, "headers_too_large", 5);
}

#[test]
fn an_hpack_bomb_is_ended() {
    // A large field once, and then references to it, a byte each.
    let mut block =
        vec![0x40, 1, b'a', 127, 0x80 | (3900u16 - 127) as u8 & 0x7f, ((3900 - 127) >> 7) as u8];
    block.extend_from_slice(&[b'x'; 3900]);
    block.extend_from_slice(&[0x80 | 62; 10_000]);
    let flooded = flood(Limits::default(), |round| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream(round), &block)
    });
    assert_calmed(&flooded, "headers_too_large", 1);
}

#[test]
fn a_ping_flood_is_ended() {
    let flooded = flood(Limits::default(), |_| frame(PING, 0, 0, &[0; 8]));
    assert_calmed(&flooded, "too_many_pings", 4);
    // With the police off.
    let limits = Limits { ping_interval_min_ms: 0, ..Limits::default() };
    let max = limits.pings_per_second_max;
    let flooded = flood(limits, |round| match round {
        0 => peer::call(1, "/t.T/Stream"),
        _ => frame(PING, 0, 0, &[0; 8]),
    });
    assert_calmed(&flooded, "too_many_pings", max + 2);
}

#[test]
fn a_settings_flood_is_ended() {
    let limits = Limits::default();
    let max = limits.settings_per_second_max;
    let flooded = flood(limits, |_| frame(SETTINGS, 0, 0, &[]));
    assert_calmed(&flooded, "too_many_settings", max); // The first came with the greeting.
}

#[test]
fn a_flood_of_priorities_and_unknown_frames_is_ended() {
    let limits = Limits::default();
    let max = limits.idle_frames_per_second_max;
    let flooded = flood(limits, |round| match round % 2 {
        0 => frame(PRIORITY, 0, 7, &[0; 5]),
        _ => frame(99, 0, 0, &[]),
    });
    assert_calmed(&flooded, "too_many_idle_frames", max + 1);
}

#[test]
fn a_flood_of_answers_to_nothing_is_ended() {
    let limits = Limits::default();
    let max = limits.idle_frames_per_second_max;
    let flooded = flood(limits, |round| match round % 3 {
        0 => frame(SETTINGS, ACK, 0, &[]),
        1 => frame(PING, ACK, 0, &[0; 8]),
        _ => frame(GO_AWAY, 0, 0, &[0; 8]),
    });
    assert_calmed(&flooded, "too_many_idle_frames", max + 1);
}

#[test]
fn a_flood_of_empty_data_is_ended() {
    let limits = Limits::default();
    let max = limits.empty_frames_per_second_max;
    let flooded = flood(limits.clone(), |round| match round {
        0 => peer::call(1, "/t.T/Stream"),
        1 => frame(DATA, 0, 1, &[]),
        _ => frame(DATA, 8, 1, &[3, 0, 0, 0]), // Nothing but padding.
    });
    assert_calmed(&flooded, "too_many_empty_frames", max + 2);
}

#[test]
fn a_flood_of_window_updates_is_ended() {
    let limits = Limits::default();
    let max = limits.window_updates_per_second_max;
    let flooded = flood(limits, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    assert_calmed(&flooded, "too_many_window_updates", max + 1);
}

#[test]
fn window_updates_in_answer_to_data_are_no_flood() {
    let mut connection = peer::connection(Limits::default());
    connection.receive(&peer::hello());
    for round in 0..20_000 {
        let id = stream(round);
        connection.receive(&[peer::call(id, "/t.T/Unary"), peer::message(id, true, b"x")].concat());
        while let Some(event) = connection.poll() {
            if let Event::Unary { stream, .. } = event {
                connection.reply(stream, |out| out.extend_from_slice(b"yy"));
            }
        }
        connection.receive(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 7]));
        connection.receive(&frame(WINDOW_UPDATE, 0, id, &[0, 0, 0, 7]));
        peer::take_output(&mut connection, usize::MAX);
        assert!(!connection.is_closed());
    }
}

#[test]
fn a_second_later_the_budget_is_new() {
    let mut connection = peer::connection(Limits::default());
    connection.receive(&peer::hello());
    for second in 1..10 {
        for _ in 0..Limits::default().settings_per_second_max - 1 {
            connection.receive(&frame(SETTINGS, 0, 0, &[]));
        }
        connection.tick(second * 1000);
        assert!(!connection.is_closed());
    }
}

#[test]
fn a_reader_that_stops_is_no_longer_read_from_and_then_ended() {
    let limits = Limits { output_bytes_max: 512 * 1024, ..Limits::default() };
    let (mut connection, high) = (peer::connection(limits.clone()), limits.output_high_water);
    connection.receive(&peer::hello());
    let mut round = 0;
    while connection.wants_read() {
        connection.receive(&frame(HEADERS, END_HEADERS | END_STREAM, stream(round), &block()));
        round += 1;
    }
    assert!((high..2 * high).contains(&connection.output_len()));
    // An owner that reads on all the same is protected from itself.
    while !connection.is_closed() {
        connection.receive(&frame(HEADERS, END_HEADERS | END_STREAM, stream(round), &block()));
        round += 1;
    }
    assert!(connection.output_len() < limits.output_bytes_max + 1024);
}

fn block() -> Vec<u8> {
    peer::block(&peer::call_fields("/no.Body/Home"))
}

#[test]
fn a_frame_that_never_ends_holds_no_more_than_a_frame() {
    let mut connection = peer::connection(Limits::default());
    connection.receive(&peer::hello());
    connection.receive(&peer::call(1, "/t.T/Unary"));
    let drip = frame(DATA, 0, 1, &[0; 16_384]);
    for (n, byte) in drip.iter().enumerate() {
        connection.receive(&[*byte]);
        connection.tick(n as u64);
    }
    assert!(!connection.is_closed());
    assert!(connection.memory() < 64 * 1024, "{} bytes", connection.memory());
}

#[test]
fn an_idle_connection_is_small() {
    let mut connection = peer::connection(Limits::default());
    connection.receive(&peer::hello());
    connection.receive(&frame(WINDOW_UPDATE, 0, 0, &[0, 0xff, 0, 0]));
    for round in 0..100 {
        let id = stream(round);
        let block = peer::remembered_block(&peer::call_fields("/t.T/Unary"));
        let call = frame(HEADERS, END_HEADERS, id, &block);
        let bytes = [call, peer::message(id, true, &[7; 1000])].concat();
        let (some, rest) = bytes.split_at(700);
        connection.receive(some);
        connection.receive(rest);
        while let Some(event) = connection.poll() {
            if let Event::Unary { stream, body, .. } = event {
                connection.send_unary(stream, body);
            }
        }
    }
    peer::take_output(&mut connection, usize::MAX);
    assert_eq!(connection.streams(), 0);
    connection.tick(1000);
    connection.tick(2000);
    assert!(connection.memory() < 4 * 1024, "{} bytes", connection.memory());
}
