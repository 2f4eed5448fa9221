//! etcd's services and messages, read from the .proto files when a run starts.
//!
//! Nothing here is generated and nothing is shared with the server under test: the instrument
//! reads the same description, and decodes by it on its own.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

const FILES: &[&str] = &[
    "etcdserverpb/auth.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/kv.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/watch.proto",
    "grpc/health/v1/health.proto",
    "leasepb/lease.proto",
    "raftpb/raft.proto",
    "v3electionpb/v3election.proto",
    "v3lockpb/v3lock.proto",
];

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto");
        let files = protox::compile(FILES, [folder]).expect("etcd's .proto files compile");
        DescriptorPool::from_file_descriptor_set(files).expect("they are complete")
    })
}

/// Finds `KV.Put`, `Lock.Lock` and so on.
pub(crate) fn method(name: &str) -> anyhow::Result<MethodDescriptor> {
    let (service, method) = name.split_once('.').context("a method is Service.Method")?;
    pool()
        .services()
        .filter(|s| s.name() == service)
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .find(|m| m.name() == method)
        .with_context(|| format!("there is no method {name}"))
}

/// Finds `raftpb.Message` and so on.
pub(crate) fn message(name: &str) -> anyhow::Result<MessageDescriptor> {
    pool().get_message_by_name(name).with_context(|| format!("there is no message {name}"))
}

/// A method's path on the wire: `/etcdserverpb.KV/Put`.
pub(crate) fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}
