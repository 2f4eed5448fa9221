//! A disk in memory that forgets what it may forget.
//!
//! It is as unkind as a real disk is allowed to be, and no more, and all it does follows from its
//! seed:
//!
//! ```text
//!            write        write           sync        write      crash
//! sector 7   a ─────► a b ────► a b c ────► c ─────► c d ──────► c or d
//!                     └ may be on the disk ┘ is      └ may be ┘
//! ```
//!
//! Each sector of a file chooses for itself, and so do the file's length and every name that was
//! made, renamed or removed since its folder was synced: any subset of those happened. A rename
//! happens as a whole or not at all.
//!
//! A test plans faults beforehand: a disk that runs full, a sync that fails (the data of which is
//! then forgotten silently, as Linux does), a bit that flips, a crash at the k-th operation.
//!
//! # Invariants
//!
//! - After [`SimulatedDisk::crash`] or `kill`, or once a planned crash has come, every handle of
//!   the old disk fails, with an error that [`is_crash`] knows.
//! - A folder is durable as soon as it is made, and gone as soon as it is removed, as on the real disk.
//!
//! # Not here
//!
//! Hard links, permissions, time.

mod content;
mod names;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use self::content::Content;
use self::names::Names;
use super::{Disk, File, Lock};

/// Where a file is found while it is open: shared by its handles and its name.
type Inode = Arc<Mutex<Content>>;

/// A disk, or rather a cable to it: clones reach the same one.
#[derive(Clone)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
}

/// What the disk has been asked to do so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub writes: u64,
    pub bytes_written: u64,
    pub syncs: u64,
    pub reads: u64,
    /// Creates, renames, removes, new folders and syncs of folders.
    pub name_changes: u64,
    /// Everything that changes the disk, or makes a change durable. Reads are not counted.
    pub operations: u64,
}

struct World {
    random: Random,
    names: Names,
    locked: BTreeSet<PathBuf>,
    counts: Counts,
    plan: Plan,
    crashed: bool,
}

/// Faults to come.
#[derive(Default)]
struct Plan {
    crash_at: Option<u64>,
    fail_sync_at: Option<u64>,
    /// Bytes that may yet be allocated.
    space: Option<u64>,
}

/// Whether `error` is what a disk answers after its crash.
pub fn is_crash(error: &io::Error) -> bool {
    error.get_ref().and_then(|e| e.downcast_ref::<Crash>()).is_some()
}

/// The error of every operation from a crash on.
#[derive(Debug)]
struct Crash;

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the simulated disk has crashed")
    }
}

impl std::error::Error for Crash {}

impl SimulatedDisk {
    pub fn new(seed: u64) -> Self {
        Self::of(Random(seed), Names::default())
    }

    fn of(random: Random, names: Names) -> Self {
        let world = World {
            random,
            names,
            locked: BTreeSet::new(),
            counts: Counts::default(),
            plan: Plan::default(),
            crashed: false,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// Cuts the power. The answer is the disk as it is found afterwards, without plans and with all
    /// counters at 0; this one, and every handle and lock it gave out, is dead.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut world = self.world();
        world.crashed = true;
        let World { names, random, .. } = &mut *world;
        let survived = names.survive(&mut Luck::Drawn(random));
        Self::of(Random(world.random.next()), survived)
    }

    /// A copy, as a crash would leave the disk that takes all that was not synced. This one goes on.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        Self::of(Random(0), self.world().names.survive(&mut Luck::Out))
    }

    /// Kills the process and spares the machine: all that was written is still there, and what was
    /// not synced is still not safe from a crash. Otherwise as [`SimulatedDisk::crash`].
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut world = self.world();
        world.crashed = true;
        Self::of(Random(world.random.next()), world.names.clone())
    }

    /// The `k`-th operation from now on (counting from 1) is the one during which the power fails.
    pub fn crash_at(&self, k: u64) {
        let mut world = self.world();
        world.plan.crash_at = Some(world.counts.operations + k);
    }

    /// The `k`-th sync of a file from now on (counting from 1) fails, and its data is lost.
    pub fn fail_sync_at(&self, k: u64) {
        let mut world = self.world();
        world.plan.fail_sync_at = Some(world.counts.syncs + k);
    }

    /// Leaves room for `bytes` more. Overwriting what is allocated takes none; `None` lifts the
    /// limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.world().plan.space = bytes;
    }

    /// Flips one bit of the byte at `offset`, where it rests.
    ///
    /// # Panics
    ///
    /// If there is no such byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) {
        let inode = self.world().names.find(path).expect("a file to damage");
        inode.lock().expect("no panic within").flip(offset, bit);
    }

    pub fn counts(&self) -> Counts {
        self.world().counts
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic within")
    }

    fn handle(&self, inode: Inode) -> Arc<dyn File> {
        Arc::new(SimulatedFile { disk: self.clone(), inode, mapped: AtomicU64::new(0) })
    }

    /// Changes names, unless the power has failed; if it fails just now, the change is begun and no
    /// more.
    fn change<T>(&self, make: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.world();
        let fate = world.begin()?;
        world.counts.name_changes += 1;
        let made = make(&mut world)?;
        fate.end().map(|()| made)
    }
}

impl World {
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other(Crash)) } else { Ok(()) }
    }

    /// Counts an operation. The answer says how it ends.
    fn begin(&mut self) -> io::Result<Fate> {
        self.alive()?;
        self.counts.operations += 1;
        self.crashed = self.plan.crash_at.is_some_and(|k| self.counts.operations >= k);
        Ok(if self.crashed { Fate::Crashes } else { Fate::Completes })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Completes,
    Crashes,
}

impl Fate {
    fn end(self) -> io::Result<()> {
        match self {
            Self::Completes => Ok(()),
            Self::Crashes => Err(io::Error::other(Crash)),
        }
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inode = self.change(|world| {
            let inode = world.names.create(path)?;
            inode.lock().expect("no panic within").set_len(0);
            Ok(inode)
        })?;
        Ok(self.handle(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inode = {
            let world = self.world();
            world.alive()?;
            world.names.find(path)?
        };
        Ok(self.handle(inode))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        world.alive()?;
        world.names.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|world| world.names.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|world| world.names.remove(path))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|world| world.names.create_dir(dir))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|world| world.names.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        let fate = world.begin()?;
        world.counts.name_changes += 1;
        fate.end()?;
        world.names.sync(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.change(|world| {
            world.names.create(path)?;
            if !world.locked.insert(path.to_owned()) {
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(())
        })?;
        Ok(Box::new(Held { disk: self.clone(), path: path.to_owned() }))
    }
}

struct Held {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.world().locked.remove(&self.path);
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: Inode,
    mapped: AtomicU64,
}

impl SimulatedFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.inode.lock().expect("no panic within")
    }
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.world().alive()?;
        Ok(self.content().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        assert!(len >= self.mapped.load(Ordering::Relaxed), "a mapped file must not be cut");
        let fate = self.disk.world().begin()?;
        self.content().set_len(len);
        fate.end()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.alive()?;
        world.counts.reads += 1;
        Ok(self.content().read_at(offset, into))
    }

    fn copy_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let end = offset.checked_add(len as u64).ok_or(ErrorKind::UnexpectedEof)?;
        if end > self.len()? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let used = out.len();
        out.resize(used + len, 0);
        self.read_at(offset, &mut out[used..]).map(drop)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world();
        let fate = world.begin()?;
        world.counts.writes += 1;
        world.counts.bytes_written += bytes.len() as u64;
        let mut content = self.content();
        let needed = content.unallocated(offset, bytes.len());
        if let Some(space) = &mut world.plan.space {
            if needed > *space {
                let part = content.fitting(offset, bytes.len(), *space);
                content.write_at(offset, &bytes[..part]);
                *space = 0;
                return Err(ErrorKind::StorageFull.into());
            }
            *space -= needed;
        }
        content.write_at(offset, bytes);
        fate.end()
    }

    /// Of what is not synced a crash spares what it likes anyway.
    fn write_out(&self, _offset: u64, _length: u64) -> io::Result<()> {
        self.disk.world().begin()?.end()
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let fate = world.begin()?;
        world.counts.syncs += 1;
        fate.end()?;
        if world.plan.fail_sync_at == Some(world.counts.syncs) {
            self.content().lose(&mut world.random);
            return Err(io::Error::other("the simulated sync has failed"));
        }
        self.content().sync();
        Ok(())
    }

    fn map(&self, len: u64) -> io::Result<()> {
        let len = len.min(self.len()?);
        self.mapped.fetch_max(len, Ordering::Relaxed);
        Ok(())
    }
}

/// Choices that depend on the seed alone (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// One of `choices`, which must not be empty.
    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[(self.next() % choices.len() as u64) as usize]
    }
}

/// What of the things that were not synced outlives a crash.
enum Luck<'a> {
    Drawn(&'a mut Random),
    /// Nothing does.
    Out,
}

impl Luck<'_> {
    fn spares(&mut self) -> bool {
        match self {
            Self::Drawn(random) => random.coin(),
            Self::Out => false,
        }
    }

    /// One of `versions`, of which the first is durable.
    fn pick<'a, T>(&mut self, versions: &'a [T]) -> &'a T {
        match self {
            Self::Drawn(random) => random.pick(versions),
            Self::Out => &versions[0],
        }
    }
}

#[cfg(test)]
mod tests;
