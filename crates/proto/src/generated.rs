//! The generated modules, one for each of etcd's packages.
#![expect(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::cloned_instead_of_copied,
    clippy::uninlined_format_args,
    reason = "written by generators with habits of their own"
)]

pub mod authpb {
    include!("generated/authpb.rs");
    include!("generated/authpb.json.rs");
}
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
    include!("generated/etcdserverpb.json.rs");
}
/// The health service is gRPC's own.
pub mod grpc {
    pub mod health {
        pub mod v1 {
            include!("generated/grpc.health.v1.rs");
        }
    }
}
pub mod leasepb {
    include!("generated/leasepb.rs");
}
pub mod membershippb {
    include!("generated/membershippb.rs");
}
pub mod mvccpb {
    include!("generated/mvccpb.rs");
    include!("generated/mvccpb.json.rs");
}
pub mod raftpb {
    include!("generated/raftpb.rs");
}
pub mod snappb {
    include!("generated/snappb.rs");
}
pub mod v3electionpb {
    include!("generated/v3electionpb.rs");
    include!("generated/v3electionpb.json.rs");
}
pub mod v3lockpb {
    include!("generated/v3lockpb.rs");
    include!("generated/v3lockpb.json.rs");
}
pub mod walpb {
    include!("generated/walpb.rs");
}
