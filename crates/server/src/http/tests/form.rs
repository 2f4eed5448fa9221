//! Requests whose form is wrong, or says how they are meant to be read.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::World;
use crate::http::Door;

#[test]
fn malformed_requests_are_refused_as_by_gos_server() {
    let world = World::new();
    let ask = |line: &str, headers: &str| {
        let mut pipe = world.connect(Door::Plain);
        let mut answer = String::new();
        world.within(async {
            let request = format!("GET /livez {line}\r\n{headers}\r\n");
            pipe.write_all(request.as_bytes()).await.expect("the server reads");
            pipe.read_to_string(&mut answer).await.expect("the server answers, and closes");
        });
        answer
    };
    let missing = "400 Bad Request: missing required Host header";
    let malformed = "400 Bad Request: malformed Host header";
    for (line, headers, what) in [
        ("HTTP/1.1", "", missing),
        ("HTTP/1.1", "Host: a\r\nHost: a\r\n", "400 Bad Request"),
        ("HTTP/1.0", "Host: a\r\nHost: b\r\n", "400 Bad Request"),
        ("HTTP/1.1", "Host: a b\r\n", malformed),
        ("HTTP/1.1", "Host: a/b\r\n", malformed),
        ("HTTP/1.0", "Host: <\r\n", malformed),
    ] {
        let answer = ask(line, headers);
        assert!(answer.starts_with(&format!("{line} {what}\r\n")), "{headers}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{what}")), "{answer}");
    }
    for (expect, welcome) in [
        ("foo", false),
        ("100-continued", false),
        ("foo\r\nExpect: 100-continue", false),
        ("", true),
        ("100-Continue", true),
        ("foo, 100-continue", true),
        ("100-continue\r\nExpect: foo", true),
    ] {
        let closes = if welcome { "Connection: close\r\n" } else { "" };
        let answer = ask("HTTP/1.1", &format!("Host: a\r\nExpect: {expect}\r\n{closes}"));
        let line = if welcome { "200 OK" } else { "417 Expectation Failed" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{expect}: {answer}");
    }
}

#[test]
fn a_form_may_override_its_method_and_has_no_request_left() {
    let world = World::new();
    let form = "Content-Type: application/x-www-form-urlencoded\r\nX-HTTP-Method-Override";
    let put = |headers: &str| {
        let head = format!("POST /v3/kv/put\r\n{headers}");
        world.ask_at(Door::Plain, &head, "{\"value\":\"aw==\"}")
    };
    for verb in ["GET", "PUT"] {
        let refused = put(&format!("{form}: {verb}"));
        assert!(refused.starts_with("HTTP/1.1 501 Not Implemented\n"), "{refused}");
    }
    // The revision is as long as the value.
    let value = |headers: &str| put(headers).contains("\"revision\":\"1\"");
    assert!(put(&format!("{form}: post")).starts_with("HTTP/1.1 200 OK\n"));
    assert!(!value(&format!("{form}: post")), "the form was read as one");
    assert!(value("X-HTTP-Method-Override: GET"), "no form");
    assert!(value(&format!("{form}:")), "nothing is overridden");
}
