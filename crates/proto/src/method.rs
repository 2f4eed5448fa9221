//! Every call there is: its path, how it streams, where the JSON gateway has it.
//!
//! ```text
//! "/etcdserverpb.KV/Put" ── from_path ──► Method::Put ◄── from_route ── "/v3/kv/put"
//! ```
//!
//! A path is found by one multiplication, one load and one comparison, for this happens with
//! every request: the hash of its last bytes and its length leads to the only method it can be.
//!
//! # Invariants
//!
//! - No two paths share a slot of the hash table, nor two methods a route.   (const, a test)
//! - The table holds the services of `proto/`, method by method.   (a test)
//!
//! # Not here
//!
//! What a method does; which of them need a leader, a token or quota.

/// How many messages go each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    /// The name in etcd's metrics (`grpc_type`).
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// One line a method: its name here, its kind, its path, and its routes in the gateway.
macro_rules! methods {
    ($($name:ident $kind:ident $path:literal $($route:literal)*;)*) => {
        /// A method of one of the nine services.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Method { $($name),* }

        impl Method {
            pub const ALL: &[Method] = &[$(Method::$name),*];

            /// The `:path` of a gRPC request.
            pub const fn path(self) -> &'static str {
                match self { $(Method::$name => $path),* }
            }

            pub const fn kind(self) -> Kind {
                match self { $(Method::$name => Kind::$kind),* }
            }

            /// Where the JSON gateway has it: the canonical route, then the older ones.
            pub const fn routes(self) -> &'static [&'static str] {
                match self { $(Method::$name => &[$($route),*]),* }
            }
        }
    };
}

methods! {
    Range Unary "/etcdserverpb.KV/Range" "/v3/kv/range";
    RangeStream ServerStream "/etcdserverpb.KV/RangeStream";
    Put Unary "/etcdserverpb.KV/Put" "/v3/kv/put";
    DeleteRange Unary "/etcdserverpb.KV/DeleteRange" "/v3/kv/deleterange";
    Txn Unary "/etcdserverpb.KV/Txn" "/v3/kv/txn";
    Compact Unary "/etcdserverpb.KV/Compact" "/v3/kv/compaction";

    Watch BidiStream "/etcdserverpb.Watch/Watch" "/v3/watch";

    LeaseGrant Unary "/etcdserverpb.Lease/LeaseGrant" "/v3/lease/grant";
    LeaseRevoke Unary "/etcdserverpb.Lease/LeaseRevoke" "/v3/lease/revoke" "/v3/kv/lease/revoke";
    LeaseKeepAlive BidiStream "/etcdserverpb.Lease/LeaseKeepAlive" "/v3/lease/keepalive";
    LeaseTimeToLive Unary "/etcdserverpb.Lease/LeaseTimeToLive" "/v3/lease/timetolive" "/v3/kv/lease/timetolive";
    LeaseLeases Unary "/etcdserverpb.Lease/LeaseLeases" "/v3/lease/leases" "/v3/kv/lease/leases";

    MemberAdd Unary "/etcdserverpb.Cluster/MemberAdd" "/v3/cluster/member/add";
    MemberRemove Unary "/etcdserverpb.Cluster/MemberRemove" "/v3/cluster/member/remove";
    MemberUpdate Unary "/etcdserverpb.Cluster/MemberUpdate" "/v3/cluster/member/update";
    MemberList Unary "/etcdserverpb.Cluster/MemberList" "/v3/cluster/member/list";
    MemberPromote Unary "/etcdserverpb.Cluster/MemberPromote" "/v3/cluster/member/promote";

    Alarm Unary "/etcdserverpb.Maintenance/Alarm" "/v3/maintenance/alarm";
    Status Unary "/etcdserverpb.Maintenance/Status" "/v3/maintenance/status";
    Defragment Unary "/etcdserverpb.Maintenance/Defragment" "/v3/maintenance/defragment";
    Hash Unary "/etcdserverpb.Maintenance/Hash" "/v3/maintenance/hash";
    HashKV Unary "/etcdserverpb.Maintenance/HashKV" "/v3/maintenance/hashkv";
    Snapshot ServerStream "/etcdserverpb.Maintenance/Snapshot" "/v3/maintenance/snapshot";
    MoveLeader Unary "/etcdserverpb.Maintenance/MoveLeader" "/v3/maintenance/transfer-leadership";
    Downgrade Unary "/etcdserverpb.Maintenance/Downgrade" "/v3/maintenance/downgrade";

    AuthEnable Unary "/etcdserverpb.Auth/AuthEnable" "/v3/auth/enable";
    AuthDisable Unary "/etcdserverpb.Auth/AuthDisable" "/v3/auth/disable";
    AuthStatus Unary "/etcdserverpb.Auth/AuthStatus" "/v3/auth/status";
    Authenticate Unary "/etcdserverpb.Auth/Authenticate" "/v3/auth/authenticate";
    UserAdd Unary "/etcdserverpb.Auth/UserAdd" "/v3/auth/user/add";
    UserGet Unary "/etcdserverpb.Auth/UserGet" "/v3/auth/user/get";
    UserList Unary "/etcdserverpb.Auth/UserList" "/v3/auth/user/list";
    UserDelete Unary "/etcdserverpb.Auth/UserDelete" "/v3/auth/user/delete";
    UserChangePassword Unary "/etcdserverpb.Auth/UserChangePassword" "/v3/auth/user/changepw";
    UserGrantRole Unary "/etcdserverpb.Auth/UserGrantRole" "/v3/auth/user/grant";
    UserRevokeRole Unary "/etcdserverpb.Auth/UserRevokeRole" "/v3/auth/user/revoke";
    RoleAdd Unary "/etcdserverpb.Auth/RoleAdd" "/v3/auth/role/add";
    RoleGet Unary "/etcdserverpb.Auth/RoleGet" "/v3/auth/role/get";
    RoleList Unary "/etcdserverpb.Auth/RoleList" "/v3/auth/role/list";
    RoleDelete Unary "/etcdserverpb.Auth/RoleDelete" "/v3/auth/role/delete";
    RoleGrantPermission Unary "/etcdserverpb.Auth/RoleGrantPermission" "/v3/auth/role/grant";
    RoleRevokePermission Unary "/etcdserverpb.Auth/RoleRevokePermission" "/v3/auth/role/revoke";

    Lock Unary "/v3lockpb.Lock/Lock" "/v3/lock/lock";
    Unlock Unary "/v3lockpb.Lock/Unlock" "/v3/lock/unlock";

    Campaign Unary "/v3electionpb.Election/Campaign" "/v3/election/campaign";
    Proclaim Unary "/v3electionpb.Election/Proclaim" "/v3/election/proclaim";
    Leader Unary "/v3electionpb.Election/Leader" "/v3/election/leader";
    Observe ServerStream "/v3electionpb.Election/Observe" "/v3/election/observe";
    Resign Unary "/v3electionpb.Election/Resign" "/v3/election/resign";

    HealthCheck Unary "/grpc.health.v1.Health/Check";
    HealthList Unary "/grpc.health.v1.Health/List";
    HealthWatch ServerStream "/grpc.health.v1.Health/Watch";
}

impl Method {
    /// The method with this path, given as the bytes a peer sent.
    #[inline]
    pub fn from_path(path: &[u8]) -> Option<Method> {
        let (_, tail) = path.split_last_chunk::<TAIL>()?;
        let method = Method::ALL.get(usize::from(SLOTS[slot(*tail, path.len(), MULTIPLIER)]))?;
        (method.path().as_bytes() == path).then_some(*method)
    }

    /// The method the JSON gateway has at this route.
    pub fn from_route(route: &str) -> Option<Method> {
        Method::ALL.iter().copied().find(|method| method.routes().contains(&route))
    }

    /// Its service: `etcdserverpb.KV`.
    pub fn service(self) -> &'static str {
        self.split().0
    }

    /// Its name within the service: `Range`.
    pub fn name(self) -> &'static str {
        self.split().1
    }

    fn split(self) -> (&'static str, &'static str) {
        self.path()[1..].split_once('/').expect("a path has two parts")
    }
}

/// How many bytes at a path's end tell it from all others of its length.
const TAIL: usize = 8;

/// Slots of the hash table, a power of two: ten for each method, so that a multiplier that
/// spreads them all is soon found.
const SLOTS_LEN: usize = 512;

/// What an empty slot holds: no method has this number.
const EMPTY: u8 = u8::MAX;

const MULTIPLIERS_MAX: u64 = 4096;

/// The method each slot leads to. `MULTIPLIER` is the first that gives each a slot of its own.
const MULTIPLIER: u64 = find_multiplier();
static SLOTS: [u8; SLOTS_LEN] = match slots(MULTIPLIER) {
    Some(slots) => slots,
    None => panic!("find_multiplier found one"),
};

const _: () = assert!(Method::ALL.len() < EMPTY as usize, "method numbers fit a slot");

const fn slot(tail: [u8; TAIL], len: usize, multiplier: u64) -> usize {
    let hash = (u64::from_le_bytes(tail) ^ len as u64).wrapping_mul(multiplier);
    (hash >> (u64::BITS - SLOTS_LEN.ilog2())) as usize
}

const fn find_multiplier() -> u64 {
    let mut n = 0;
    while n < MULTIPLIERS_MAX {
        let multiplier = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * n + 1);
        if slots(multiplier).is_some() {
            return multiplier;
        }
        n += 1;
    }
    panic!("no multiplier keeps the paths apart: make SLOTS_LEN larger");
}

const fn slots(multiplier: u64) -> Option<[u8; SLOTS_LEN]> {
    let mut slots = [EMPTY; SLOTS_LEN];
    let mut i = 0;
    while i < Method::ALL.len() {
        let path = Method::ALL[i].path().as_bytes();
        let Some((_, tail)) = path.split_last_chunk::<TAIL>() else { return None };
        let at = slot(*tail, path.len(), multiplier);
        if slots[at] != EMPTY {
            return None;
        }
        slots[at] = i as u8;
        i += 1;
    }
    Some(slots)
}

#[cfg(test)]
mod tests;
