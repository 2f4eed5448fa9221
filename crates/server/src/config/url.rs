//! The addresses a member listens on and is known by.
//!
//! ```text
//! http://10.0.0.1:2379      https://[::1]:2379      unix:///run/etcd.sock      unixs://…
//! ```
//!
//! # Invariants
//!
//! - A list is sorted by its text and holds each address once: "the first" is then the same one
//!   etcd would take.
//! - What an [`Url`] shows is what was written (the scheme in lower case), for it is compared as
//!   text with what other members wrote.
//!
//! # Not here
//!
//! Names are not resolved, and a `localhost` is as good as an address.

use std::fmt;
use std::net::IpAddr;

use super::value::Parsed;

/// An address with its protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    /// Whether the bytes on it are encrypted: `https`, `unixs`.
    pub tls: bool,
    pub place: Place,
}

/// Where an [`Url`] leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A host may be a name, an address (IPv6 without brackets) or empty; port 0 is the system's choice.
    Tcp { host: String, port: u16 },
    /// A socket in the file system.
    Unix { path: String },
}

impl Url {
    /// Reads one address, with or without blanks around it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = split_scheme(text)? else {
            return Err(wrong_scheme(text));
        };
        let (tls, unix) = match scheme.as_str() {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => return Err(wrong_scheme(text)),
        };
        let shown = format!("{scheme}:{rest}");
        let place = if unix { unix_place(text, rest)? } else { tcp_place(text, rest)? };
        Ok(Self { text: shown, tls, place })
    }

    /// The address `host:port` with the protocol of `self`.
    pub(super) fn at(&self, host: IpAddr, port: u16) -> Self {
        let scheme = self.text.split(':').next().unwrap_or("http");
        let bracketed = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
        Self {
            text: format!("{scheme}://{bracketed}:{port}"),
            tls: self.tls,
            place: Place::Tcp { host: host.to_string(), port },
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a member can listen here: an address, not a name (but `localhost`).
    pub(super) fn check_bind(&self) -> Parsed<()> {
        if let Some(port) = self.port_beyond() {
            return Err(format!("listen tcp: address {port}: invalid port"));
        }
        match &self.place {
            Place::Tcp { host, .. } if host != "localhost" && host.parse::<IpAddr>().is_err() => {
                Err(format!("expected IP in URL for binding ({self})"))
            }
            Place::Tcp { .. } | Place::Unix { .. } => Ok(()),
        }
    }

    /// The port as it was written, if it is one that no machine has.
    pub(super) fn port_beyond(&self) -> Option<&str> {
        let Place::Tcp { port: 0, .. } = self.place else { return None };
        let written = self.text.rsplit(':').next()?;
        let is_number = written.bytes().all(|b| b.is_ascii_digit()) && !written.is_empty();
        (is_number && written.parse::<u16>().is_err()).then_some(written)
    }

    /// Whether others can be told to come here.
    pub(super) fn check_host(&self) -> Parsed<()> {
        match &self.place {
            Place::Tcp { host, .. } if host.is_empty() => {
                Err(format!("unexpected empty host ({self})"))
            }
            Place::Tcp { .. } | Place::Unix { .. } => Ok(()),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads a comma-separated list.
pub(super) fn parse_list(text: &str) -> Parsed<Vec<Url>> {
    let mut urls = text.split(',').map(Url::parse).collect::<Parsed<Vec<_>>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

/// The addresses as one text, the way a flag has them.
pub(super) fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

fn wrong_scheme(text: &str) -> String {
    format!("URL scheme must be http, https, unix, or unixs: {text}")
}

/// What stands before the first colon, if that is a scheme.
fn split_scheme(text: &str) -> Parsed<Option<(String, &str)>> {
    let Some((scheme, rest)) = text.split_once(':') else { return Ok(None) };
    if scheme.is_empty() {
        return Err(format!("parse {text:?}: missing protocol scheme"));
    }
    let well_formed = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if well_formed {
        return Ok(Some((scheme.to_ascii_lowercase(), rest)));
    }
    if scheme.contains('/') {
        return Ok(None);
    }
    Err(format!("parse {text:?}: first path segment in URL cannot contain colon"))
}

fn unix_place(text: &str, rest: &str) -> Parsed<Place> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(format!("URL has no path of a socket: {text}"));
    }
    Ok(Place::Unix { path: path.to_owned() })
}

fn tcp_place(text: &str, rest: &str) -> Parsed<Place> {
    let no_port = || format!("URL address does not have the form \"host:port\": {text}");
    let rest = rest.strip_prefix("//").ok_or_else(no_port)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = split_authority(text, authority)?;
    let port = port.ok_or_else(no_port)?;
    if !path.is_empty() {
        return Err(format!("URL must not contain a path: {text}"));
    }
    if let Some(odd) =
        host.chars().find(|c| c.is_whitespace() || c.is_control() || "@<>\"".contains(*c))
    {
        return Err(format!("parse {text:?}: invalid character {odd:?} in host name"));
    }
    let bad_port = || format!("parse {text:?}: invalid port {:?} after host", format!(":{port}"));
    let port = if port.is_empty() {
        0
    } else if port.bytes().all(|b| b.is_ascii_digit()) {
        // One that no machine has is a mistake only where somebody listens, as in etcd.
        port.parse().unwrap_or(0)
    } else {
        return Err(bad_port());
    };
    Ok(Place::Tcp { host: host.to_owned(), port })
}

/// Splits `host:port` and `[host]:port`; the port is missing where no colon is.
fn split_authority<'a>(text: &str, authority: &'a str) -> Parsed<(&'a str, Option<&'a str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| format!("parse {text:?}: missing ']' in host"))?;
        return Ok((host, rest.strip_prefix(':')));
    }
    match authority.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use stdx::each_seed;

    use super::*;

    fn place(text: &str) -> Place {
        Url::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).place
    }

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.into(), port }
    }

    #[test]
    fn an_address_has_a_host_and_a_port_or_a_path() {
        assert_eq!(place(" http://localhost:2379 "), tcp("localhost", 2379));
        assert_eq!(place("https://[fe80::1%25en0]:1"), tcp("fe80::1%25en0", 1));
        assert_eq!(place("http://:80"), tcp("", 80));
        assert_eq!(place("http://a:"), tcp("a", 0));
        assert_eq!(Url::parse("http://a:65536").unwrap().port_beyond(), Some("65536"));
        assert_eq!(Url::parse("http://a:0").unwrap().port_beyond(), None);
        assert_eq!(place("unix:///run/e.sock"), Place::Unix { path: "/run/e.sock".into() });
        assert_eq!(place("unix://127.0.0.5:1456"), Place::Unix { path: "127.0.0.5:1456".into() });
        assert_eq!(place("unixs:e.sock"), Place::Unix { path: "e.sock".into() });
        assert!(Url::parse("HTTPS://a:1").unwrap().tls);
        assert_eq!(Url::parse("HTTP://A:1").unwrap().as_str(), "http://A:1");
    }

    #[test]
    fn a_list_is_sorted_and_holds_each_address_once() {
        let list = parse_list("http://b:1,http://a:1, http://b:1").unwrap();
        assert_eq!(join(&list), "http://a:1,http://b:1");
        assert!(parse_list("http://b:1,").is_err());
    }

    #[test]
    fn no_text_brings_the_parser_down() {
        each_seed(|g| {
            let choices = ["http", "unix", ":", "//", "[", "]", "1", "é", "?", "@", " ", "."];
            let text = g.vec(0..10, |g| *g.pick(&choices)).concat();
            if let Ok(url) = Url::parse(&text) {
                assert_eq!(
                    Url::parse(url.as_str()).as_ref(),
                    Ok(&url),
                    "what is shown can be read"
                );
            }
        });
    }
}
