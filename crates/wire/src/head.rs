//! The head of a request: the fields of its first header block, taken together.
//!
//! [`Head`] collects what the decoder yields and then gives its [`Verdict`], in the order in which
//! grpc-go asks its questions: is it HTTP/2, is it gRPC, is the timeout one, is it POST, does the
//! path lead anywhere, can we read its messages.
//!
//! # Invariants
//!
//! - Metadata equal to that of the connection's last request is shared with it, not copied.
//! - Nothing is kept of a field that means nothing to us.

use std::sync::Arc;

use bytes::Bytes;

use crate::field::{Method, Route, Tag};
use crate::hpack::{Field, Sink};
use crate::status::{Code, quoted, unimplemented};
use crate::timeout;

/// What etcd's handlers want to know of a request's headers. Calls of one client usually share it:
/// `Arc::ptr_eq` tells that nothing changed since the last call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub token: Option<Bytes>,
    pub authorization: Option<Bytes>,
    pub client_api_version: Option<Bytes>,
    pub has_leader: bool,
}

/// How the messages of a request are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

/// What is to be done about a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    Call(Call),
    /// It is answered with this, and never becomes an event.
    Refuse {
        http: u16,
        code: Code,
        message: String,
    },
    Malformed,
    /// Its headers are more than we accept.
    TooLarge,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) streaming: bool,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) encoding: Encoding,
    pub(crate) content_length: Option<u64>,
}

#[derive(Debug, Default)]
enum ContentType {
    #[default]
    Missing,
    Grpc,
    Other(Vec<u8>),
}

/// Which fields were there; pseudo-fields may be but once.
const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;
const REGULAR: u8 = 16;
const REQUIRED: u8 = METHOD | SCHEME | PATH;

/// Which fields were the same as in the last request.
const TOKEN: u8 = 1;
const AUTHORIZATION: u8 = 2;
const VERSION: u8 = 4;

#[derive(Debug)]
pub(crate) struct Head<'a> {
    last: &'a Arc<Metadata>,
    size_max: usize,
    size: usize,
    seen: u8,
    n_hosts: u8,
    same: u8,
    malformed: bool,
    fresh: Metadata,
    route: Route,
    /// Kept only if it leads nowhere.
    path: Vec<u8>,
    /// Kept only if it is not POST.
    method: Option<Vec<u8>>,
    content_type: ContentType,
    content_length: Option<u64>,
    timeout: Option<Result<u64, String>>,
    encoding: Result<Encoding, Vec<u8>>,
}

impl<'a> Head<'a> {
    /// `last` is the metadata of the request before.
    pub(crate) fn new(last: &'a Arc<Metadata>, size_max: usize) -> Self {
        Self {
            last,
            size_max,
            size: 0,
            seen: 0,
            n_hosts: 0,
            same: 0,
            malformed: false,
            fresh: Metadata::default(),
            route: Route::UnknownService,
            path: Vec::new(),
            method: None,
            content_type: ContentType::Missing,
            content_length: None,
            timeout: None,
            encoding: Ok(Encoding::Identity),
        }
    }

    /// So far beyond the limit that it can only be an attack.
    pub(crate) fn is_bomb(&self) -> bool {
        self.size > self.size_max.saturating_mul(BOMB_FACTOR)
    }

    /// Whether these could be trailers.
    pub(crate) fn are_trailers(&self) -> bool {
        !self.malformed && self.seen & (METHOD | SCHEME | AUTHORITY | PATH) == 0
    }

    pub(crate) fn verdict(self) -> Verdict {
        if self.size > self.size_max {
            return Verdict::TooLarge;
        }
        if self.malformed || self.seen & REQUIRED != REQUIRED {
            return Verdict::Malformed;
        }
        if let Some((http, code, message)) = self.refusal() {
            return Verdict::Refuse { http, code, message };
        }
        let (method, streaming) = match self.route {
            Route::Unary(method) => (method, false),
            Route::Streaming(method) => (method, true),
            Route::UnknownMethod | Route::UnknownService => {
                let message = unimplemented(&self.path, self.route == Route::UnknownMethod);
                return Verdict::Refuse { http: 200, code: Code::Unimplemented, message };
            }
        };
        let encoding = match self.encoding {
            Ok(encoding) => encoding,
            Err(name) => {
                let name = quoted(&name);
                let message =
                    format!("grpc: Decompressor is not installed for grpc-encoding {name}");
                return Verdict::Refuse { http: 200, code: Code::Unimplemented, message };
            }
        };
        Verdict::Call(Call {
            method,
            streaming,
            timeout_ms: self.timeout.and_then(Result::ok),
            encoding,
            content_length: self.content_length,
            metadata: settle(self.last, self.fresh, self.same),
        })
    }

    /// What grpc-go's transport would answer by itself.
    fn refusal(&self) -> Option<(u16, Code, String)> {
        if self.n_hosts > 1 {
            let n_authorities = u8::from(self.seen & AUTHORITY != 0);
            let message = format!(
                "num values of :authority: {n_authorities}, num values of host: {}, \
                 both must only have 1 value as per HTTP/2 spec",
                self.n_hosts
            );
            return Some((400, Code::Internal, message));
        }
        let other = match &self.content_type {
            ContentType::Grpc => None,
            ContentType::Missing => Some(&[][..]),
            ContentType::Other(value) => Some(&value[..]),
        };
        if let Some(value) = other {
            let message = format!("invalid gRPC request content-type {}", quoted(value));
            return Some((415, Code::InvalidArgument, message));
        }
        if let Some(Err(why)) = &self.timeout {
            return Some((400, Code::Internal, format!("malformed grpc-timeout: {why}")));
        }
        let method = quoted(self.method.as_ref()?);
        let message =
            format!("Received a HEADERS frame with :method {method} which should be POST");
        Some((405, Code::Internal, message))
    }

    fn see(&mut self, pseudo: u8) {
        if self.seen & (pseudo | REGULAR) != 0 {
            self.malformed = true; // Twice, or after other fields.
        }
        self.seen |= pseudo;
    }
}

/// A header list this many times the limit ends the connection, not just the request.
const BOMB_FACTOR: usize = 4;

impl Sink for Head<'_> {
    #[inline]
    fn known(&mut self, tag: Tag, size: usize) -> bool {
        if self.size + size > self.size_max {
            return false;
        }
        match tag {
            Tag::MethodPost => self.see(METHOD),
            Tag::Scheme => self.see(SCHEME),
            Tag::Authority => self.see(AUTHORITY),
            Tag::Path(route @ (Route::Unary(_) | Route::Streaming(_))) => {
                self.see(PATH);
                self.route = route;
            }
            Tag::ContentTypeGrpc => {
                self.seen |= REGULAR;
                self.content_type = ContentType::Grpc;
            }
            Tag::Ignored => self.seen |= REGULAR,
            Tag::Path(Route::UnknownMethod | Route::UnknownService)
            | Tag::MethodOther
            | Tag::ContentTypeOther
            | Tag::ContentLength
            | Tag::Timeout
            | Tag::EncodingIdentity
            | Tag::EncodingGzip
            | Tag::EncodingOther
            | Tag::Token
            | Tag::Authorization
            | Tag::HasLeader
            | Tag::ClientApiVersion
            | Tag::Host
            | Tag::Malformed => return false,
        }
        self.size += size;
        true
    }

    fn field(&mut self, field: Field<'_>) {
        self.size = self.size.saturating_add(field.size());
        if self.size > self.size_max {
            return; // Decoded for the table's sake alone.
        }
        let Field { tag, value, .. } = field;
        if !tag.is_pseudo() {
            self.seen |= REGULAR;
        }
        match tag {
            Tag::MethodPost => self.see(METHOD),
            Tag::MethodOther => {
                self.see(METHOD);
                self.method = Some(value.to_vec());
            }
            Tag::Scheme => self.see(SCHEME),
            Tag::Authority => self.see(AUTHORITY),
            Tag::Path(route) => {
                self.see(PATH);
                self.route = route;
                if matches!(route, Route::UnknownMethod | Route::UnknownService) {
                    self.path = value.to_vec();
                }
            }
            Tag::ContentTypeGrpc => self.content_type = ContentType::Grpc,
            Tag::ContentTypeOther => self.content_type = ContentType::Other(value.to_vec()),
            Tag::ContentLength => match content_length(value) {
                Some(length) if self.content_length.is_none_or(|first| first == length) => {
                    self.content_length = Some(length);
                }
                Some(_) | None => self.malformed = true,
            },
            Tag::Timeout => self.timeout = Some(timeout::parse(value)),
            Tag::EncodingIdentity => self.encoding = Ok(Encoding::Identity),
            Tag::EncodingGzip => self.encoding = Ok(Encoding::Gzip),
            Tag::EncodingOther => self.encoding = Err(value.to_vec()),
            Tag::Token => {
                let (last, fresh) = (&self.last.token, &mut self.fresh.token);
                note(last, fresh, &mut self.same, value, TOKEN);
            }
            Tag::Authorization => {
                let (last, fresh) = (&self.last.authorization, &mut self.fresh.authorization);
                note(last, fresh, &mut self.same, value, AUTHORIZATION);
            }
            Tag::ClientApiVersion => {
                let (last, fresh) =
                    (&self.last.client_api_version, &mut self.fresh.client_api_version);
                note(last, fresh, &mut self.same, value, VERSION);
            }
            Tag::HasLeader => self.fresh.has_leader = true,
            Tag::Host => self.n_hosts = self.n_hosts.saturating_add(1),
            Tag::Ignored => {}
            Tag::Malformed => self.malformed = true,
        }
    }
}

/// Notes a value of which the first counts: as a bit if it is the same as last time.
fn note(last: &Option<Bytes>, fresh: &mut Option<Bytes>, same: &mut u8, value: &[u8], bit: u8) {
    if *same & bit != 0 || fresh.is_some() {
        return;
    }
    if last.as_deref() == Some(value) {
        *same |= bit;
    } else {
        *fresh = Some(Bytes::copy_from_slice(value));
    }
}

/// The metadata of this request: the last one's if nothing changed.
fn settle(last: &Arc<Metadata>, fresh: Metadata, same: u8) -> Arc<Metadata> {
    let bits = |field: &Option<Bytes>, bit| if field.is_some() { bit } else { 0 };
    let all = bits(&last.token, TOKEN)
        | bits(&last.authorization, AUTHORIZATION)
        | bits(&last.client_api_version, VERSION);
    let nothing_new = fresh.token.is_none()
        && fresh.authorization.is_none()
        && fresh.client_api_version.is_none();
    if same == all && nothing_new && fresh.has_leader == last.has_leader {
        return Arc::clone(last);
    }
    let choose = |fresh: Option<Bytes>, last: &Option<Bytes>, bit| {
        fresh.or_else(|| last.clone().filter(|_| same & bit != 0))
    };
    Arc::new(Metadata {
        token: choose(fresh.token, &last.token, TOKEN),
        authorization: choose(fresh.authorization, &last.authorization, AUTHORIZATION),
        client_api_version: choose(fresh.client_api_version, &last.client_api_version, VERSION),
        has_leader: fresh.has_leader,
    })
}

fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
