//! What a lease promises, held against when it ends.
//!
//! | promise | held against |
//! |---|---|
//! | nobody who was told so in vain | no lease ends by itself before the TTL of its grant, or of a renewal that was answered, is over |
//! | nobody is told that it is over when it is not | an answer of 0, and "not found" |
//! | what was left is remembered | a lease that was never renewed has no more than its last checkpoint said, however often leaders change |
//! | the dead are buried | at the end no lease is there whose time is over |
//!
//! Time is the world's. A machine's clock may be fast, so what it calls a second is as long as the fastest
//! clock's second.

use std::collections::BTreeMap;

use proto::etcdserverpb::LeaseTimeToLiveResponse;
use state::State;
use state::lease::LeaseId;

use crate::model::LeaseNews;

/// By this much a machine's clock may be too fast, in parts of a hundred.
pub(crate) const FAST_PERCENT: u64 = 5;
/// A lease that nobody renews is gone by then: after an extension, a look, and another try.
const GRACE: u64 = 6_000_000;
/// Clocks count milliseconds; in microseconds.
const GRANULE: u64 = 2_000;

/// A lease from its grant to its end.
#[derive(Clone, Debug)]
struct Life {
    granted_at: u64,
    ttl: i64,
    /// When it may end by itself at the earliest.
    safe_until: u64,
    renewed: bool,
    /// What was left at the last checkpoint, in seconds.
    remains: Option<i64>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    index: u64,
    time: u64,
    by_itself: bool,
}

impl Life {
    fn is_alive_at(&self, index: u64) -> bool {
        self.granted_at <= index && self.end.is_none_or(|end| end.index > index)
    }
}

/// What the leader said of a lease, and when.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) id: i64,
    /// What is promised is promised from when this was asked.
    pub(crate) asked: u64,
    pub(crate) time: u64,
    /// The last entry that whoever said it had applied.
    pub(crate) applied: u64,
    pub(crate) said: Said,
}

#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// It runs anew for so many seconds; 0: it is over.
    Renewed(i64),
    Left(LeaseTimeToLiveResponse),
}

/// See the module.
#[derive(Default)]
pub(crate) struct LeaseOracle {
    lives: BTreeMap<i64, Vec<Life>>,
    clocks_lie: bool,
}

impl LeaseOracle {
    /// Some clock leaps, or runs at a rate of its own: a TTL is no promise any more.
    pub(crate) fn clocks_lie(&mut self) {
        self.clocks_lie = true;
        self.lives.values_mut().flatten().for_each(|life| life.safe_until = 0);
    }

    /// When `ttl` seconds from `time` on are over by the fastest clock.
    fn safe_until(&self, time: u64, ttl: i64) -> u64 {
        let lasting = ttl as u64 * 1_000_000 * 100 / (100 + FAST_PERCENT);
        if self.clocks_lie { 0 } else { time + lasting.saturating_sub(GRANULE) }
    }

    /// An entry was applied for the first time. `by_itself`: a member proposed it, not a client.
    pub(crate) fn learns(&mut self, news: &LeaseNews, index: u64, now: u64, by_itself: bool) {
        match *news {
            LeaseNews::Granted { id, ttl } => {
                let life = Life {
                    granted_at: index,
                    ttl,
                    safe_until: self.safe_until(now, ttl),
                    renewed: false,
                    remains: None,
                    end: None,
                };
                self.lives.entry(id).or_default().push(life);
            }
            LeaseNews::Revoked { id } => {
                let life = self.last(id);
                let (safe_until, ttl) = (life.safe_until, life.ttl);
                life.end = Some(End { index, time: now, by_itself });
                let early = safe_until.saturating_sub(now);
                assert!(
                    !by_itself || early == 0,
                    "lease {id} of {ttl} s ended {early} us before its time"
                );
            }
            // None left is how the log is told to forget what was.
            LeaseNews::Remains { id, seconds } => {
                self.last(id).remains = (seconds > 0).then_some(seconds);
            }
        }
    }

    fn last(&mut self, id: i64) -> &mut Life {
        let lives = self.lives.get_mut(&id).expect("a lease that was granted");
        lives.last_mut().expect("a lease that was granted")
    }

    /// The leader says something to another member or a client, which may hear of it or not.
    pub(crate) fn says(&mut self, word: &Word, extend_ms: u64) {
        let applied = word.applied;
        let lives = self.lives.get_mut(&word.id).into_iter().flatten();
        let Some(life) = lives.into_iter().find(|life| life.is_alive_at(applied)) else { return };
        match &word.said {
            Said::Renewed(0) => {}
            Said::Renewed(_) => life.renewed = true,
            Said::Left(left) => {
                assert_eq!(left.granted_ttl, life.ttl, "the TTL of lease {}", word.id);
                if let Some(remains) = life.remains.filter(|_| !life.renewed) {
                    let most = remains + extend_ms.div_ceil(1_000) as i64;
                    let ttl = left.ttl;
                    assert!(ttl <= most, "lease {} has {ttl} s, not {remains} s", word.id);
                }
            }
        }
    }

    /// A client has heard it, who knows of a lease that was granted by entry `granted_at`.
    pub(crate) fn heard(&mut self, word: &Word) {
        let Word { id, asked, time, applied, .. } = *word;
        let promised = match word.said {
            Said::Renewed(ttl @ 1..) => self.safe_until(asked, ttl),
            Said::Renewed(_) | Said::Left(_) => 0,
        };
        let lives = self.lives.get_mut(&id).expect("clients ask for what was granted");
        if let Said::Renewed(1..) = word.said {
            let life = lives.iter_mut().find(|life| life.is_alive_at(applied));
            let life = life.unwrap_or_else(|| panic!("lease {id} is renewed, but not there"));
            life.safe_until = life.safe_until.max(promised);
            if let Some(End { time: end, by_itself: true, .. }) = life.end {
                assert!(end >= promised, "lease {id}, renewed at {time}, ended at {end}");
            }
        }
        let is_over = match &word.said {
            Said::Renewed(ttl) => *ttl == 0,
            Said::Left(left) => left.granted_ttl == 0,
        };
        if is_over {
            let life = lives.last().expect("there is one");
            let may_be = life.end.is_some() || life.safe_until <= time;
            assert!(may_be, "lease {id} is called over at {time}, but lives until {life:?}");
        }
    }

    /// The leases of a member's state are those of the entries it has applied.
    pub(crate) fn explain(&self, state: &State) {
        let applied = state.applied().0;
        let mut found: Vec<i64> = state.leases().list().iter().map(|LeaseId(id)| *id).collect();
        found.sort_unstable();
        let there = self
            .lives
            .iter()
            .filter(|(_, lives)| lives.iter().any(|life| life.is_alive_at(applied)));
        let there: Vec<i64> = there.map(|(id, _)| *id).collect();
        assert_eq!(found, there, "the leases after entry {applied}");
    }

    /// At the end those are gone that nobody renewed any more.
    /// A new leader lets each run anew; there was none after `settled`.
    pub(crate) fn are_buried(&self, ids: impl Iterator<Item = i64>, settled: u64, now: u64) {
        for id in ids {
            let life = self.lives[&id].last().expect("there is one");
            let end = life.safe_until.max(settled + life.ttl as u64 * 1_000_000) + GRACE;
            assert!(end > now, "lease {id} outlived its end: {life:?}");
        }
    }

    /// How many leases ended by themselves.
    pub(crate) fn n_expired(&self) -> u64 {
        let lives = self.lives.values().flatten();
        lives.filter(|life| life.end.is_some_and(|end| end.by_itself)).count() as u64
    }
}
