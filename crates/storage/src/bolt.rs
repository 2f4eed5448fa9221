//! bbolt files: how data is exchanged with etcd and its tools.
//!
//! Nothing of ours lives in one. A snapshot for a peer or a backup is written as one, in a stream;
//! a backup or the data directory of an etcd is read as one.
//!
//! ```text
//! page  0      1      2          3 …                                            last
//!     ┌──────┬──────┬──────────┬──────┬──────┬────────┬──────┬────────┬──────┬──────────┐
//!     │ meta │ meta │ freelist │ leaf │ leaf │ branch │ leaf │ branch │ root │ buckets  │
//!     └──────┴──────┴──────────┴──────┴──────┴────────┴──────┴────────┴──────┴──────────┘
//!         │                      └──────── the tree of one bucket ──────┘        ▲
//!         └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A tree's pages come in the order in which they are finished: a branch after its children, the
//! root last. Hence the writer holds one unfinished page per level, and nothing else; how many
//! pages there will be (the meta pages want to know) a first pass over the sizes says.
//!
//! # Invariants
//!
//! - The second pass writes exactly what the first has counted, or fails.
//! - No branch has a single child: bbolt panics when it rebalances one.
//! - The reader believes nothing: any file gives rows or an error, in time and memory bounded by
//!   its size.
//!
//! # Not here
//!
//! What the buckets mean. Changing a file in place. Buckets within buckets, when writing.

pub mod reader;
pub mod writer;

#[cfg(test)]
mod tests;

/// The page size of files we write; etcd's on the machines that matter. Files read may have
/// another.
pub const PAGE_SIZE: usize = 4096;

const PAGE_HEADER_SIZE: usize = 16;
const ELEMENT_SIZE: usize = 16; // Of a branch and of a leaf alike.
const BUCKET_HEADER_SIZE: usize = 16;
const META_SIZE: usize = 64;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const FLAG_BRANCH: u16 = 0x01;
const FLAG_LEAF: u16 = 0x02;
const FLAG_META: u16 = 0x04;
const FLAG_FREELIST: u16 = 0x10;

/// Marks a leaf's element as a bucket.
const ELEMENT_IS_BUCKET: u32 = 1;

/// FNV-1a, 64 bits: the checksum of a meta page.
fn fnv64a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
