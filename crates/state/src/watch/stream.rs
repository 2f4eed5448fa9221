//! One client's watch stream, without its transport.
//!
//! Requests come in, and deliveries from the hub; encoded `WatchResponse`s go out. All calls are made by
//! the one thread that owns the connection. Where a call takes the state, that is under a read lock.

use std::collections::{BTreeMap, BTreeSet};

use proto::error::Error;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};

use super::hub::{Mail, Notice, Target};
use super::outbox::{Head, Opening, Outbox, send_event, send_events};
use super::progress::{Promise, Promises, take_ripe};
use super::streams::Census;
use super::watcher::{Mode, Progress, Watcher};
use super::{ShardId, StreamId, Token};
use crate::State;
use crate::fault::Fatal;
use crate::mvcc::history::{Catchup, Happening, Kind, Turn};
use crate::mvcc::index::Span;

/// The id of a response that speaks for no watcher, or for all of a stream.
const NOBODY: i64 = -1;

const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

#[derive(Clone, Copy, Debug)]
pub struct StreamConfig {
    pub shard: ShardId,
    pub stream: StreamId,
    /// From this size on a response is cut in fragments, if the client asked for it.
    pub fragment_size: usize,
}

/// What a call to [`Stream::pump`] has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pump {
    /// All watchers are synced.
    Idle,
    /// Call again when others have had their turn.
    More,
    /// Call again when there is room.
    Full,
}

/// See the module.
pub struct Stream {
    config: StreamConfig,
    watchers: BTreeMap<i64, Watcher>,
    /// The watchers that read history, so that nobody has to look for them among all.
    behind: BTreeSet<i64>,
    next_id: i64,
    n_joins: u64,
    /// The last delivery processed.
    processed: u64,
    promises: Promises,
    /// Whose turn it is to catch up.
    turn_of: i64,
}

impl Stream {
    pub fn new(config: StreamConfig, state: &State) -> Self {
        Self {
            config,
            watchers: BTreeMap::new(),
            behind: BTreeSet::new(),
            next_id: 0,
            n_joins: 0,
            processed: state.hub.sequence(config.shard),
            promises: Promises::default(),
            turn_of: i64::MIN,
        }
    }

    /// Does what a client asks for. `permit` says whether it may watch these keys, or else the text of
    /// the refusal. Events of the past follow by [`Stream::pump`].
    pub fn request(
        &mut self,
        state: &State,
        request: WatchRequest,
        permit: impl FnOnce(&WatchCreateRequest) -> Result<(), String>,
        out: &mut impl Outbox,
    ) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(state, create, permit, out),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(state, cancel.watch_id, out),
            Some(RequestUnion::ProgressRequest(_)) => self.ask_progress(state, out),
            // etcd passes over what it doesn't know; the stream lives on.
            None => {}
        }
    }

    fn create(
        &mut self,
        state: &State,
        mut create: WatchCreateRequest,
        permit: impl FnOnce(&WatchCreateRequest) -> Result<(), String>,
        out: &mut impl Outbox,
    ) {
        if create.key.is_empty() {
            create.key = vec![0].into();
        }
        let head = Head { header: state.header(), created: true, ..Head::default() };
        let refuse = |reason: String, out: &mut _| {
            let (watch_id, cancel_reason) = (NOBODY, reason);
            Head { watch_id, canceled: true, cancel_reason, ..head.clone() }.send(out);
        };
        if create.start_revision < 0 {
            return refuse(Error::Compacted.text().to_owned(), out);
        }
        if let Err(reason) = permit(&create) {
            return refuse(reason, out);
        }
        let span = Span::new(&create.key, &create.range_end);
        if matches!(&span, Span::Between(start, end) if start >= end) {
            return refuse(EMPTY_RANGE.to_owned(), out);
        }
        let watch_id = match create.watch_id {
            0 => self.free_id(),
            id if self.watchers.contains_key(&id) => {
                return refuse(DUPLICATE_ID.to_owned(), out);
            }
            id => id,
        };
        Head { watch_id, ..head }.send(out);
        let mut watcher = Watcher::new(&create, span, state.head());
        if watcher.next > state.head() {
            self.join(state, watch_id, &mut watcher);
        } else {
            self.behind.insert(watch_id);
        }
        self.watchers.insert(watch_id, watcher);
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn cancel(&mut self, state: &State, watch_id: i64, out: &mut impl Outbox) {
        let Some(watcher) = self.watchers.remove(&watch_id) else { return };
        self.behind.remove(&watch_id);
        self.leave(state, &watcher);
        Head { header: state.header(), watch_id, canceled: true, ..Head::default() }.send(out);
    }

    /// Ends the stream: nothing more will be delivered for it.
    pub fn close(&mut self, state: &State) {
        self.behind.clear();
        for watcher in std::mem::take(&mut self.watchers).into_values() {
            self.leave(state, &watcher);
        }
    }

    /// From now on the hub delivers to `watcher` what follows the head. All before has been sent.
    fn join(&mut self, state: &State, watch_id: i64, watcher: &mut Watcher) {
        assert!(watcher.next > state.head(), "history is read up to the head before joining");
        self.n_joins += 1;
        let token = Token { stream: self.config.stream, n: self.n_joins, watch_id };
        let (span, previous) = (watcher.span.clone(), watcher.previous);
        let mail = Mail { leaves: false, span, previous, head: state.head() };
        state.hub.post(self.config.shard, token, mail);
        watcher.mode = Mode::Synced(token);
        self.behind.remove(&watch_id);
    }

    fn leave(&self, state: &State, watcher: &Watcher) {
        let Mode::Synced(token) = watcher.mode else { return };
        let (span, previous) = (watcher.span.clone(), watcher.previous);
        let mail = Mail { leaves: true, span, previous, head: state.head() };
        state.hub.post(self.config.shard, token, mail);
    }

    /// Sends the events of a notice to the watcher `token` stands for, one of those that `target` names.
    /// `opening` is made of the notice's revision.
    ///
    /// Without room the watcher is behind from this revision on: false, and [`Stream::detach`] is due.
    #[must_use]
    pub fn deliver(
        &mut self,
        token: Token,
        notice: &Notice,
        target: &Target,
        opening: &mut Opening,
        out: &mut impl Outbox,
    ) -> bool {
        let watch_id = token.watch_id;
        // A token that is no watcher's any more was left while the notice was on its way.
        let Some(watcher) = self.watchers.get_mut(&watch_id).filter(|w| w.goes_by(token)) else {
            return true;
        };
        if notice.revision < watcher.next {
            assert!(watcher.start > notice.revision, "no revision is delivered twice");
            return true;
        }
        let mut events = notice.events_of(target).filter(|event| watcher.wants(event.kind));
        let Some(first) = events.next() else {
            watcher.next = notice.revision + 1;
            return true;
        };
        if !out.has_room() {
            return false;
        }
        match events.next() {
            None => send_event(opening, watch_id, watcher.form(first), out),
            Some(second) => {
                let all = [first, second].into_iter().chain(events);
                let all: Vec<_> = all.map(|event| watcher.form(event)).collect();
                let head = Head { header: opening.header, watch_id, ..Head::default() };
                let size_max = watcher.fragment.then_some(self.config.fragment_size);
                send_events(&head, &all, size_max, out);
            }
        }
        watcher.sent(notice.revision);
        true
    }

    /// Lets the watcher of a notice there was no room for read it from history instead.
    pub fn detach(&mut self, state: &State, token: Token, revision: i64) {
        let Some(mut watcher) = self.watchers.remove(&token.watch_id) else { return };
        assert!(watcher.goes_by(token), "it was just refused");
        self.leave(state, &watcher);
        watcher.fall_behind(revision);
        self.behind.insert(token.watch_id);
        self.watchers.insert(token.watch_id, watcher);
    }

    /// The watchers there are.
    pub(super) fn census(&self) -> Census {
        Census { watchers: self.watchers.len(), behind: self.behind.len() }
    }

    /// Whether somebody waits for [`Stream::processed`].
    pub fn has_promises(&self) -> bool {
        self.promises.asked.is_some() || self.promises.ticked.is_some()
    }

    /// A delivery of this number has been processed, for this stream and all others of its shard.
    pub fn processed(&mut self, sequence: u64, header: &ResponseHeader, out: &mut impl Outbox) {
        // A young stream may be told of deliveries that were made before it was.
        self.processed = self.processed.max(sequence);
        self.keep_promises(header, out);
    }

    /// The delivery `sequence` was thrown away, which began at `revision`, and the hub has forgotten
    /// this shard's tokens. All deliveries before have been processed.
    pub fn lost(&mut self, state: &State, sequence: u64, revision: i64) {
        self.processed = self.processed.max(sequence);
        for mut watcher in std::mem::take(&mut self.watchers) {
            // Some may have joined since: the hub is told of all.
            if matches!(watcher.1.mode, Mode::Synced(_)) {
                self.leave(state, &watcher.1);
                watcher.1.fall_behind(revision);
                self.behind.insert(watcher.0);
            }
            self.watchers.insert(watcher.0, watcher.1);
        }
    }

    /// Brings one watcher that is behind a bounded step further.
    pub fn pump(&mut self, state: &State, out: &mut impl Outbox) -> Result<Pump, Fatal> {
        let next = self.behind.range(self.turn_of..).next();
        let Some(&watch_id) = next.or(self.behind.first()) else { return Ok(Pump::Idle) };
        if !out.has_room() {
            return Ok(Pump::Full);
        }
        self.turn_of = watch_id.saturating_add(1);
        let mut watcher = self.watchers.remove(&watch_id).expect("who is behind is there");
        if self.catch_up(state, watch_id, &mut watcher, out)? {
            self.watchers.insert(watch_id, watcher);
        } else {
            self.behind.remove(&watch_id);
        }
        Ok(if self.behind.is_empty() { Pump::Idle } else { Pump::More })
    }

    /// False if the watcher is at its end.
    fn catch_up(
        &mut self,
        state: &State,
        watch_id: i64,
        watcher: &mut Watcher,
        out: &mut impl Outbox,
    ) -> Result<bool, Fatal> {
        let Mode::Behind(catchup) = &mut watcher.mode else {
            panic!("watcher {watch_id} has joined, and is listed as behind");
        };
        let turn = catchup.step(&state.mvcc, &watcher.span);
        let next = catchup.next();
        match turn {
            Turn::Working => watcher.next = next,
            Turn::AtHead => {
                watcher.next = next.max(watcher.next);
                self.join(state, watch_id, watcher);
            }
            Turn::Events(happenings) => {
                self.replay(state, watch_id, watcher, &happenings, out)?;
                watcher.next = next;
                if next > state.head() {
                    self.join(state, watch_id, watcher);
                }
            }
            Turn::Compacted(compact_revision) => {
                let header = ResponseHeader { revision: 0, ..state.header() };
                let canceled = true;
                Head { header, watch_id, canceled, compact_revision, ..Head::default() }.send(out);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends events of the past.
    fn replay(
        &self,
        state: &State,
        watch_id: i64,
        watcher: &mut Watcher,
        happenings: &[Happening],
        out: &mut impl Outbox,
    ) -> Result<(), Fatal> {
        let mut buffer = Vec::new();
        let mut ends = Vec::with_capacity(happenings.len());
        for happening in happenings.iter().filter(|h| watcher.wants(h.kind)) {
            let previous = if watcher.previous && happening.kind != Kind::Create {
                state.mvcc.previous(&state.mvcc.key_of(happening)?, happening)
            } else {
                None
            };
            state.mvcc.event(happening, previous, &mut buffer)?;
            ends.push(buffer.len());
        }
        let Some(last) = happenings.last().filter(|_| !ends.is_empty()) else { return Ok(()) };
        let mut start = 0;
        let slice = |&end: &usize| &buffer[std::mem::replace(&mut start, end)..end];
        let events: Vec<_> = ends.iter().map(slice).collect();
        let head = Head { header: state.header(), watch_id, ..Head::default() };
        send_events(&head, &events, watcher.fragment.then_some(self.config.fragment_size), out);
        watcher.sent(last.main);
        Ok(())
    }

    fn ask_progress(&mut self, state: &State, out: &mut impl Outbox) {
        self.promises.asked = Some(self.promise(state));
        self.keep_promises(&state.header(), out);
    }

    /// The time between two progress notifications is over.
    pub fn tick(&mut self, state: &State, out: &mut impl Outbox) {
        self.promises.ticked = Some(self.promise(state));
        self.keep_promises(&state.header(), out);
    }

    fn promise(&self, state: &State) -> Promise {
        Promise { revision: state.head(), after: state.hub.sequence(self.config.shard) }
    }

    fn keep_promises(&mut self, header: &ResponseHeader, out: &mut impl Outbox) {
        if let Some(revision) = take_ripe(&mut self.promises.asked, self.processed) {
            let all = self.watchers.values().all(|watcher| watcher.has_all(revision));
            if all && !self.watchers.is_empty() {
                let header = ResponseHeader { revision, ..*header };
                Head { header, watch_id: NOBODY, ..Head::default() }.send(out);
            }
        }
        if let Some(revision) = take_ripe(&mut self.promises.ticked, self.processed) {
            let header = ResponseHeader { revision, ..*header };
            for (&watch_id, watcher) in &mut self.watchers {
                if watcher.progress == Progress::Due && watcher.has_all(revision) {
                    Head { header, watch_id, ..Head::default() }.send(out);
                }
                if watcher.progress == Progress::Told {
                    watcher.progress = Progress::Due;
                }
            }
        }
    }
}

impl Watcher {
    fn goes_by(&self, token: Token) -> bool {
        matches!(self.mode, Mode::Synced(of) if of == token)
    }

    fn sent(&mut self, revision: i64) {
        assert!(revision >= self.next, "revisions are sent in order");
        self.next = revision + 1;
        if self.progress == Progress::Due {
            self.progress = Progress::Told;
        }
    }

    fn fall_behind(&mut self, revision: i64) {
        self.next = self.next.max(revision);
        self.mode = Mode::Behind(Box::new(Catchup::new(self.next)));
    }

    fn has_all(&self, revision: i64) -> bool {
        matches!(self.mode, Mode::Synced(_)) && revision >= self.start
    }
}
