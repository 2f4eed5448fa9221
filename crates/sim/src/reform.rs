//! Changes of membership, and of who leads.
//!
//! Whoever asks for a change knows the members as one of them does, which may be out of date. A machine
//! that is to join is there from the moment it is asked for, and starts some time later, whether it was
//! let in or not: until it is, nobody speaks to it.

use member::Event;
use proto::etcdserverpb::Member;
use raft::{Body, EntryKind, NodeId};
use state::membership::MemberChange;
use stdx::Generator;

use crate::nemesis::Fault;
use crate::process::Founding;
use crate::trace;
use crate::world::{Happening, Host, RECOVERY, SECOND, World, member};

/// Machines there may be, over the whole run.
pub(crate) const HOSTS_MAX: usize = 9;
const MEMBERS_MAX: usize = 7;
/// Longer than a request waits for a leader.
const REMOVAL_PAUSE: u64 = 9 * SECOND;
/// The same by the slowest clock, with a pause.
const REMOVAL_PAUSE_MAX: u64 = 19 * SECOND;

impl World {
    /// The ids of the members as whoever has applied most knows them.
    pub(crate) fn members(&self, wanted: impl Fn(&Member) -> bool) -> Vec<u64> {
        let processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        let newest = processes.max_by_key(|process| process.state.applied().0);
        let Some(newest) = newest else { return Vec::new() };
        let members = newest.state.membership().members().filter(|member| wanted(member));
        members.map(|member| member.id).collect()
    }

    /// Whether the process of `host` knows that member `id` was removed.
    pub(crate) fn knows_as_removed(&self, host: usize, id: u64) -> bool {
        let process = self.hosts[host].process.as_ref();
        process.is_some_and(|process| process.state.membership().is_removed(id))
    }

    /// A removed member that ends at once may be the only one to know that it is removed, and the
    /// others then wait for its vote: an operator's mistake, in etcd as well. So here it stays
    /// until all is healed and word of it has spread.
    pub(crate) fn removed_may_go(&self) -> bool {
        self.healed.is_some_and(|healed| self.now > healed + RECOVERY / 2)
    }

    /// A process has learned that it does not belong to the cluster any more.
    pub(crate) fn retire(&mut self, host: usize) {
        trace::note(self.now, || format!("member {} retires", host + 1));
        let machine = &mut self.hosts[host];
        machine.retired = true;
        machine.life += 1;
        machine.process = None;
    }

    /// Asks `host` for a change of membership.
    pub(crate) fn reform(
        &mut self,
        fault: Fault,
        number: u64,
        host: usize,
        random: &mut Generator,
    ) {
        let Some(process) = &self.hosts[host].process else { return };
        let members: Vec<Member> = process.state.membership().members().cloned().collect();
        let learners: Vec<u64> = members.iter().filter(|m| m.is_learner).map(|m| m.id).collect();
        let has_room = members.len() < MEMBERS_MAX && self.hosts.len() < HOSTS_MAX;
        let change = if fault == Fault::AddMember && has_room {
            let is_learner = random.chance(60);
            let delay = random.below(3 * SECOND);
            MemberChange::Add(Member { is_learner, ..self.newcomer(delay) })
        } else if fault == Fault::Promote && !learners.is_empty() {
            MemberChange::Promote { id: *random.pick(&learners) }
        } else if fault == Fault::RemoveMember && self.may_remove() {
            self.removal = Some((number, self.now));
            let all = self.members(|_| true);
            MemberChange::Remove { id: *random.pick(&all) }
        } else {
            return; // Nobody to do it to.
        };
        self.ask_change(host, number, &change);
    }

    /// Asks `host` for a change. Clients' requests have larger numbers.
    pub(crate) fn ask_change(&mut self, host: usize, number: u64, change: &MemberChange) {
        trace::note(self.now, || format!("member {} is asked to {change:?}", host + 1));
        self.with(host, |process, around| {
            process.change(number, change, around);
            Ok(())
        });
    }

    /// No operator takes the last voter away. Since whoever is asked may not know yet what was
    /// asked before, one removal is over before the next.
    fn may_remove(&self) -> bool {
        let voters = self.members(|member| !member.is_learner);
        voters.len() > 1 && !self.removal_pends() && !self.damage.is_any()
    }

    /// Whether the last removal may yet enter a log, from who was asked or from the network.
    pub(crate) fn removal_pends(&self) -> bool {
        let Some((number, asked)) = self.removal else { return false };
        let mut processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        let may_wait = self.now <= asked + REMOVAL_PAUSE_MAX;
        self.now <= asked + REMOVAL_PAUSE
            || may_wait && processes.any(|process| process.waits_for(number))
            || self.queue.values().any(carries_change)
    }

    /// A machine that is to join, and starts after `delay`.
    pub(crate) fn newcomer(&mut self, delay: u64) -> Member {
        let id = self.hosts.len() as u64 + 1;
        let message_bytes_max = self.message_bytes_max;
        let checkpoints = self.hosts[0].founding.checkpoints;
        let founding = Founding { id, founders: Vec::new(), message_bytes_max, checkpoints };
        let host = Host::new(founding, self.plan.seed);
        self.hosts.push(host);
        self.after(delay, Happening::Start { host: id as usize - 1 });
        member(id)
    }

    /// Asks `host` to make some member the leader.
    pub(crate) fn move_leader(&mut self, host: usize, random: &mut Generator) {
        let voters = self.members(|member| !member.is_learner);
        if voters.is_empty() {
            return;
        }
        let to = NodeId::new(*random.pick(&voters)).expect("ids are not 0");
        self.with(host, |process, around| {
            process.tell(Event::TransferLeader(to), around);
            Ok(())
        });
    }
}

/// Whether this is a change of membership on its way to whoever leads.
fn carries_change(happening: &Happening) -> bool {
    let Happening::Arrive(parcel) = happening else { return false };
    let Body::Propose { entries } = &parcel.message.body else { return false };
    entries.iter().any(|(kind, _)| *kind != EntryKind::Normal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use crate::plan::Plan;

    #[test]
    fn a_removal_pends_for_as_long_as_it_may_enter_a_log() {
        let mut world = World::of(Plan::new(0), 3, 1 << 20, Clients::none());
        (0..3).for_each(|host| world.start(host));
        world.run_until(5 * SECOND, &mut |_| {});
        let leader = world.leader().expect("nothing stands in the way");
        let asked = (leader + 1) % 3;
        world.network.late.insert((asked, leader), 2 * REMOVAL_PAUSE_MAX);
        world.removal = Some((1, world.now));
        world.ask_change(asked, 1, &MemberChange::Remove { id: asked as u64 + 1 });
        world.run_until(world.now + SECOND, &mut |_| {});
        world.network.late.clear();
        for _ in 1..2 * REMOVAL_PAUSE_MAX / SECOND {
            assert_eq!(world.members(|_| true).len(), 3);
            assert!(world.removal_pends());
            world.run_until(world.now + SECOND, &mut |_| {});
        }
        world.run_until(world.now + SECOND, &mut |_| {});
        assert_eq!(world.members(|_| true).len(), 2, "it has come to pass");
        assert!(!world.removal_pends());
    }

    #[test]
    fn a_removal_by_a_slow_clock_pends_longer() {
        let mut world = World::of(Plan::new(0), 3, 1 << 20, Clients::none());
        world.start(0);
        world.removal = Some((1, 0));
        world.ask_change(0, 1, &MemberChange::Remove { id: 2 });
        world.run_until(REMOVAL_PAUSE + 1, &mut |_| {});
        assert!(world.removal_pends(), "it waits for a leader");
        world.run_until(REMOVAL_PAUSE_MAX + 1, &mut |_| {});
        assert!(!world.removal_pends(), "nobody waits so long");
    }
}
