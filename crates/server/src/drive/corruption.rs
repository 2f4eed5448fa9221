//! Corruption checks: do all members hold the same?
//!
//! | check | when | if members differ |
//! |---|---|---|
//! | initial (gate `InitialCorruptCheck`) | before clients are served | this member does not start |
//! | periodic (`--corrupt-check-time`) | the leader, now and then | CORRUPT for whoever differs from it |
//! | of compactions (gate `CompactHashCheck`, `--compact-hash-check-time`) | the leader, after each | CORRUPT for the minority, or for all where there is none |
//!
//! What is compared is `HashKV`. Two hashes say something of each other only if they cover the same: the
//! same revision, after the same compaction. An alarm goes through the log, and stops all writers until an
//! operator has looked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::Method;
use proto::error::Error;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType, HashKvRequest, HashKvResponse};
use proto::prost::Message;
use proto::raft_request::Body;
use state::KvHash;
use tokio::time::{Instant, sleep};

use super::chores::propose;
use crate::api::Caller;
use crate::engine::Engine;
use crate::log::{self, Value};

/// Between two looks at whether something is due.
const LOOK: Duration = Duration::from_millis(100);

/// Which checks are made, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checks {
    /// `None`: never.
    pub(crate) periodic: Option<Duration>,
    /// `None`: never.
    pub(crate) compactions: Option<Duration>,
}

/// The answers of the other members, by their ids.
type Answers = BTreeMap<u64, HashKvResponse>;

/// Runs until the process ends.
pub(crate) async fn run(engine: Arc<Engine>, checks: Checks) {
    if checks.periodic.is_none() && checks.compactions.is_none() {
        return;
    }
    let now = Instant::now();
    let mut periodic = checks.periodic.map(|every| (every, now + every));
    let mut compactions = checks.compactions.map(|every| (every, now + every));
    // The compaction up to which all members were found to agree.
    let mut verified = 0;
    while !engine.is_stopping() {
        sleep(LOOK).await;
        let leads = engine.shown.is_leader();
        if is_due(&mut periodic) && leads {
            check_now(&engine).await;
        }
        if is_due(&mut compactions) && leads {
            verified = check_compactions(&engine, verified).await;
        }
    }
}

fn is_due(timer: &mut Option<(Duration, Instant)>) -> bool {
    let Some((every, next)) = timer else { return false };
    let due = Instant::now() >= *next;
    if due {
        *next = Instant::now() + *every;
    }
    due
}

/// Compares what is held now, and raises the alarm for whoever differs.
async fn check_now(engine: &Engine) {
    let Ok(before) = own_hash(engine, 0).await else { return };
    let answers = ask_all(engine, before.hash_revision).await;
    let Ok(after) = own_hash(engine, 0).await else { return };
    let own = engine.identity.member_id;
    for id in differing(own, &before, &after, &answers) {
        raise_corrupt(engine, id);
    }
}

/// Who differs from the leader, whose hash was taken before and after the others were asked.
fn differing(
    own: u64,
    before: &HashKvResponse,
    after: &HashKvResponse,
    answers: &Answers,
) -> BTreeSet<u64> {
    let mut differ = BTreeSet::new();
    let same = (before.hash_revision, before.compact_revision)
        == (after.hash_revision, after.compact_revision);
    if same && before.hash != after.hash {
        differ.insert(own);
    }
    for (&id, answer) in answers {
        let head = answer.header.map_or(answer.hash_revision, |header| header.revision);
        // No follower is ahead of its leader.
        let ahead = head > after.hash_revision || answer.compact_revision > after.compact_revision;
        let comparable = answer.compact_revision == before.compact_revision;
        if ahead || (comparable && answer.hash != before.hash) {
            differ.insert(id);
        }
    }
    differ
}

/// Compares the hashes of compactions, the newest first, until one is found on which all agree.
async fn check_compactions(engine: &Engine, verified: i64) -> i64 {
    let mut hashes: Vec<KvHash> = engine.state().hashes().collect();
    hashes.retain(|hash| hash.revision > verified);
    let n_members = engine.state().membership().members().count();
    while let Some(hash) = hashes.pop() {
        let answers = ask_all(engine, hash.revision).await;
        match verdict(engine.identity.member_id, &hash, &answers, n_members) {
            Verdict::Agreed => return hash.revision,
            Verdict::Unknown => {}
            Verdict::Differ(members) => {
                members.into_iter().for_each(|id| raise_corrupt(engine, id));
                return verified;
            }
        }
    }
    verified
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All members have the same.
    Agreed,
    /// Those that answered do, but not all have.
    Unknown,
    /// These differ from the majority; 0 stands for all, where there is none.
    Differ(BTreeSet<u64>),
}

fn verdict(own: u64, hash: &KvHash, answers: &Answers, n_members: usize) -> Verdict {
    let mut by_hash: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    by_hash.entry(hash.hash).or_default().insert(own);
    let same = answers.iter().filter(|(_, answer)| {
        (answer.compact_revision, answer.hash_revision) == (hash.compact_revision, hash.revision)
    });
    let mut n_known = 1;
    for (&id, answer) in same {
        by_hash.entry(answer.hash).or_default().insert(id);
        n_known += 1;
    }
    if by_hash.len() == 1 {
        return if n_known == n_members { Verdict::Agreed } else { Verdict::Unknown };
    }
    let majority = by_hash.iter().find(|(_, members)| members.len() > n_members / 2);
    let Some((&majority, _)) = majority else { return Verdict::Differ(BTreeSet::from([0])) };
    let minorities = by_hash.into_iter().filter(|(hash, _)| *hash != majority);
    Verdict::Differ(minorities.flat_map(|(_, members)| members).collect())
}

/// Whether this member may start: it holds what the others do, as far as they answer.
pub(crate) async fn is_sound(engine: &Engine) -> bool {
    let Ok(own) = own_hash(engine, 0).await else { return true };
    let answers = ask_all(engine, own.hash_revision).await;
    let differs = |(&id, answer): (&u64, &HashKvResponse)| {
        let comparable = (answer.compact_revision, answer.hash_revision)
            == (own.compact_revision, own.hash_revision);
        let differs = comparable && answer.hash != own.hash;
        if differs {
            log::error!(
                engine.logger,
                "found different hash values from remote peer",
                "remote-peer-id" = Value::Id(id),
                "revision" = own.hash_revision
            );
        }
        differs
    };
    // All are looked at, so that all are told.
    answers.iter().filter(|answer| differs(*answer)).count() == 0
}

async fn own_hash(engine: &Engine, revision: i64) -> Result<HashKvResponse, Error> {
    let local = engine.local().ok_or(Error::Stopped)?;
    let body = HashKvRequest { revision }.encode_to_vec().into();
    let answered = local.call(Method::HashKV, Caller::default(), body).await;
    HashKvResponse::decode(answered.map_err(|_| Error::Stopped)?).map_err(|_| Error::Stopped)
}

/// The hashes of all others that answer.
async fn ask_all(engine: &Engine, revision: i64) -> Answers {
    let own = engine.identity.member_id;
    let ids: Vec<u64> = engine.state().membership().members().map(|member| member.id).collect();
    let mut answers = Answers::new();
    for id in ids.into_iter().filter(|id| *id != own) {
        if let Ok(answer) = engine.peers().hash_kv(id, revision).await {
            answers.insert(id, answer);
        }
    }
    answers
}

fn raise_corrupt(engine: &Engine, member_id: u64) {
    let raised = engine.state().alarms().list(AlarmType::Corrupt);
    if raised.iter().any(|alarm| alarm.member_id == member_id) {
        return;
    }
    log::error!(
        engine.logger,
        "found data inconsistency between members",
        "member-id" = Value::Id(member_id)
    );
    let alarm = AlarmType::Corrupt as i32;
    let request = AlarmRequest { action: AlarmAction::Activate as i32, member_id, alarm };
    propose(engine, Body::Alarm, &request);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(hash: u32, compact_revision: i64, hash_revision: i64) -> HashKvResponse {
        HashKvResponse { header: None, hash, compact_revision, hash_revision }
    }

    #[test]
    fn a_follower_is_corrupt_if_it_holds_something_else_or_is_ahead() {
        let leader = answer(7, 3, 10);
        let later = answer(8, 3, 12);
        let answers = Answers::from([
            (2, answer(7, 3, 10)),
            (3, answer(9, 3, 10)),
            (4, answer(9, 2, 10)),
            (5, answer(7, 3, 13)),
            (6, answer(7, 4, 10)),
        ]);
        assert_eq!(differing(1, &leader, &later, &answers), BTreeSet::from([3, 5, 6]));
        let changed = answer(6, 3, 10);
        assert_eq!(differing(1, &leader, &changed, &Answers::new()), BTreeSet::from([1]));
    }

    #[test]
    fn of_a_compaction_the_majority_is_right() {
        let hash = KvHash { hash: 7, compact_revision: 3, revision: 10 };
        let of = |hashes: &[(u64, u32)]| -> Answers {
            hashes.iter().map(|&(id, hash)| (id, answer(hash, 3, 10))).collect()
        };
        assert_eq!(verdict(1, &hash, &of(&[(2, 7), (3, 7)]), 3), Verdict::Agreed);
        assert_eq!(verdict(1, &hash, &of(&[(2, 7)]), 3), Verdict::Unknown);
        let differ = |ids: &[u64]| Verdict::Differ(ids.iter().copied().collect());
        assert_eq!(verdict(1, &hash, &of(&[(2, 7), (3, 8)]), 3), differ(&[3]));
        assert_eq!(verdict(1, &hash, &of(&[(2, 8), (3, 8)]), 3), differ(&[1]));
        assert_eq!(verdict(1, &hash, &of(&[(2, 8), (3, 9)]), 3), differ(&[0]));
        let other = Answers::from([(2, answer(9, 4, 10))]);
        assert_eq!(verdict(1, &hash, &other, 2), Verdict::Unknown, "after another compaction");
    }
}
