//! The headers by which members know each other.
//!
//! Ids are lower-case hexadecimal without leading zeros, and compared as text.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Builder;

use super::Config;
use crate::version;

pub(super) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(super) const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(super) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");
pub(super) const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");
pub(super) const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(super) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");

pub(super) fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// Says who asks, and on behalf of which cluster.
pub(super) fn introduce(request: Builder, config: &Config) -> Builder {
    request
        .header(SERVER_FROM, hex(config.member_id))
        .header(SERVER_VERSION, version::ETCD)
        .header(MIN_CLUSTER_VERSION, version::CLUSTER_MIN)
        .header(CLUSTER_ID, hex(config.cluster_id))
        .header(PEER_URLS, config.advertise_urls.join(","))
}

/// Why a request is not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    Cluster,
    Version,
}

impl Mismatch {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Cluster => "cluster ID mismatch",
            Self::Version => "incompatible version",
        }
    }
}

/// Holds what a request says of its sender against what we are.
pub(super) fn check(headers: &HeaderMap, cluster_id: u64) -> Result<(), Mismatch> {
    let theirs = version_in(headers, &SERVER_VERSION);
    let their_min = version_in(headers, &MIN_CLUSTER_VERSION);
    if theirs < parse(version::CLUSTER_MIN) || their_min > parse(version::ETCD) {
        return Err(Mismatch::Version);
    }
    match text(headers, &CLUSTER_ID) {
        Some(_) => check_cluster(headers, cluster_id),
        None => Err(Mismatch::Cluster),
    }
}

/// The cluster alone; whoever says nothing of it is let in.
pub(super) fn check_cluster(headers: &HeaderMap, cluster_id: u64) -> Result<(), Mismatch> {
    match text(headers, &CLUSTER_ID) {
        Some(theirs) if theirs != hex(cluster_id) => Err(Mismatch::Cluster),
        Some(_) | None => Ok(()),
    }
}

/// Members that say nothing are older than the headers: version 2.0.
fn version_in(headers: &HeaderMap, name: &HeaderName) -> (u64, u64) {
    text(headers, name).map_or((2, 0), parse)
}

/// Major and minor.
fn parse(text: &str) -> (u64, u64) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

pub(super) fn id(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    number(text(headers, name)?, 16)
}

/// Nothing but digits, as Go has it.
pub(super) fn number(text: &str, radix: u32) -> Option<u64> {
    let is_plain = text.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(text, radix).ok().filter(|_| is_plain)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn whoever_is_of_another_cluster_or_age_is_told_so() {
        let of = |server, min, cluster| {
            let pairs =
                [(SERVER_VERSION, server), (MIN_CLUSTER_VERSION, min), (CLUSTER_ID, cluster)];
            check(&headers(&pairs), 0xab)
        };
        assert_eq!(of("3.7.1", "3.0.0", "ab"), Ok(()));
        assert_eq!(of("3.5.12", "3.0.0", "ab"), Ok(()));
        assert_eq!(of("3.7.1", "3.0.0", "AB"), Err(Mismatch::Cluster), "compared as text");
        assert_eq!(of("2.3.0", "2.3.0", "ab"), Err(Mismatch::Version));
        assert_eq!(of("4.0.0", "4.0.0", "ab"), Err(Mismatch::Version));
        assert_eq!(check(&HeaderMap::new(), 1), Err(Mismatch::Version));
        let nameless = headers(&[(SERVER_VERSION, "3.7.1"), (MIN_CLUSTER_VERSION, "3.0.0")]);
        assert_eq!(check(&nameless, 1), Err(Mismatch::Cluster), "of no cluster");
    }
}
