//! Who may ask: the host and origin checks that keep a browser's other pages out.
//!
//! A page from elsewhere whose name was made to resolve to this machine can talk to it as if it
//! were its own server; the `Host` it sends gives it away (`--host-whitelist`, CVE-2018-5702).

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderMap, HeaderValue, ORIGIN,
};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};

use super::answer::{self, Answer};

/// Which hosts and origins are welcome. An empty list, or `*` in it, means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `--cors`
    pub origins: Vec<String>,
    /// `--host-whitelist`
    pub hosts: Vec<String>,
}

impl Access {
    pub(super) fn admits_host(&self, host: &str) -> bool {
        admits(&self.hosts, host)
    }

    /// What a browser is told about the origin it asks for; `None` if nothing.
    pub(super) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if admits(&self.origins, "*") {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = headers.get(ORIGIN)?;
        admits(&self.origins, origin.to_str().ok()?).then(|| origin.clone())
    }
}

fn admits(list: &[String], who: &str) -> bool {
    list.is_empty() || list.iter().any(|welcome| welcome == "*" || welcome == who)
}

pub(super) fn add_origin(answer: &mut Answer, origin: HeaderValue) {
    let headers = answer.headers_mut();
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let allowed = HeaderValue::from_static("accept, content-type, authorization");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
}

/// The host a request is meant for, with its port.
pub(super) fn host<B>(request: &Request<B>) -> Option<&str> {
    let authority = request.uri().authority().map(Authority::as_str);
    authority.or_else(|| request.headers().get(HOST)?.to_str().ok())
}

/// The name within `host:port`, `[v6]:port` or a bare host.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if name.starts_with('[') && name.ends_with(']') => &name[1..name.len() - 1],
        Some((name, _)) if !name.is_empty() && !name.contains([':', '[', ']']) => name,
        Some(_) | None => host,
    }
}

pub(super) fn misdirected(host: &str) -> Answer {
    let text = format!(
        "\nThis server does not go by the name in the request's Host header, {host:?}.\n\n\
         Requests in the clear are answered only for the names it was given, so that a web page\n\
         cannot reach it by making its own name lead here (DNS rebinding, CVE-2018-5702). Either\n\
         - use TLS: requests through it may name any host; or\n\
         - add the name to the list: --host-whitelist {host:?}\n"
    );
    answer::error(StatusCode::MISDIRECTED_REQUEST, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_without_its_port() {
        let cases = [
            ("a.b", "a.b"),
            ("a.b:80", "a.b"),
            ("[::1]:80", "::1"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            (":80", ":80"),
        ];
        for (host, name) in cases {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn an_empty_list_and_a_star_admit_everybody() {
        let access = |hosts: &[&str]| Access {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            origins: Vec::new(),
        };
        assert!(access(&[]).admits_host("x") && access(&["a", "*"]).admits_host("x"));
        assert!(access(&["a", "x"]).admits_host("x") && !access(&["a"]).admits_host("A"));
    }
}
