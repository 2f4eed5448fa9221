//! What a session writes, and how it takes what a server may send.

use super::*;
use stdx::each_seed;

/// A session whose greeting is out and whose server has said hello.
fn ready() -> Session {
    let mut session = Session::new("host:1");
    feed(&mut session, &frame_of(Kind::Settings, 0, CONNECTION, &[]));
    session.output.clear();
    session
}

fn frame_of(kind: Kind, flags: u8, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, Frame { kind, flags, stream, payload });
    out
}

/// All events of the bytes, as text.
fn feed(session: &mut Session, mut bytes: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(event) = session.receive(&mut bytes).expect("a sound server") {
        events.push(format!("{event:?}"));
    }
    events
}

#[test]
fn a_greeting_is_the_preface_our_settings_and_a_wide_window() {
    let session = Session::new("host:1");
    assert!(session.output.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x0c\x04"));
    assert!(session.output.ends_with(b"\x00\x00\x04\x08\x00\0\0\0\0\x7f\xff\x00\x00"));
    assert!(!session.is_ready());
}

#[test]
fn a_second_request_is_its_body_and_thirty_bytes() {
    let mut session = ready();
    assert_eq!(session.request(Method::Put, b"body"), StreamId(1));
    session.output.clear();
    assert_eq!(session.request(Method::Put, b"body"), StreamId(3));
    let headers = b"\x00\x00\x07\x01\x04\x00\x00\x00\x03\x83\x86\xc2\xc1\xc0\xbf\xbe";
    let data = b"\x00\x00\x09\x00\x01\x00\x00\x00\x03\x00\x00\x00\x00\x04body";
    assert_eq!(session.output, [&headers[..], &data[..]].concat());
}

#[test]
fn a_long_message_travels_in_several_frames_and_ends_with_the_last() {
    let mut session = ready();
    let body = vec![7; 40_000];
    session.request(Method::Txn, &body);
    let mut input = &session.output[..];
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = frame::take(&mut input) {
        frames.push((frame.kind, frame.payload.len(), frame.flags & END_STREAM != 0));
    }
    let data = |length, end| (Kind::Data, length, end);
    assert_eq!(frames[1..], [data(16_384, false), data(16_384, false), data(7_237, true)]);
}

#[test]
fn windows_are_spent_and_given_back() {
    let mut session = ready();
    let body = vec![0; 60_000];
    assert!(session.may_request(&body));
    session.request(Method::Put, &body);
    assert!(!session.may_request(&body));
    feed(&mut session, &frame_of(Kind::WindowUpdate, 0, CONNECTION, &60_000u32.to_be_bytes()));
    assert!(session.may_request(&body));

    session.open(Method::Watch);
    session.send(&body);
    feed(&mut session, &frame_of(Kind::WindowUpdate, 0, CONNECTION, &90_000u32.to_be_bytes()));
    assert!(!session.may_send(&body), "the stream has a window of its own");
    feed(&mut session, &frame_of(Kind::WindowUpdate, 0, StreamId(3), &60_000u32.to_be_bytes()));
    assert!(session.may_send(&body));
}

#[test]
fn pings_and_settings_are_answered() {
    let mut session = ready();
    feed(&mut session, &frame_of(Kind::Ping, 0, CONNECTION, b"whatever"));
    assert_eq!(session.output, frame_of(Kind::Ping, ACK, CONNECTION, b"whatever"));
    session.output.clear();
    feed(&mut session, &frame_of(Kind::Settings, 0, CONNECTION, &[0, 4, 0, 0, 1, 0]));
    assert_eq!(session.output, frame_of(Kind::Settings, ACK, CONNECTION, &[]));
    assert!(session.may_request(&[0; 251]) && !session.may_request(&[0; 252]));
}

#[test]
fn an_answer_is_its_data_and_its_status() {
    let mut session = ready();
    let stream = session.request(Method::Put, b"");
    let trailers = b"\x40\x0bgrpc-status\x010\x40\x0cgrpc-message\x00";
    let answer = [
        frame_of(Kind::Headers, END_HEADERS, stream, b"\x88"),
        frame_of(Kind::Data, 0, stream, b"\0\0\0\0\0"),
        frame_of(Kind::Headers, END_HEADERS | END_STREAM, stream, trailers),
    ];
    let events = feed(&mut session, &answer.concat());
    assert_eq!(
        events,
        [
            "Data { stream: StreamId(1), bytes: [0, 0, 0, 0, 0] }",
            "Ended { stream: StreamId(1), outcome: Done }"
        ]
    );

    let again = frame_of(Kind::Headers, END_HEADERS | END_STREAM, stream, b"\xbf\xbe");
    assert_eq!(feed(&mut session, &again), ["Ended { stream: StreamId(1), outcome: Done }"]);

    let refusal = b"\x00\x0bgrpc-status\x018\x00\x0cgrpc-message\x04full";
    let refused = frame_of(Kind::Headers, END_HEADERS | END_STREAM, stream, refusal);
    let refused = feed(&mut session, &refused);
    assert!(refused[0].contains("Refused { code: 8, message: \"full\" }"), "{refused:?}");
}

#[test]
fn whatever_a_server_sends_receive_returns() {
    each_seed(|g| {
        let mut session = ready();
        for _ in 0..16 {
            let kind = *g.pick(&[
                Kind::Data,
                Kind::Headers,
                Kind::ResetStream,
                Kind::Settings,
                Kind::Ping,
                Kind::WindowUpdate,
            ]);
            let bytes = frame_of(kind, g.number() as u8 & 0x5, StreamId(1), &g.bytes(0..40));
            let mut input = &bytes[..];
            if session.receive(&mut input).is_err() {
                return;
            }
        }
    });
}
