//! A port: where one front end hands in calls and gets answers.
//!
//! It is owned by the front end's thread. [`Port::submit`] takes what one turn brought: reads that
//! need nobody are answered on the spot, under a read lock taken once; proposals leave for the
//! member thread in one push; streams and tasks go on. [`Port::collect`] takes what came of it.
//!
//! # Invariants
//!
//! - Every call gets exactly one end, unless its caller has gone.
//! - What waits here is bounded: proposals by `waiting`, reads by [`reads::READS_MAX`], tasks by theirs.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, RwLockReadGuard};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use member::Proposal;
use proto::error::{Code, Error, Status};
use proto::method::Method;
use state::State;
use state::watch::StreamId;

use super::buffer::Buffers;
pub(crate) use super::decode::decode;
use super::leaderless::Leaderless;
use super::long::LongAnswer;
use super::reads::Reads;
use super::served::{Sent, Served};
use super::task::Tasks;
use super::waiting::{Waiter, Waiting};
use super::watch::Watches;
use super::{
    Caller, Input, Outlet, ReplyTo, cluster, downgrade, election, health, kv, lease, lock, long,
    maintenance, watch,
};
use crate::engine::Engine;
use crate::local::LocalInput;

/// The bytes of proposals that share an allocation.
const FRAMES: usize = 16 * 1024;

/// Election timeouts without a leader after which streams that want one are ended.
const LEADERLESS_TIMEOUTS: u32 = 3;

/// What other threads leave for a port.
#[derive(Debug)]
pub enum PortWork {
    /// A proposal was applied, or will never be.
    Done { id: u64, result: Result<Bytes, Status> },
    /// A proposal came to nothing.
    Refused { id: u64, error: Error },
    /// A read round has its index, or failed.
    ReadIndex { round: u64, result: Result<u64, Error> },
    /// A compaction has been carried out.
    Pruned,
    /// What watchers of this port are to be told.
    Watch(state::watch::Delivery),
    /// A delivery that did not fit here; it began at this revision.
    WatchLost { sequence: u64, revision: i64 },
    /// Another thread has the answer to a unary call.
    Answered { to: ReplyTo, result: Result<Bytes, Status> },
    /// The leader was asked to renew a lease: its TTL, 0 if there is no such lease; `None` if this member
    /// had better look again who leads.
    Renewed { to: ReplyTo, result: Result<Option<i64>, Status> },
    /// Another thread has made more of a stream's messages.
    Ready { to: ReplyTo },
    /// A call made inside the process.
    Local(LocalInput),
}

/// A whole request of a method that takes one.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) to: ReplyTo,
    pub(crate) method: Method,
    pub(crate) caller: Caller,
    pub(crate) body: Bytes,
}

/// What a stream that is open does with what comes.
pub(crate) enum Handler {
    Watch(StreamId),
    KeepAlive(lease::KeepAlive),
    RangeStream(kv::RowStream),
    LongAnswer(LongAnswer),
    Snapshot(maintenance::SnapshotStream),
    /// Never ends by itself: only its caller going ends it.
    Health,
}

/// See the module.
pub struct Port {
    pub(crate) engine: Arc<Engine>,
    pub(crate) index: u16,
    pub(crate) handlers: HashMap<ReplyTo, Handler>,
    pub(crate) tasks: Tasks,
    pub(crate) reads: Reads,
    pub(crate) watches: Watches,
    /// Long answers whose turn it is.
    pub(crate) long: Vec<ReplyTo>,
    pub(super) waiting: Waiting,
    /// Calls for a physical compaction, and those of them that are applied but not carried out.
    pub(crate) physical: BTreeSet<ReplyTo>,
    compacting: Vec<(ReplyTo, Bytes)>,
    leaderless: Leaderless,
    pub(super) proposals: Vec<Proposal>,
    pub(super) frames: BytesMut,
    pub(crate) answers: Buffers,
}

/// One turn of a port: the state, locked at most once, and where answers go.
pub(crate) struct Turn<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) outlet: &'a mut dyn Outlet,
    pub(crate) now_ms: u64,
    pub(crate) served: Served,
    pub(super) began: Instant,
    state: Option<RwLockReadGuard<'a, State>>,
    /// Whether this turn has asked for the alarm already.
    pub(super) no_space_told: bool,
}

impl<'a> Turn<'a> {
    fn new(engine: &'a Arc<Engine>, outlet: &'a mut dyn Outlet) -> Self {
        let began = Instant::now();
        let (now_ms, served) = (engine.ms_at(began), Served::default());
        Self { engine, outlet, now_ms, served, began, state: None, no_space_told: false }
    }

    fn end(self) {
        self.served.count(&self.engine.metrics, self.began);
    }

    /// When those who ask now have waited too long.
    pub(crate) fn deadline_ms(&self) -> u64 {
        self.now_ms + self.engine.limits.request_timeout_ms
    }

    /// The state as of this turn.
    pub(crate) fn state(&mut self) -> &State {
        self.state_and_watch().0
    }

    /// The state, and what a watch stream sends by.
    pub(super) fn state_and_watch(&mut self) -> (&State, &mut dyn Outlet, &mut Sent) {
        let engine = self.engine;
        let state = self.state.get_or_insert_with(|| engine.state());
        (state, self.outlet, &mut self.served.sent)
    }
}

impl Port {
    /// The port with this index of `engine`. It has one owner.
    pub fn new(engine: Arc<Engine>, index: u16) -> Self {
        let waiting = Waiting::new(engine.origin, index);
        let watches = Watches::new(&engine, index);
        Self {
            engine,
            index,
            handlers: HashMap::new(),
            tasks: Tasks::new(),
            reads: Reads::default(),
            watches,
            long: Vec::new(),
            waiting,
            physical: BTreeSet::new(),
            compacting: Vec::new(),
            leaderless: Leaderless::default(),
            proposals: Vec::new(),
            frames: BytesMut::with_capacity(FRAMES),
            answers: Buffers::default(),
        }
    }

    /// Takes in what happened at the front end, in order, and answers what can be answered now.
    pub fn submit(&mut self, inputs: &mut Vec<Input>, outlet: &mut dyn Outlet) {
        let engine = Arc::clone(&self.engine);
        let mut routed = self.tasks.routed(outlet);
        let mut turn = Turn::new(&engine, &mut routed);
        loop {
            for input in inputs.drain(..) {
                self.input(input, &mut turn);
            }
            self.tasks.run(inputs, turn.outlet);
            if inputs.is_empty() {
                break;
            }
        }
        watch::pump(self, &mut turn);
        long::pump(self, &mut turn);
        turn.end();
        drop(routed);
        self.depart(outlet);
    }

    /// Takes in what other threads have finished.
    pub fn collect(&mut self, work: &mut VecDeque<PortWork>, outlet: &mut dyn Outlet) {
        let engine = Arc::clone(&self.engine);
        let mut routed = self.tasks.routed(outlet);
        let mut turn = Turn::new(&engine, &mut routed);
        for item in work.drain(..) {
            self.work(item, &mut turn);
        }
        self.answer_compacted(&mut turn);
        self.end_leaderless(&mut turn);
        self.give_up_late(&mut turn);
        self.serve_ready_reads(&mut turn);
        watch::tick(self, &mut turn);
        turn.end();
        drop(routed);
        self.submit(&mut Vec::new(), outlet);
    }

    /// The clock of [`Outlet`]s: milliseconds since the member started.
    pub fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }

    fn input(&mut self, input: Input, turn: &mut Turn<'_>) {
        let (to, result) = match input {
            Input::Call { to, method, caller, body } => {
                (to, self.call(Call { to, method, caller, body }, turn))
            }
            Input::Open { to, method, caller } => (to, self.open(to, method, &caller, turn)),
            Input::Message { to, body } => (to, self.message(to, &body, turn)),
            Input::HalfClosed { to } => (to, self.half_closed(to, turn)),
            Input::Gone { to } => {
                self.gone(to, turn);
                (to, Ok(()))
            }
            Input::Room { to } => (to, self.room(to, turn)),
        };
        if let Err(status) = result {
            turn.outlet.finish(to, Err(status));
            self.gone(to, turn);
        }
    }

    /// Decides who answers. Every method stands here: a new one does not compile until it has met this.
    fn call(&mut self, call: Call, turn: &mut Turn<'_>) -> Result<(), Status> {
        admit(&call, turn.engine)?;
        match call.method {
            Method::Range => kv::range(self, turn, call),
            Method::RangeStream => kv::range_stream(self, turn, call),
            Method::Put => kv::put(self, turn, &call),
            Method::DeleteRange => kv::delete_range(self, turn, &call),
            Method::Txn => kv::txn(self, turn, call),
            Method::Compact => kv::compact(self, turn, &call),
            Method::LeaseGrant => lease::grant(self, turn, &call),
            Method::LeaseRevoke => lease::revoke(self, turn, &call),
            Method::LeaseTimeToLive => lease::time_to_live(self, turn, call),
            Method::LeaseLeases => lease::leases(turn, &call),
            Method::MemberList => cluster::member_list(self, turn, call),
            Method::Alarm => maintenance::alarm(self, turn, &call),
            Method::Status => maintenance::status(turn, &call),
            Method::Defragment => maintenance::defragment(turn, &call),
            Method::Hash => maintenance::hash(self, turn, &call),
            Method::HashKV => maintenance::hash_kv(self, turn, &call),
            Method::MoveLeader => maintenance::move_leader(self, turn, &call),
            Method::Snapshot => maintenance::snapshot(self, turn, &call),
            Method::AuthStatus | Method::Downgrade => self.read(call, turn),
            Method::MemberAdd => cluster::member_add(self, turn, &call),
            Method::MemberRemove => cluster::member_remove(self, turn, &call),
            Method::MemberUpdate => cluster::member_update(self, turn, &call),
            Method::MemberPromote => cluster::member_promote(self, turn, &call),
            Method::Lock => lock::lock(self, call),
            Method::Unlock => lock::unlock(self, call),
            Method::Campaign => election::campaign(self, call),
            Method::Proclaim => election::proclaim(self, call),
            Method::Leader => election::leader(self, call),
            Method::Observe => election::observe(self, call),
            Method::Resign => election::resign(self, call),
            Method::HealthCheck => health::check(turn, &call),
            Method::HealthList => health::list(turn, &call),
            Method::HealthWatch => health::watch(self, turn, &call),
            Method::Authenticate => Err(Error::AuthNotEnabled.into()),
            Method::AuthEnable
            | Method::AuthDisable
            | Method::UserAdd
            | Method::UserGet
            | Method::UserList
            | Method::UserDelete
            | Method::UserChangePassword
            | Method::UserGrantRole
            | Method::UserRevokeRole
            | Method::RoleAdd
            | Method::RoleGet
            | Method::RoleList
            | Method::RoleDelete
            | Method::RoleGrantPermission
            | Method::RoleRevokePermission => Err(not_yet(call.method)),
            Method::Watch | Method::LeaseKeepAlive => {
                // A stream of requests whose front end had all of them at once.
                self.open(call.to, call.method, &call.caller, turn)?;
                self.message(call.to, &call.body, turn)?;
                self.half_closed(call.to, turn)
            }
        }
    }

    fn open(
        &mut self,
        to: ReplyTo,
        method: Method,
        caller: &Caller,
        turn: &mut Turn<'_>,
    ) -> Result<(), Status> {
        if turn.engine.shown.is_learner() {
            return Err(Error::NotSupportedForLearner.into());
        }
        check_version(caller)?;
        if caller.requires_leader && turn.engine.shown.leader() == 0 {
            return Err(Error::NoLeader.into());
        }
        let handler = if method == Method::Watch {
            Handler::Watch(watch::open(self, turn, to))
        } else {
            assert_eq!(method, Method::LeaseKeepAlive, "the other stream of requests");
            Handler::KeepAlive(lease::KeepAlive::default())
        };
        self.handlers.insert(to, handler);
        if caller.requires_leader {
            self.leaderless.watch(to);
        }
        Ok(())
    }

    fn message(&mut self, to: ReplyTo, body: &Bytes, turn: &mut Turn<'_>) -> Result<(), Status> {
        match self.handlers.get_mut(&to) {
            Some(Handler::KeepAlive(stream)) => {
                stream.take_in(body)?;
                self.pump(to, turn)
            }
            Some(Handler::Watch(_)) => watch::message(self, turn, to, body),
            Some(
                Handler::RangeStream(_)
                | Handler::LongAnswer(_)
                | Handler::Snapshot(_)
                | Handler::Health,
            )
            | None => Ok(()),
        }
    }

    fn half_closed(&mut self, to: ReplyTo, turn: &mut Turn<'_>) -> Result<(), Status> {
        match self.handlers.get_mut(&to) {
            Some(Handler::KeepAlive(stream)) => {
                stream.half_close();
                self.pump(to, turn)
            }
            Some(
                Handler::Watch(_)
                | Handler::RangeStream(_)
                | Handler::LongAnswer(_)
                | Handler::Snapshot(_)
                | Handler::Health,
            )
            | None => Ok(()),
        }
    }

    fn gone(&mut self, to: ReplyTo, turn: &mut Turn<'_>) {
        if let Some(Handler::Watch(stream)) = self.handlers.remove(&to) {
            watch::close(self, turn, stream);
        }
        self.physical.remove(&to);
        self.leaderless.forget(to);
        self.tasks.drop_call(to);
        self.reads.drop_call(to);
    }

    fn room(&mut self, to: ReplyTo, turn: &mut Turn<'_>) -> Result<(), Status> {
        if let Some(call) = self.reads.unpark(to) {
            return self.serve(call, turn);
        }
        self.pump(to, turn)
    }

    /// Lets a stream that has room produce.
    pub(crate) fn pump(&mut self, to: ReplyTo, turn: &mut Turn<'_>) -> Result<(), Status> {
        let answering = self.answering(to);
        let done = match self.handlers.get_mut(&to) {
            Some(&mut Handler::Watch(id)) => {
                watch::wake(self, id);
                false
            }
            Some(Handler::LongAnswer(_)) => {
                long::wake(self, to);
                false
            }
            Some(Handler::RangeStream(stream)) => stream.pump(turn, to)?,
            Some(Handler::Snapshot(stream)) => stream.pump(turn, to)?,
            Some(Handler::KeepAlive(stream)) => stream.pump(&mut self.reads, turn, answering)?,
            Some(Handler::Health) | None => false,
        };
        if done {
            self.handlers.remove(&to);
            self.leaderless.forget(to);
            turn.outlet.finish(to, Ok(()));
        }
        Ok(())
    }

    fn work(&mut self, item: PortWork, turn: &mut Turn<'_>) {
        match item {
            PortWork::Done { id, result } => {
                if let Some(waiter) = self.waiting.take(id) {
                    // A refusal is an answer, too.
                    observe(turn, &waiter, true);
                    self.done(waiter.to, result, turn);
                }
            }
            PortWork::Refused { id, error } => {
                if let Some(waiter) = self.waiting.take(id) {
                    observe(turn, &waiter, false);
                    self.done(waiter.to, Err(error.into()), turn);
                }
            }
            PortWork::ReadIndex { round, result } => {
                for to in self.reads.granted(round, result) {
                    let error = result.err().unwrap_or(Error::LeaderChanged);
                    self.end_if_failed(to, Err(error.into()), turn);
                }
            }
            PortWork::Watch(delivery) => watch::deliver(self, turn, &delivery),
            PortWork::WatchLost { sequence, revision } => {
                watch::lost(self, turn, sequence, revision);
            }
            PortWork::Answered { to, result } => match result {
                Ok(message) => turn.outlet.reply(to, message),
                Err(status) => turn.outlet.finish(to, Err(status)),
            },
            PortWork::Renewed { to, result } => {
                let renewed = match self.handlers.get_mut(&to) {
                    Some(Handler::KeepAlive(stream)) => stream.renewed(turn, to, result),
                    Some(_) | None => return,
                };
                let pumped = renewed.and_then(|()| self.pump(to, turn));
                self.end_if_failed(to, pumped, turn);
            }
            PortWork::Ready { to } => {
                let pumped = self.pump(to, turn);
                self.end_if_failed(to, pumped, turn);
            }
            PortWork::Pruned | PortWork::Local(_) => {}
        }
    }

    fn end_if_failed(&mut self, to: ReplyTo, result: Result<(), Status>, turn: &mut Turn<'_>) {
        if let Err(status) = result {
            self.handlers.remove(&to);
            self.leaderless.forget(to);
            turn.outlet.finish(to, Err(status));
        }
    }

    fn done(&mut self, to: ReplyTo, result: Result<Bytes, Status>, turn: &mut Turn<'_>) {
        let physical = self.physical.remove(&to);
        match result {
            Ok(message) if physical => self.compacting.push((to, message)),
            Ok(message) => turn.outlet.reply(to, message),
            Err(status) => turn.outlet.finish(to, Err(status)),
        }
    }

    /// Answers those who asked for a compaction to be carried out before they hear of it.
    fn answer_compacted(&mut self, turn: &mut Turn<'_>) {
        if !self.compacting.is_empty() && turn.state().is_pruned() {
            for (to, message) in self.compacting.drain(..) {
                turn.outlet.reply(to, message);
            }
        }
    }

    /// Ends the streams that want a leader when there has been none for too long.
    fn end_leaderless(&mut self, turn: &mut Turn<'_>) {
        let has_leader = turn.engine.shown.leader() != 0;
        let patience = turn.engine.rules.election_timeout * LEADERLESS_TIMEOUTS;
        for to in self.leaderless.overdue(has_leader, turn.began, patience) {
            self.gone(to, turn);
            turn.outlet.finish(to, Err(Error::NoLeader.into()));
        }
    }

    fn give_up_late(&mut self, turn: &mut Turn<'_>) {
        while let Some(waiter) = self.waiting.expire(turn.now_ms) {
            observe(turn, &waiter, false);
            let error = turn.engine.timeout_of(waiter.since);
            turn.outlet.finish(waiter.to, Err(error.into()));
        }
        while let Some(to) = self.reads.expire(turn.now_ms) {
            self.end_if_failed(to, Err(Error::Timeout.into()), turn);
        }
    }

    /// Reads whose round has come to an index that is applied by now.
    fn serve_ready_reads(&mut self, turn: &mut Turn<'_>) {
        let applied = turn.engine.shown.applied();
        while let Some(call) = self.reads.next_ready(applied) {
            let to = call.to;
            let served = self.serve(call, turn);
            self.end_if_failed(to, served, turn);
        }
    }

    /// Answers a read for which nothing more needs to be known.
    #[expect(clippy::wildcard_enum_match_arm, reason = "these are all that ever wait here")]
    pub(crate) fn serve(&mut self, call: Call, turn: &mut Turn<'_>) -> Result<(), Status> {
        match call.method {
            Method::Range => kv::serve_range(self, turn, call),
            Method::Txn => kv::serve_txn(self, turn, call),
            Method::RangeStream => kv::serve_stream(self, turn, &call),
            Method::LeaseTimeToLive => {
                let answering = self.answering(call.to);
                lease::serve_time_to_live(turn, &call, answering)
            }
            Method::LeaseKeepAlive => {
                let answering = self.answering(call.to);
                if let Some(Handler::KeepAlive(stream)) = self.handlers.get_mut(&call.to) {
                    stream.confirmed(turn, answering);
                }
                self.pump(call.to, turn)
            }
            Method::MemberList => cluster::serve_member_list(turn, &call),
            Method::AuthStatus => maintenance::serve_auth_status(turn, &call),
            Method::Downgrade => downgrade::serve(self, turn, &call),
            method => unreachable!("{method:?} is no read that waits"),
        }
    }

    /// Serves a read as soon as this member has applied all that was committed before now.
    pub(crate) fn read(&mut self, call: Call, turn: &mut Turn<'_>) -> Result<(), Status> {
        if turn.engine.shown.lone() {
            return self.serve(call, turn);
        }
        self.reads.add(call, turn.deadline_ms()).map_err(Status::from)
    }

    /// Whether the process is asked to end.
    pub fn is_stopping(&self) -> bool {
        self.engine.is_stopping()
    }

    /// Ends all that would never end by itself.
    pub fn stop(&mut self, outlet: &mut dyn Outlet) {
        let calls: Vec<ReplyTo> =
            self.handlers.drain().map(|(to, _)| to).chain(self.tasks.drain()).collect();
        for to in calls {
            outlet.finish(to, Err(Error::Stopped.into()));
        }
    }

    /// Whether another turn has something to do without anybody asking for it.
    pub fn has_work(&self) -> bool {
        self.watches.is_behind() || !self.long.is_empty()
    }

    /// Calls under way, for a front end that wants to end in peace.
    pub fn n_waiting(&self) -> usize {
        self.waiting.n_unanswered()
    }
}

/// Counts how long a proposal took to be answered.
fn observe(turn: &Turn<'_>, waiter: &Waiter, success: bool) {
    let took = turn.began.saturating_duration_since(waiter.since);
    if let Some(operation) = waiter.operation {
        turn.engine.metrics.request.of(operation, success).observe(took);
    }
}

/// What every unary call must pass, whatever it asks for.
fn admit(call: &Call, engine: &Engine) -> Result<(), Status> {
    let learner = engine.shown.is_learner();
    let for_learners = matches!(call.method, Method::Range | Method::Status | Method::Snapshot);
    if learner && !for_learners {
        return Err(Error::NotSupportedForLearner.into());
    }
    check_version(&call.caller)?;
    if call.caller.requires_leader && engine.shown.leader() == 0 {
        return Err(Error::NoLeader.into());
    }
    Ok(())
}

/// What a client says its version is has to be text.
fn check_version(caller: &Caller) -> Result<(), Status> {
    let said = caller.client_version.as_deref().unwrap_or_default();
    std::str::from_utf8(said).map(drop).map_err(|_| Error::InvalidClientAPIVersion.into())
}

pub(super) fn not_yet(method: Method) -> Status {
    let text = format!("retcd does not offer {} yet", method.path());
    Status::new(Code::Unimplemented, text)
}
