//! Requests that Go's server refuses before any handler sees them.
//!
//! | what | answer |
//! |---|---|
//! | no `Host`, more than one, or one that cannot be a host's name | 400 |
//! | an `Expect` of anything but `100-continue` | 417 |
//!
//! The connection ends with the answer: where the next request would begin is anybody's guess.

use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode, Version};

use super::answer::{self, Answer};

/// The bytes a `Host` may have beside letters and digits.
const HOST_MARKS: &[u8] = b"!$%&'()*+,-.:;=[]_~";

/// The answer to a request that is malformed; `None` if it is not.
pub(crate) fn refuse<B>(request: &Request<B>) -> Option<Answer> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => {
            return Some(bad("400 Bad Request: missing required Host header"));
        }
        (Some(host), None) if !host.as_bytes().iter().all(is_of_host) => {
            return Some(bad("400 Bad Request: malformed Host header"));
        }
        (Some(_), Some(_)) => return Some(bad("400 Bad Request")),
        (None | Some(_), None) | (None, Some(_)) => {}
    }
    expects_too_much(headers).then(|| {
        let mut answer = answer::empty();
        *answer.status_mut() = StatusCode::EXPECTATION_FAILED;
        closing(answer)
    })
}

fn is_of_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || HOST_MARKS.contains(byte)
}

/// Only the first line counts, and in it one word among others is enough.
fn expects_too_much(headers: &HeaderMap) -> bool {
    let expected = headers.get(EXPECT).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut words = expected.split(|byte| b" ,\t".contains(byte));
    !expected.is_empty() && !words.any(|word| word.eq_ignore_ascii_case(b"100-continue"))
}

/// What is wrong stands in the status line, too.
fn bad(what: &'static str) -> Answer {
    let mut answer = answer::whole(StatusCode::BAD_REQUEST, answer::TEXT, what);
    let reason = what.split_once(' ').map_or(what, |(_, reason)| reason);
    answer.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    closing(answer)
}

fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
