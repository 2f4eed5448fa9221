//! How a call ended: a code, a message, and how both are spelled in trailers.

use std::fmt::Write;

/// gRPC's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// How a call ended, as the trailers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    pub code: Code,
    pub message: &'a str,
    /// An encoded `google.rpc.Status`, where there is more to say.
    pub details: Option<&'a [u8]>,
}

impl<'a> Status<'a> {
    pub const OK: Status<'static> = Status { code: Code::Ok, message: "", details: None };

    pub fn new(code: Code, message: &'a str) -> Self {
        Self { code, message, details: None }
    }
}

/// A message as `grpc-message` spells it: what is not printable ASCII, and `%`, becomes `%XX`.
pub fn percent_encode(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string takes everything");
        }
    }
    text
}

/// Base64 without padding, as values of `-bin` fields are written.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..=group.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * i)) as usize & 63]));
        }
    }
    text
}

/// `%q` as Go writes it, near enough for what headers can hold.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

/// grpc-go's text for a path without a service and a method, if it is one.
pub(crate) fn malformed_path(path: &[u8]) -> Option<String> {
    let method = path.strip_prefix(b"/").filter(|rest| rest.contains(&b'/'));
    method.is_none().then(|| format!("malformed method name: {}", quoted(path)))
}

/// grpc-go's text for a path that leads nowhere.
pub(crate) fn unimplemented(path: &[u8], known_service: bool) -> String {
    if let Some(text) = malformed_path(path) {
        return text;
    }
    let path = String::from_utf8_lossy(path);
    let (service, method) = path[1..].rsplit_once('/').expect("a slash, as was just checked");
    if known_service {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded_byte_by_byte() {
        assert_eq!(percent_encode("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(percent_encode("100% ü\n"), "100%25 %C3%BC%0A");
    }

    #[test]
    fn base64_has_no_padding() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_named_in_grpc_gos_words() {
        assert_eq!(unimplemented(b"/a.B/C", false), "unknown service a.B");
        assert_eq!(unimplemented(b"/a.B/C", true), "unknown method C for service a.B");
        assert_eq!(unimplemented(b"/a/b/C", false), "unknown service a/b");
        assert_eq!(unimplemented(b"foo", false), "malformed method name: \"foo\"");
        assert_eq!(unimplemented(b"/", false), "malformed method name: \"/\"");
        assert_eq!(unimplemented(b"a/b", false), "malformed method name: \"a/b\"");
    }
}
