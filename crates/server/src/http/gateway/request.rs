//! What comes in: the values of a body, one by one, and what the headers say of the call.

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, HeaderMap};
use proto::error::{Code, Status};

use super::codec::{invalid, too_large};
use super::scan::{Scan, Scanner};
use crate::api::Caller;

/// What gRPC adds to the largest request, as etcd allows for it.
const OVERHEAD_MAX: usize = 512 * 1024;
/// How much longer JSON may be than what it describes: base64 adds a third, names and spaces more,
/// and what is too large is read so far beyond its bound that it can be told how large it is.
const JSON_GROWTH_MAX: usize = 4;

/// The JSON values of a request's body, as they come.
pub(super) struct Requests<B> {
    body: B,
    scanner: Scanner,
    buffer: BytesMut,
    request_bytes_max: usize,
    ended: bool,
}

impl<B> Requests<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error,
{
    pub(super) fn new(body: B, request_bytes_max: usize) -> Self {
        let (scanner, buffer) = (Scanner::default(), BytesMut::new());
        Self { body, scanner, buffer, request_bytes_max, ended: false }
    }

    /// The most bytes of a request, in protobuf.
    pub(super) fn message_max(&self) -> usize {
        self.request_bytes_max + OVERHEAD_MAX
    }

    /// The most bytes of a request, in JSON.
    fn value_max(&self) -> usize {
        JSON_GROWTH_MAX * self.message_max()
    }

    /// The next value; `None` at the end of the body. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match self.scanner.scan(&self.buffer) {
                Scan::Value(len) => {
                    self.scanner = Scanner::default();
                    return Ok(Some(self.buffer.split_to(len).freeze()));
                }
                Scan::Invalid(what) => return Err(invalid(what)),
                Scan::Unfinished if self.ended => return self.last(),
                Scan::Unfinished => {}
            }
            if self.scanner.is_before_value() {
                self.buffer.clear(); // Nothing but white space.
                self.scanner = Scanner::default();
            }
            if self.buffer.len() > self.value_max() {
                return Err(too_large(self.buffer.len(), self.message_max()));
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(broken)) => return Err(invalid(broken.to_string())),
            }
        }
    }

    /// Lets the rest of the body go by. Ends only if the client breaks off: it is by reading that
    /// one learns of it.
    pub(super) async fn drain(&mut self) -> Status {
        match self.discard().await {
            Ok(()) => std::future::pending().await,
            Err(gone) => gone,
        }
    }

    /// Reads the rest of the body, and keeps nothing. An error: the client has broken off.
    pub(super) async fn discard(&mut self) -> Result<(), Status> {
        self.buffer = BytesMut::new();
        while !self.ended {
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(_)) => {}
                Some(Err(_)) => return Err(gone()),
            }
        }
        Ok(())
    }

    /// What is left when the body has ended: nothing, a number, or half a value.
    fn last(&mut self) -> Result<Option<Bytes>, Status> {
        if self.scanner.is_before_value() {
            return Ok(None);
        }
        if !self.scanner.is_whole() {
            return Err(invalid("unexpected EOF"));
        }
        self.scanner = Scanner::default();
        Ok(Some(self.buffer.split_to(self.buffer.remaining()).freeze()))
    }
}

/// What is said of a call whose client has gone.
pub(super) fn gone() -> Status {
    Status::new(Code::Canceled, "context canceled")
}

/// What the headers say of a call.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) caller: Caller,
    pub(super) deadline: Option<Instant>,
}

impl Metadata {
    /// `Grpc-Metadata-X` is gRPC's `x`; `Authorization` is its own, and comes before the other.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Status> {
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let token = value("grpc-metadata-token")
            .or_else(|| value(AUTHORIZATION.as_str()))
            .or_else(|| value("grpc-metadata-authorization"));
        let client_version = headers.get("grpc-metadata-client-api-version");
        let client_version = client_version.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let requires_leader = value("grpc-metadata-hasleader") == Some("true");
        let deadline = match value("grpc-timeout") {
            None => None,
            Some(text) => {
                let time = parse_timeout(text);
                let time = time.ok_or_else(|| invalid(format!("invalid grpc-timeout: {text}")))?;
                Instant::now().checked_add(time)
            }
        };
        Ok(Self {
            caller: Caller { token: token.map(Box::from), client_version, requires_leader },
            deadline,
        })
    }

    pub(super) fn client_version(&self) -> Option<&str> {
        std::str::from_utf8(self.caller.client_version.as_deref()?).ok()
    }
}

/// Digits of a timeout; gRPC allows no more.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// `100m` is a tenth of a second.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (at, unit) = text.char_indices().next_back()?;
    let digits = &text[..at];
    if digits.len() > TIMEOUT_DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("1H"), Some(Duration::from_secs(3600)));
        for text in ["", "5", "S", "1x", "-1S", "123456789S", "1 S", "1µ"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn headers_say_who_calls() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for &(name, value) in pairs {
                headers.insert(name, value.parse().expect("a value"));
            }
            let caller = Metadata::read(&headers).expect("nothing is wrong").caller;
            (caller.token.unwrap_or_default().into_string(), caller.requires_leader)
        };
        assert_eq!(read(&[]), (String::new(), false));
        assert_eq!(read(&[("token", "t")]), (String::new(), false));
        assert_eq!(read(&[("grpc-metadata-hasleader", "true")]), (String::new(), true));
        let both = [("authorization", "a"), ("grpc-metadata-authorization", "b")];
        assert_eq!(read(&both).0, "a");
        assert_eq!(read(&[both[0], ("grpc-metadata-token", "c")]).0, "c");
    }
}
