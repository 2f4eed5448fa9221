//! What every role needs: the log, the term, the members, and the way out.

use crate::config::Config;
use crate::effects::Effects;
use crate::entry::Snapshot;
use crate::log::Log;
use crate::membership::ConfState;
use crate::message::{Body, Message};
use crate::number::{Context, EntryId, Index, NodeId, Term};
use crate::persist::{Persist, Withheld};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) conf: ConfState,
    /// The entry (or snapshot) that `conf` comes from.
    pub(crate) conf_index: Index,
    /// A snapshot that the state machine has not installed yet.
    pub(crate) installing: Option<Index>,
    /// A snapshot came in this step.
    pub(crate) restored: bool,
    /// Ticks since the leader was heard of, or since the quorum was checked.
    pub(crate) elapsed: u32,
    /// When to campaign.
    pub(crate) timeout: u32,
    pub(crate) persist: Persist,
    /// The last read of our own.
    pub(crate) last_read: Option<Context>,
    /// Said in this step, and resting on all that is not durable yet.
    pub(crate) resting: Vec<Withheld>,
    pub(crate) out: Effects,
    random: u64,
}

impl Core {
    pub(crate) fn new(config: Config, log: Log, conf: ConfState, term: Term) -> Self {
        let random = config.seed ^ config.id.get().rotate_left(32);
        let conf_index = log.applied();
        let mut core = Self {
            config,
            term,
            vote: None,
            log,
            conf,
            conf_index,
            installing: None,
            restored: false,
            elapsed: 0,
            timeout: 0,
            persist: Persist::default(),
            last_read: None,
            resting: Vec::new(),
            out: Effects::default(),
            random,
        };
        core.reset_timer();
        core
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    /// Starts the election timer anew, with another timeout: whoever tied once should not tie for
    /// ever.
    pub(crate) fn reset_timer(&mut self) {
        self.elapsed = 0;
        let ticks = u64::from(self.config.election_ticks);
        self.timeout = (ticks + self.next_random() % ticks) as u32;
    }

    /// splitmix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Enters a term, if it is a new one.
    pub(crate) fn enter(&mut self, term: Term) {
        assert!(term >= self.term, "terms never fall");
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.reset_timer();
    }

    /// Whether this member may stand for election.
    pub(crate) fn is_promotable(&self) -> bool {
        self.conf.is_voter(self.id()) && self.installing.is_none()
    }

    /// Whether this member is the majority of everything.
    pub(crate) fn is_alone(&self) -> bool {
        self.conf.has_one_voter() && self.conf.is_voter(self.id())
    }

    /// The last entry known to be committed.
    pub(crate) fn committed(&self) -> EntryId {
        let index = self.log.commit();
        EntryId::new(index, self.log.term_at(index).unwrap_or_default())
    }

    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.log.commit()) == Some(self.term)
    }

    /// Sends what rests on nothing, in the present term.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        self.send_as(to, self.term, body);
    }

    pub(crate) fn send_as(&mut self, to: NodeId, term: Term, body: Body) {
        assert_ne!(to, self.id(), "a message to itself");
        let from = self.id();
        self.out.send.push(Message { from, to, term, body });
    }

    /// Sends what rests on everything this member has ever said yes to: its term, its vote, its
    /// log. It waits for the disk.
    pub(crate) fn send_when_durable(&mut self, to: NodeId, term: Term, body: Body) {
        let from = self.id();
        self.resting.push(Withheld::Send(Message { from, to, term, body }));
    }

    /// Replaces the log by a snapshot.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        let id: EntryId = snapshot.id();
        self.log.restore(id);
        self.persist.cut(id.index.next());
        self.conf = snapshot.conf_state.clone().sorted();
        self.conf_index = id.index;
        self.installing = Some(id.index);
        self.restored = true;
        // What was handed out in this very batch is older than the snapshot.
        self.out.append.clear();
        self.out.commit.clear();
        self.out.snapshot = Some(snapshot);
    }
}
