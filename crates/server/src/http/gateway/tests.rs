use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use proto::method::Method;
use tokio::runtime::Builder;

use super::codec::Codec;
use super::request::Requests;

#[test]
fn every_route_reads_an_empty_object_and_shows_an_empty_message() {
    for &method in Method::ALL {
        let codec = Codec::of(method);
        assert_eq!(codec.is_none(), method.routes().is_empty(), "{method:?}");
        for route in method.routes() {
            let codec = codec.expect("it has a route");
            assert_eq!(Method::from_route(route), Some(method));
            assert_eq!(codec.request(b"{}", 0), Ok(Bytes::new()));
            assert_eq!(codec.response(&Bytes::new()).as_deref(), Ok(&b"{}"[..]));
            assert_eq!(codec.line(&Bytes::new()).as_deref(), Ok(&b"{\"result\":{}}\n"[..]));
        }
    }
}

#[test]
fn what_is_no_object_is_refused_in_protojsons_words() {
    let codec = Codec::of(Method::Range).expect("it has a route");
    let why = |json: &[u8]| codec.request(json, 100).expect_err("no object").message;
    assert_eq!(why(b"[]"), "proto: syntax error (line 1:1): unexpected token [");
    assert_eq!(why(b"null"), "proto: syntax error (line 1:1): unexpected token null");
    assert_eq!(why(b"\"x\""), "proto: syntax error (line 1:1): unexpected token \"x\"");
    assert!(why(b"{\"key\":5}").starts_with("proto: (line 1:8): "));
    let long = codec.request(br#"{"key":"AAAAAAAA"}"#, 7).expect_err("8 bytes in all");
    assert_eq!(long.message, "grpc: received message larger than max (8 vs. 7)");
}

/// A body that comes in these pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// The values found in a body that comes in `pieces`, and why no more.
fn values(pieces: &[&[u8]], request_bytes_max: usize) -> Vec<String> {
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let mut requests = Requests::new(Pieces(pieces), request_bytes_max);
    let runtime = Builder::new_current_thread().build().expect("a runtime without anything");
    let mut found = Vec::new();
    loop {
        match runtime.block_on(requests.next()) {
            Ok(Some(value)) => found.push(String::from_utf8_lossy(&value).trim().to_owned()),
            Ok(None) => return found,
            Err(status) => {
                found.push(status.message.into_owned());
                return found;
            }
        }
    }
}

#[test]
fn a_body_is_cut_into_its_values_however_it_comes() {
    let body = b" {\"a\":1}{\"b\":\"}\"}\n\n[2] 3 ";
    stdx::each_seed(|g| {
        let mut pieces = Vec::new();
        let mut rest = &body[..];
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(g.int(1..=rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        assert_eq!(values(&pieces, 100), ["{\"a\":1}", "{\"b\":\"}\"}", "[2]", "3"]);
    });
    assert_eq!(values(&[], 100), Vec::<String>::new());
    assert_eq!(values(&[b"  "], 100), Vec::<String>::new());
    assert_eq!(values(&[b"7"], 100), ["7"]);
    assert_eq!(values(&[b"{}{\"a"], 100), ["{}", "unexpected EOF"]);
}

#[test]
fn a_body_without_end_is_refused_while_it_is_still_small() {
    let piece = vec![b' '; 1 << 16];
    let spaces: Vec<&[u8]> = vec![&piece; 64];
    assert!(values(&spaces, 0).is_empty(), "white space costs nothing");
    let long = vec![b'x'; 1 << 16];
    let mut pieces: Vec<&[u8]> = vec![b"\""];
    pieces.extend(std::iter::repeat_n(&long[..], 64));
    let why = values(&pieces, 0).pop().expect("it is refused");
    assert!(why.starts_with("grpc: received message larger than max ("), "{why}");
}
