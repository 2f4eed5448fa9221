//! Clients that watch: at whatever member answers, and when it goes, at another from where they were.

mod interest;

use std::collections::VecDeque;

use bytes::Bytes;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use proto::prost::Message;
use state::watch::StreamId;
use stdx::Generator;

use self::interest::Interest;
use crate::process::SHARDS;
use crate::streams::Stream;
use crate::trace;
use crate::world::{SECOND, World};

/// What each wants to see at once.
const INTERESTS_MAX: usize = 3;
/// Between two looks, at most.
const LOOK: u64 = SECOND / 4;

/// A stream at a member.
#[derive(Clone, Copy)]
struct Connection {
    host: usize,
    life: u64,
    stream: (usize, StreamId),
}

#[derive(Default)]
struct Watcher {
    connection: Option<Connection>,
    interests: Vec<Interest>,
    /// Which of them were asked for, and not confirmed yet.
    creating: VecDeque<usize>,
    /// How often it has looked.
    n: u64,
}

pub(crate) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub(crate) fn new(most: Option<usize>, seed: u64) -> Self {
        let n = Stream::Watcher(usize::MAX, 0).of(seed).int(0..=3);
        let n = n.min(most.unwrap_or(usize::MAX));
        Self((0..n).map(|_| Watcher::default()).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn some_create(head: i64, random: &mut Generator) -> WatchCreateRequest {
    let key = |random: &mut Generator| Bytes::from(format!("k{}", random.below(10)));
    let (key, range_end) = match random.below(4) {
        0 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
        1 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        2 => (Bytes::from_static(b"k2"), Bytes::from_static(b"k6")),
        _ => (key(random), Bytes::new()),
    };
    let start_revision = match random.below(10) {
        0..4 => 0,
        4..9 => 1 + random.below(head as u64) as i64,
        _ => head + 1 + random.below(5) as i64,
    };
    WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: random.chance(50),
        filters: if random.chance(20) { vec![random.below(2) as i32] } else { Vec::new() },
        prev_kv: random.chance(50),
        watch_id: 0,
        fragment: random.chance(30),
    }
}

impl World {
    /// A client looks at its stream, and perhaps does something with it.
    pub(crate) fn watcher(&mut self, n: usize) {
        let mut watcher = std::mem::take(&mut self.watchers.0[n]);
        watcher.n += 1;
        let mut random = Stream::Watcher(n, watcher.n).of(self.plan.seed);
        match watcher.connection {
            Some(connection) if self.is_alive(connection) => {
                self.look(&mut watcher, connection, &mut random);
                if !self.clients.are_stopped() {
                    self.act(&mut watcher, connection, &mut random);
                }
            }
            Some(_) => watcher.disconnect(),
            None => self.connect(&mut watcher, &mut random),
        }
        let busy = watcher.connection.is_some() && random.chance(70);
        let pause = 1 + random.below(if busy { LOOK / 10 } else { LOOK });
        self.watchers.0[n] = watcher;
        self.after(pause, crate::world::Happening::Watcher(n));
    }

    /// Once all is healed nobody stays with a machine that is no member: it will never tell more.
    fn is_alive(&self, connection: Connection) -> bool {
        let host = &self.hosts[connection.host];
        let may_stay = self.healed.is_none() || {
            self.members(|member| !member.is_learner).contains(&host.founding.id)
        };
        may_stay && host.life == connection.life && host.process.is_some()
    }

    fn connect(&mut self, watcher: &mut Watcher, random: &mut Generator) {
        let host = self.somebody(random);
        let Some(process) = &self.hosts[host].process else { return };
        if process.shown.is_learner {
            return; // Learners serve no streams.
        }
        let life = self.hosts[host].life;
        let shard = random.below(SHARDS as u64) as usize;
        let opened = self.with(host, |process, _| Ok(process.open_stream(shard)));
        let Some(stream) = opened.map(|stream| (shard, stream)) else { return };
        let connection = Connection { host, life, stream };
        watcher.connection = Some(connection);
        if watcher.interests.is_empty() {
            watcher.interests.push(Interest::new(some_create(self.oracle.model.head, random)));
        }
        for i in 0..watcher.interests.len() {
            self.create(watcher, connection, i);
        }
    }

    fn create(&mut self, watcher: &mut Watcher, connection: Connection, i: usize) {
        let create = watcher.interests[i].resumed();
        trace::detail(self.now, || format!("member {} is to tell {create:?}", connection.host + 1));
        watcher.creating.push_back(i);
        self.say(connection, RequestUnion::CreateRequest(create));
    }

    fn say(&mut self, connection: Connection, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        self.with(connection.host, |process, around| {
            process.watch(connection.stream, request, around);
            Ok(())
        });
    }

    fn look(&mut self, watcher: &mut Watcher, connection: Connection, random: &mut Generator) {
        // One that is slow has its watchers fall behind; in the end each reads all there is.
        let is_slow = random.chance(50) && !self.clients.are_stopped();
        let max = if is_slow { random.int(0..=5) } else { usize::MAX };
        let read = self.with(connection.host, |process, around| {
            Ok(process.read_stream(connection.stream, max, around))
        });
        for message in read.unwrap_or_default() {
            let response = WatchResponse::decode(message).expect("a response");
            trace::detail(self.now, || {
                format!("member {} tells a watcher {response:?}", connection.host + 1)
            });
            if let Some(again) = watcher.take(response, &self.oracle.model) {
                self.create(watcher, connection, again);
            }
        }
    }

    fn act(&mut self, watcher: &mut Watcher, connection: Connection, random: &mut Generator) {
        match random.below(100) {
            0..3 => {
                let Connection { host, stream: (shard, stream), .. } = connection;
                self.with(host, |process, _| {
                    process.close_stream(shard, stream);
                    Ok(())
                });
                watcher.disconnect();
            }
            3..10 => {
                self.say(connection, RequestUnion::ProgressRequest(WatchProgressRequest {}));
            }
            10..15 if watcher.interests.len() < INTERESTS_MAX => {
                let create = some_create(self.oracle.model.head, random);
                watcher.interests.push(Interest::new(create));
                self.create(watcher, connection, watcher.interests.len() - 1);
            }
            15..18 => {
                let i = random.below(watcher.interests.len() as u64) as usize;
                if let Some(watch_id) = watcher.interests[i].watch_id {
                    self.say(
                        connection,
                        RequestUnion::CancelRequest(WatchCancelRequest { watch_id }),
                    );
                }
            }
            _ => {}
        }
    }

    /// At the end nobody is owed anything.
    pub(crate) fn compare_watchers(&mut self) {
        let model = &self.oracle.model;
        for (n, watcher) in self.watchers.0.iter().enumerate() {
            for interest in &watcher.interests {
                let create = &interest.create;
                let is_complete = interest.is_complete(model, model.head);
                assert!(is_complete, "watcher {n} of {create:?} is at {:?}", interest.next);
                self.summary.events += interest.n_seen;
            }
        }
    }
}

impl Watcher {
    fn disconnect(&mut self) {
        self.connection = None;
        self.creating.clear();
        self.interests.iter_mut().for_each(Interest::disconnect);
    }

    /// Takes a message in. If an interest lost its watcher, which: it is to be asked for again.
    fn take(&mut self, response: WatchResponse, model: &crate::model::Model) -> Option<usize> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            let i = self.creating.pop_front().expect("only what was asked for is created");
            assert!(!response.canceled, "refused: {response:?}");
            self.interests[i].created(response.watch_id, revision);
            return None;
        }
        if response.watch_id == -1 {
            let created = self.interests.iter_mut().filter(|i| i.watch_id.is_some());
            created.for_each(|interest| interest.has_all(model, revision));
            return None;
        }
        let is_it = |interest: &Interest| interest.watch_id == Some(response.watch_id);
        let i = self.interests.iter().position(is_it).expect("a watcher that was created");
        let interest = &mut self.interests[i];
        if response.canceled {
            if response.compact_revision == 0 {
                interest.disconnect();
            } else {
                interest.is_compacted(model, response.compact_revision);
            }
            return Some(i);
        }
        if response.events.is_empty() {
            interest.has_all(model, revision);
        } else {
            interest.take(model, response);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use crate::plan::Plan;

    #[test]
    fn once_all_is_healed_nobody_stays_with_a_machine_that_was_never_let_in() {
        let mut world = World::of(Plan::new(0), 3, 1 << 20, Clients::none());
        (0..3).for_each(|host| world.start(host));
        let stranger = world.newcomer(0).id as usize - 1;
        world.run_until(5 * SECOND, &mut |_| {});
        let opened = world.with(stranger, |process, _| Ok(process.open_stream(0)));
        let stream = (0, opened.expect("it is up"));
        let connection = Connection { host: stranger, life: world.hosts[stranger].life, stream };
        let watcher = Watcher { connection: Some(connection), ..Watcher::default() };
        world.watchers.0 = vec![watcher];
        world.watcher(0);
        assert!(world.watchers.0[0].connection.is_some(), "it may be wrong before");
        world.healed = Some(world.now);
        world.watcher(0);
        assert!(world.watchers.0[0].connection.is_none());
    }
}
