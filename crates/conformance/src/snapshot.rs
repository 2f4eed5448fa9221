//! A snapshot, received and checked: its bytes differ from run to run, its shape must not.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::carrier::Carrier;
use crate::command::Call;
use crate::gateway::Meaning;
use crate::schema;

const HASH_SIZE: usize = 32;
const BLOB_SIZE_MAX: usize = 32 << 10;
const PAGE_SIZE: usize = 4096;

/// Takes a snapshot, and says in one line what is right about it.
pub(crate) async fn check(carrier: &Carrier) -> anyhow::Result<String> {
    let method = schema::method("Maintenance.Snapshot")?;
    let call = Call { method, metadata: Vec::new(), request: json!({}) };
    let answers = carrier.clone().call(call).await?;
    let (mut blobs, mut remaining, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for answer in &answers {
        let Meaning::Message(message) = answer else { bail!("the snapshot failed") };
        let field = |name: &str| message.get_field_by_name(name).context("a field");
        ensure!(!message.has_field_by_name("header"), "a snapshot's answers have no header");
        blobs.push(field("blob")?.as_bytes().cloned().context("a blob is bytes")?);
        remaining.push(field("remaining_bytes")?.as_u64().context("a number")?);
        versions.push(field("version")?.as_str().context("a version is a text")?.to_owned());
    }
    let (hash, blobs) = blobs.split_last().context("a snapshot ends in its hash")?;
    ensure!(hash.len() == HASH_SIZE, "the last blob is a SHA-256");
    let size: usize = blobs.iter().map(Bytes::len).sum();
    let mut left = size as u64;
    for (blob, remaining) in blobs.iter().zip(&remaining) {
        left -= blob.len() as u64;
        ensure!(*remaining == left, "remaining_bytes says {remaining}, but {left} remain");
    }
    ensure!(remaining.last() == Some(&0), "nothing remains after the hash");
    let right = Sha256::digest(blobs.concat()).as_slice() == hash.as_ref();
    versions.dedup();
    ensure!(versions.len() == 1, "one version in all messages: {versions:?}");
    Ok(format!(
        "snapshot: blobs of at most 32 KiB: {}, whole pages: {}, sha256: {}",
        blobs.iter().all(|blob| blob.len() <= BLOB_SIZE_MAX),
        size.is_multiple_of(PAGE_SIZE),
        if right { "right" } else { "wrong" },
    ))
}
