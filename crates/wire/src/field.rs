//! What a header field means to a gRPC server: decided once, when the field is first seen.
//!
//! The header table of a connection keeps each field together with its [`Tag`], so a request made
//! of nothing but references to the table is understood without looking at a single letter.
//!
//! # Invariants
//!
//! - A field that makes a request malformed (RFC 9113, 8.2) is tagged so, wherever it stands.
//!
//! # Not here
//!
//! Rules about several fields at once (order, duplicates, what must be there): `head`.

/// A method of the server's table: what a [`Router`] made of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(pub u16);

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// One message in; it arrives as [`Event::Unary`](crate::Event::Unary). What comes back is the
    /// method's business: one message or many.
    Unary(Method),
    /// Messages in as they come: [`Event::Opened`](crate::Event::Opened), then `Message`s.
    Streaming(Method),
    /// The connection itself answers these, in grpc-go's words.
    UnknownMethod,
    UnknownService,
}

/// Looks a path up. It is asked once for each path a connection's header table learns.
pub type Router = fn(path: &[u8]) -> Route;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    // Pseudo-header fields come first in a block.
    MethodPost,
    MethodOther,
    Scheme,
    Authority,
    Path(Route),
    // Then everything else.
    ContentTypeGrpc,
    ContentTypeOther,
    ContentLength,
    Timeout,
    EncodingIdentity,
    EncodingGzip,
    EncodingOther,
    Token,
    Authorization,
    HasLeader,
    ClientApiVersion,
    Host,
    Ignored,
    /// The whole request is malformed.
    Malformed,
}

impl Tag {
    pub(crate) fn is_pseudo(self) -> bool {
        matches!(
            self,
            Self::MethodPost | Self::MethodOther | Self::Scheme | Self::Authority | Self::Path(_)
        )
    }
}

/// What `name: value` means.
pub(crate) fn classify(name: &[u8], value: &[u8], router: Router) -> Tag {
    if !value.iter().all(|&byte| is_value_byte(byte)) {
        return Tag::Malformed;
    }
    match name {
        b":method" if value == b"POST" => Tag::MethodPost,
        b":method" => Tag::MethodOther,
        b":scheme" => Tag::Scheme,
        b":authority" => Tag::Authority,
        b":path" if value.is_empty() => Tag::Malformed,
        b":path" => Tag::Path(router(value)),
        b"content-type" if is_grpc(value) => Tag::ContentTypeGrpc,
        b"content-type" => Tag::ContentTypeOther,
        b"content-length" => Tag::ContentLength,
        b"grpc-timeout" => Tag::Timeout,
        b"grpc-encoding" => match value {
            b"" | b"identity" => Tag::EncodingIdentity,
            b"gzip" => Tag::EncodingGzip,
            _ => Tag::EncodingOther,
        },
        b"token" => Tag::Token,
        b"authorization" => Tag::Authorization,
        b"hasleader" if value == b"true" => Tag::HasLeader,
        b"client-api-version" => Tag::ClientApiVersion,
        b"host" => Tag::Host,
        b"te" if value != b"trailers" => Tag::Malformed,
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Tag::Malformed // They are about the connection, which is HTTP/2's business.
        }
        _ if is_name(name) => Tag::Ignored,
        _ => Tag::Malformed,
    }
}

/// `application/grpc`, alone or followed by `+` or `;` and anything: as grpc-go has it.
fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some([]) => true,
        Some([next, ..]) => matches!(next, b'+' | b';'),
        None => false,
    }
}

/// Lowercase letters, digits and the marks a token may hold. (Known pseudo-fields never get here.)
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|&byte| {
            matches!(byte, b'a'..=b'z' | b'0'..=b'9')
                || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
                || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        })
}

fn is_value_byte(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str, value: &str) -> Tag {
        classify(name.as_bytes(), value.as_bytes(), |_| Route::Unary(Method(7)))
    }

    #[test]
    fn a_path_is_resolved_and_a_method_is_post() {
        assert_eq!(tag(":path", "/a/b"), Tag::Path(Route::Unary(Method(7))));
        assert_eq!(tag(":method", "POST"), Tag::MethodPost);
        assert_eq!(tag(":method", "GET"), Tag::MethodOther);
        assert!(matches!(tag(":path", ""), Tag::Malformed));
    }

    #[test]
    fn content_types_of_grpc_are_those_grpc_go_accepts() {
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x",
            "application/grpc+",
        ] {
            assert_eq!(tag("content-type", good), Tag::ContentTypeGrpc, "{good}");
        }
        for bad in ["application/grpc-web", "application/json", "", "Application/grpc"] {
            assert_eq!(tag("content-type", bad), Tag::ContentTypeOther, "{bad}");
        }
    }

    #[test]
    fn names_are_lowercase_tokens_and_say_nothing_of_the_connection() {
        for bad in ["Upper", "", "a b", ":status", ":", "a:b", "connection", "upgrade", "ümlaut"] {
            assert!(matches!(tag(bad, "x"), Tag::Malformed), "{bad}");
        }
        for good in ["x-thing", "grpc-trace-bin", "a_b.c", "te"] {
            assert_eq!(tag(good, "trailers"), Tag::Ignored, "{good}");
        }
        assert!(matches!(tag("te", "gzip"), Tag::Malformed));
    }

    #[test]
    fn values_hold_no_control_characters() {
        for bad in ["a\0", "a\r\nb", "\n", "\x7f"] {
            assert!(matches!(tag("x", bad), Tag::Malformed), "{bad:?}");
        }
        assert_eq!(tag("x", " tab\tand ünicode "), Tag::Ignored);
    }
}
