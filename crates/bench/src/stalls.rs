//! When the machine itself stood still: a core that a hypervisor, the kernel or another process had for a while.
//!
//! Whoever waits meanwhile waits for no fault of the server's, and a few milliseconds of it, once a second, are all
//! that a p99 at a thousand requests a second tells. So a witness on each core sleeps and wakes up all the
//! time, and notices when it wakes up late:
//!
//! ```text
//! asked for 2 ms ──► woken after 8.3 ms, of which the server ran for 0.9 ms
//!                    ─► somebody else had the core for 5.4 ms
//! ```
//!
//! What the server itself ran for excuses nothing.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, getpid};

use crate::failure::Failure;
use crate::machine::{self, Clock, Core, Cores};
use crate::usage::Meter;

const NAP: Duration = Duration::from_millis(2);
/// A core that is away for less counts as there.
const AWAY_MIN: Duration = Duration::from_millis(2);

/// From when to when a core was away, in nanoseconds of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Stall {
    /// Whether any of the time between was part of it.
    pub(crate) fn meets(self, from: u64, to: u64) -> bool {
        self.from < to && from < self.to
    }
}

/// Threads that look on, until they are asked what they have seen.
pub(crate) struct Witnesses {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Stall>, Failure>>>,
}

impl Witnesses {
    /// One on each core, where `servers` and this process run; none if they share one.
    pub(crate) fn call(cores: Cores, servers: impl Iterator<Item = Pid>, clock: Clock) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let posts =
            [(cores.server, Meter::of(servers)), (cores.client, Meter::of(iter::once(getpid())))];
        let threads = posts.into_iter().filter_map(|(core, meter)| {
            let (core, is_over) = (core?, Arc::clone(&is_over));
            Some(thread::spawn(move || watch(core, meter, clock, &is_over)))
        });
        Self { threads: threads.collect(), is_over }
    }

    pub(crate) fn ask(self) -> Result<Vec<Stall>, Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            let seen = thread.join().map_err(|_| Failure::Wrong("a witness has died"))?;
            all.extend(seen?);
        }
        Ok(all)
    }
}

/// `meter` counts what those use who are to have the core.
fn watch(
    core: Core,
    mut meter: Meter,
    clock: Clock,
    is_over: &AtomicBool,
) -> Result<Vec<Stall>, Failure> {
    machine::pin(core)?;
    let mut stalls = Vec::new();
    let mut used = meter.read();
    while !is_over.load(Ordering::Relaxed) {
        let asleep = clock.now();
        machine::pause(NAP);
        let awake = clock.now();
        let before = std::mem::replace(&mut used, meter.read());
        if is_stall(Duration::from_nanos(awake - asleep), used.saturating_sub(before)) {
            stalls.push(Stall { from: asleep, to: awake });
        }
    }
    Ok(stalls)
}

/// Whether of the time between falling asleep and waking up somebody else had the core for long.
fn is_stall(slept: Duration, used: Duration) -> bool {
    slept.saturating_sub(NAP).saturating_sub(used) >= AWAY_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_meets_what_was_under_way_in_it() {
        let stall = Stall { from: 10, to: 20 };
        assert!(stall.meets(5, 11) && stall.meets(12, 13) && stall.meets(19, 30));
        assert!(!stall.meets(5, 10) && !stall.meets(20, 25));
    }

    #[test]
    fn what_is_measured_excuses_nothing() {
        let ms = Duration::from_millis;
        assert!(is_stall(ms(8), ms(1)));
        assert!(!is_stall(ms(8), ms(6)), "the server was busy");
        assert!(!is_stall(ms(3), ms(0)), "a little late");
    }

    #[test]
    fn witnesses_tell_when_they_are_asked() {
        let cores = Cores::choose().expect("some core is ours");
        let clock = Clock::start();
        let witnesses = Witnesses::call(cores, iter::once(getpid()), clock);
        machine::pause(NAP);
        let stalls = witnesses.ask().expect("asked");
        assert!(stalls.iter().all(|stall| stall.from < stall.to && stall.to <= clock.now()));
    }
}
