//! Bits that flip where they rest, and an operator who replaces the machine.
//!
//! What was synced does not say any more what was written, whether the member runs or not. It must refuse to
//! start, or end when it meets the damage, with an error that names the file; what it serves or
//! acknowledges until then must be true. An operator has it removed, and another machine joins.
//!
//! One machine at a time: the others are a quorum without it, whatever each of them knows (see
//! `electorate`), and nothing else that costs a member happens meanwhile.

use std::path::{Path, PathBuf};

use proto::etcdserverpb::Member;
use state::membership::MemberChange;
use stdx::Generator;
use storage::disk::Disk;

use crate::process::MEMBER_DIR;
use crate::reform::HOSTS_MAX;
use crate::trace;
use crate::world::{Happening, SECOND, World};

/// Changes that the operator asks for are numbered from here on, those of the nemesis below.
const NUMBERS_FROM: u64 = 500_000;
/// How often the operator asks.
const RETRY: u64 = 2 * SECOND;

/// What is wrong with the disks.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// The machine with the bad disk, until it is no member any more.
    host: Option<usize>,
    n_asked: u64,
}

impl Damage {
    pub(crate) fn is_any(&self) -> bool {
        self.host.is_some()
    }

    pub(crate) fn is_at(&self, host: usize) -> bool {
        self.host == Some(host)
    }
}

impl World {
    /// Flips a bit of something that `host` has written.
    pub(crate) fn flip(&mut self, host: usize, random: &mut Generator) {
        let id = self.hosts[host].founding.id;
        let voters = self.members(|member| !member.is_learner);
        let is_member = self.members(|_| true).contains(&id);
        let is_time = voters.len() > 2 && !self.damage.is_any() && !self.removal_pends();
        let may = is_member && is_time && self.can_do_without(host);
        let disk = self.hosts[host].disk.clone();
        let folders: Vec<Vec<(PathBuf, u64)>> = folders(&disk);
        if !may || folders.is_empty() {
            return;
        }
        let folder = random.int(0..=folders.len() - 1);
        let (path, len) = random.pick(&folders[folder]);
        let (offset, bit) = (random.below(*len), random.below(8) as u8);
        trace::note(self.now, || format!("byte {offset} of {} flips", path.display()));
        disk.flip_bit(path, offset, bit);
        self.damage.host = Some(host);
        self.summary.bits_flipped += 1;
    }

    /// The process has met the damage.
    pub(crate) fn finds_damage(&mut self, host: usize, why: &str) {
        assert!(why.contains("/data/member"), "which file is damaged? {why}");
        trace::note(self.now, || format!("member {} met the damage: {why}", host + 1));
        self.summary.damage_found += 1;
        self.bring_down(host, true);
        self.replace_soon(host);
    }

    /// Takes the machine out of service, and has it replaced.
    pub(crate) fn replace_soon(&mut self, host: usize) {
        self.hosts[host].retired = true;
        self.after(RETRY, Happening::Replace { host });
    }

    /// At the end no bad disk stays in service, whether its damage was met or not.
    pub(crate) fn replace_damaged(&mut self) {
        if let Some(host) = self.damage.host
            && !self.hosts[host].retired
        {
            trace::note(self.now, || format!("member {} goes out of service", host + 1));
            self.bring_down(host, true);
            self.replace_soon(host);
        }
    }

    /// Has the machine removed, and once it is, another one added.
    pub(crate) fn replace(&mut self, host: usize) {
        let id = self.hosts[host].founding.id;
        let up = |host: &usize| self.hosts[*host].process.is_some();
        let asked = self.leader().or_else(|| (0..self.hosts.len()).find(up));
        let members = self.members(|_| true);
        let (Some(asked), false) = (asked, members.is_empty()) else {
            return self.after(RETRY, Happening::Replace { host });
        };
        self.damage.n_asked += 1;
        let number = NUMBERS_FROM + self.damage.n_asked;
        let change = if members.contains(&id) {
            self.after(RETRY, Happening::Replace { host });
            MemberChange::Remove { id }
        } else {
            self.damage.host = None;
            if self.hosts.len() == HOSTS_MAX {
                return;
            }
            MemberChange::Add(Member { is_learner: true, ..self.newcomer(SECOND) })
        };
        self.ask_change(asked, number, &change);
    }
}

fn names(disk: &dyn Disk, dir: &Path) -> Vec<PathBuf> {
    let mut names = disk.list(dir).unwrap_or_default();
    names.sort();
    names.into_iter().map(|name| dir.join(name)).collect()
}

/// The files of each folder that holds any, and their lengths.
fn folders(disk: &dyn Disk) -> Vec<Vec<(PathBuf, u64)>> {
    let len = |path: &PathBuf| disk.open(path).and_then(|file| file.len()).unwrap_or_default();
    let measured = |path: PathBuf| (len(&path) > 0).then(|| (path.clone(), len(&path)));
    let files = |dir: PathBuf| names(disk, &dir).into_iter().filter_map(measured).collect();
    let all = names(disk, Path::new(MEMBER_DIR)).into_iter().map(files);
    all.filter(|files: &Vec<_>| !files.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use crate::plan::Plan;

    /// Lives on until it is so.
    fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
        let end = world.now + 30 * SECOND;
        while !is_so(world) {
            assert!(world.step_until(end), "it never came to that");
        }
    }

    fn knows_three(world: &World, host: usize) -> bool {
        let process = world.hosts[host].process.as_ref();
        process.is_some_and(|process| process.state.membership().members().count() == 3)
    }

    #[test]
    fn no_bit_flips_where_alone_it_is_known_who_could_do_without() {
        let mut world = World::of(Plan::new(0), 2, 1 << 20, Clients::none());
        (0..2).for_each(|host| world.start(host));
        until(&mut world, |world| world.leader().is_some());
        let leader = world.leader().expect("it was waited for");
        let other = 1 - leader;
        let third = world.newcomer(0);
        world.ask_change(leader, 1, &MemberChange::Add(third));
        until(&mut world, |world| knows_three(world, leader));
        assert!(!knows_three(&world, other), "too late to see the difference");
        let mut random = Generator::new(0);
        world.flip(leader, &mut random);
        assert_eq!(world.summary.bits_flipped, 0);
        // What it applied it forgets when it loses power, until its disk knows as well.
        until(&mut world, |world| knows_three(world, other) && knows_three(world, 2));
        world.flip(leader, &mut random);
        assert_eq!(world.summary.bits_flipped, 0);
        for host in [other, 2] {
            world.with(host, |process, around| {
                process.want_checkpoint(around);
                Ok(())
            });
        }
        until(&mut world, |world| world.can_do_without(leader));
        world.flip(leader, &mut random);
        assert_eq!(world.summary.bits_flipped, 1);
    }
}
