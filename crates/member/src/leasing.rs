//! Leases as whoever leads keeps them: renewals, and what must be proposed about them.
//!
//! The state counts; what it may be asked, and when, depends on who leads and on how fresh that
//! knowledge is. Threads, and the words with other members, are the caller's.

use bytes::Bytes;
use proto::error::Error;
use proto::etcdserverpb::{
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use state::State;
use state::lease::{LeaseId, Renewal};

/// How often the leader looks at its leases, in milliseconds.
pub const TURN_MS: u64 = 500;
/// Leases revoked in one turn, as in etcd: a storm of expiries must not hold up writers.
const REVOKES_PER_TURN_MAX: usize = 500;
/// Leases whose remaining time is written down in one turn, as in etcd.
const CHECKPOINTS_PER_TURN_MAX: usize = 1000;
/// A leader that has not heard the clock for so many ticks may have been held up, and replaced.
const TICKS_FRESH: u64 = 3;

/// What a member knows of its own reign, by its own clock in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Reign {
    pub leads: bool,
    /// The last entry that is known to be committed.
    pub commit: u64,
    pub now_ms: u64,
    /// When raft heard the clock last, and how long a tick is.
    pub ticked_ms: u64,
    pub tick_ms: u64,
}

impl Reign {
    /// Others may have applied more than this member, and told of a lease that it has not met yet.
    fn knows_all(self, state: &State) -> bool {
        state.applied().0 >= self.commit
    }

    fn is_fresh(self) -> bool {
        self.leads && self.now_ms.saturating_sub(self.ticked_ms) <= self.tick_ms * TICKS_FRESH
    }
}

/// What a member says to a renewal.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The lease runs anew for so many seconds; 0 if it is not there or over.
    Ttl(i64),
    /// This is not for this member to say, or not yet.
    Elsewhere,
    /// The log remembers less than would be left. This is to be proposed as [`Due`] is; then: ask again.
    First { term: u64, forget: LeaseCheckpointRequest },
}

/// See [`Said`].
pub fn renew(state: &State, reign: Reign, id: LeaseId) -> Said {
    if !reign.is_fresh() {
        return Said::Elsewhere;
    }
    match state.leases().renew(id, reign.now_ms) {
        Renewal::Renewed { ttl } => Said::Ttl(ttl),
        Renewal::Expired => Said::Ttl(0),
        Renewal::NotFound if reign.knows_all(state) => Said::Ttl(0),
        Renewal::NotFound | Renewal::NotPrimary | Renewal::CheckpointOnItsWay => Said::Elsewhere,
        Renewal::CheckpointFirst => {
            let term = state.leases().reign().expect("only who counts looks so closely");
            let checkpoints = vec![LeaseCheckpoint { id: id.0, remaining_ttl: 0 }];
            Said::First { term, forget: LeaseCheckpointRequest { checkpoints } }
        }
    }
}

/// What is due, to be proposed by [`Event::Rule`](crate::Event::Rule): a leader that was held up and
/// replaced must not end what runs again by now.
#[derive(Debug)]
pub struct Due {
    /// The term in which these leases are counted.
    pub term: u64,
    /// The leases whose time is over.
    pub revocations: Vec<LeaseRevokeRequest>,
    /// What is left of long leases, for the log to remember.
    pub checkpoints: Option<LeaseCheckpointRequest>,
}

/// See [`Due`]; `None` if this member does not count.
pub fn due(state: &State, reign: Reign) -> Option<Due> {
    let leases = state.leases();
    let term = leases.reign().filter(|_| reign.leads)?;
    let expired = leases.expired(reign.now_ms, REVOKES_PER_TURN_MAX).into_iter();
    let noted = leases.due_checkpoints(reign.now_ms, CHECKPOINTS_PER_TURN_MAX).into_iter();
    let checkpoint = |(LeaseId(id), remaining_ttl)| LeaseCheckpoint { id, remaining_ttl };
    let checkpoints: Vec<_> = noted.map(checkpoint).collect();
    Some(Due {
        term,
        revocations: expired.map(|LeaseId(id)| LeaseRevokeRequest { id }).collect(),
        checkpoints: (!checkpoints.is_empty()).then_some(LeaseCheckpointRequest { checkpoints }),
    })
}

/// What the leader knows of a lease; an error if this member does not lead, or has yet to apply what
/// others may know.
pub fn time_to_live(
    state: &State,
    reign: Reign,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, Error> {
    let LeaseTimeToLiveRequest { id, keys } = request;
    let header = Some(state.header());
    let Some(known) = state.leases().time_to_live(LeaseId(id), reign.now_ms)? else {
        if !reign.knows_all(state) {
            return Err(Error::TimeoutWaitAppliedIndex);
        }
        return Ok(LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() });
    };
    let attached = known.keys.into_iter().filter(|_| keys);
    let keys = attached.map(Bytes::copy_from_slice).collect();
    let (ttl, granted_ttl) = (known.ttl, known.granted);
    Ok(LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys })
}
