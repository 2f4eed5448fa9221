//! Who is who: member and cluster ids, computed exactly as etcd computes them.
//!
//! ```text
//! member id  = first 8 bytes, big-endian, of SHA-1(peer URLs sorted and joined ‖ cluster token ‖ time)
//! cluster id = first 8 bytes, big-endian, of SHA-1(member ids sorted, 8 bytes big-endian each)
//! ```
//!
//! The time (Unix seconds in decimal) is there only for a member added to a running cluster, so
//! that a seat that was removed and filled again gets another id.

use sha1::{Digest, Sha1};

/// The id of a member. `added_s` is when it joined a running cluster; `None` for a founding member.
pub fn member_id(peer_urls: &[String], token: &str, added_s: Option<u64>) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = added_s {
        hash.update(seconds.to_string());
    }
    first_8_bytes(hash)
}

/// The id of the cluster these members found.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_8_bytes(hash)
}

fn first_8_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let (first, _) = digest.split_first_chunk::<8>().expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from etcd 3.7.1 started without flags.
    #[test]
    fn the_default_member_has_the_ids_that_etcd_gives_it() {
        let id = member_id(&["http://localhost:2380".into()], "etcd-cluster", None);
        assert_eq!(format!("{id:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id(&[id])), "cdf818194e3a8c32");
    }

    #[test]
    fn the_order_of_urls_and_members_does_not_matter() {
        let urls = ["http://a:2380".to_owned(), "http://b:2380".to_owned()];
        let reversed: Vec<String> = urls.iter().rev().cloned().collect();
        assert_eq!(member_id(&urls, "t", None), member_id(&reversed, "t", None));
        assert_ne!(member_id(&urls, "t", None), member_id(&urls, "t", Some(1)));
        assert_eq!(cluster_id(&[1, 2]), cluster_id(&[2, 1]));
    }
}
