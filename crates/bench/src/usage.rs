//! What a process has used: CPU time and memory, as the kernel counts them.
//!
//! `/proc/PID/task/*/schedstat` counts each thread's CPU time in nanoseconds, but forgets threads
//! that ended; `/proc/PID/stat` remembers all, in ticks of ten milliseconds. The sum over the
//! threads is taken, unless the ticks show that it lacks something.

use std::fs::{self, File};
use std::iter;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::Pid;

use crate::machine::Core;

/// Both counts, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    threads: Duration,
    ticks: Duration,
}

impl Cpu {
    pub(crate) fn of(pid: Pid) -> Self {
        let threads = Meter::of(iter::once(pid)).read();
        let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stat = fs::read_to_string(stat).unwrap_or_default();
        Self { threads, ticks: duration(ticks(&stat).unwrap_or(0)) }
    }

    /// What several processes have used together.
    pub(crate) fn of_all(pids: impl Iterator<Item = Pid>) -> Self {
        pids.map(Self::of).fold(Self::default(), |a, b| Self {
            threads: a.threads + b.threads,
            ticks: a.ticks + b.ticks,
        })
    }

    /// What was used since then.
    pub(crate) fn since(self, then: Self) -> Duration {
        let threads = self.threads.saturating_sub(then.threads);
        let ticks = self.ticks.saturating_sub(then.ticks);
        // User and system time are each cut to a tick, at both ends.
        if ticks > threads + duration(4) { ticks } else { threads }
    }
}

/// The CPU time of processes that are looked at all the time: a read costs a microsecond for each thread.
pub(crate) struct Meter {
    processes: Vec<PathBuf>,
    threads: Vec<File>,
    n_reads: usize,
}

impl Meter {
    /// So often it looks for threads that have come since.
    const READS_PER_LOOK: usize = 100;

    pub(crate) fn of(pids: impl Iterator<Item = Pid>) -> Self {
        let tasks = |pid: Pid| PathBuf::from(format!("/proc/{}/task", pid.as_raw_nonzero()));
        Self { processes: pids.map(tasks).collect(), threads: Vec::new(), n_reads: 0 }
    }

    /// What the threads that are there have used. Less than before when one has ended.
    pub(crate) fn read(&mut self) -> Duration {
        if self.n_reads.is_multiple_of(Self::READS_PER_LOOK) {
            let tasks = self.processes.iter().filter_map(|tasks| fs::read_dir(tasks).ok());
            let tasks = tasks.flatten().flatten();
            let opened = tasks.filter_map(|task| File::open(task.path().join("schedstat")).ok());
            self.threads = opened.collect();
        }
        self.n_reads += 1;
        self.threads.iter().map(on_cpu).sum()
    }
}

/// The first number of a thread's schedstat; nothing if the thread has ended.
fn on_cpu(schedstat: &File) -> Duration {
    let mut bytes = [0; 64];
    let n = schedstat.read_at(&mut bytes, 0).unwrap_or(0);
    let text = str::from_utf8(&bytes[..n]).unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// How long a core has been busy, with whatever; to a tick.
pub(crate) fn busy(core: Core) -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    duration(busy_ticks(&stat, core).unwrap_or(0))
}

/// All of a core's ticks but those it idled or waited for a disk.
fn busy_ticks(stat: &str, core: Core) -> Option<u64> {
    let name = format!("cpu{} ", core.0);
    let fields = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let ticks: Vec<u64> = fields.split_whitespace().map_while(|f| f.parse().ok()).collect();
    let [user, nice, system, _idle, _disk, irq, softirq, stolen, ..] = ticks[..] else {
        return None;
    };
    Some(user + nice + system + irq + softirq + stolen)
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

/// User and system time in `/proc/PID/stat`, whose second field may hold anything in parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// Of it, what no file backs.
    pub(crate) anonymous: u64,
}

impl Memory {
    pub(crate) fn of(pid: Pid) -> Self {
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        let status = fs::read_to_string(path).unwrap_or_default();
        Self { resident: size(&status, "VmRSS:"), anonymous: size(&status, "RssAnon:") }
    }

    /// Of several processes together.
    pub(crate) fn of_all(pids: impl Iterator<Item = Pid>) -> Self {
        pids.map(Self::of).fold(Self::default(), |a, b| Self {
            resident: a.resident + b.resident,
            anonymous: a.anonymous + b.anonymous,
        })
    }
}

fn size(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = value.and_then(|v| v.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_hides_no_field() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 10 0 0 0 250 31 0 0 20 0 1 0 100";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn a_core_is_busy_unless_it_idles_or_waits() {
        let stat = "cpu  9 9 9 9\ncpu0 1 2 4 1000 2000 8 16 32 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_ticks(stat, Core(0)), Some(63));
        assert_eq!(busy_ticks(stat, Core(10)), Some(6));
        assert_eq!(busy_ticks(stat, Core(1)), None);
    }

    #[test]
    fn sizes_are_found_by_name() {
        let status = "Name:\tx\nVmRSS:\t  2048 kB\nRssAnon:\t    12 kB\n";
        assert_eq!((size(status, "VmRSS:"), size(status, "RssAnon:")), (2048 << 10, 12 << 10));
        assert_eq!(size(status, "VmSwap:"), 0);
    }

    #[test]
    fn threads_that_ended_are_found_in_the_ticks() {
        let (start, second) = (Cpu::default(), Duration::from_secs(1));
        let precise = Cpu { threads: second, ticks: second + Duration::from_millis(30) };
        assert_eq!(precise.since(start), second);
        let lost = Cpu { threads: second / 10, ticks: second };
        assert_eq!(lost.since(start), second);
    }
}
