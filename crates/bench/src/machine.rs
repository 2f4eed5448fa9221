//! The machine the numbers come from: its cores, its clock, its name.
//!
//! Server and client each have a core of their own, so that neither is measured at the other's
//! expense: the server the first this process may use, the client the second.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{
    CpuSet, NanosleepRelativeResult, nanosleep, sched_getaffinity, sched_setaffinity,
};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::failure::{Failure, system};

/// A core, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Core(pub(crate) usize);

/// Who runs where; `None` where there are too few cores to give each its own.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: Option<Core>,
    pub(crate) client: Option<Core>,
}

impl Cores {
    pub(crate) fn choose() -> Result<Self, Failure> {
        let allowed = sched_getaffinity(None).map_err(system("asking for our cores"))?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|n| allowed.is_set(*n)).map(Core);
        Ok(match (cores.next(), cores.next()) {
            (Some(server), Some(client)) => Self { server: Some(server), client: Some(client) },
            _ => Self { server: None, client: None },
        })
    }
}

/// Moves this thread, and what it starts from now on, to the core.
pub(crate) fn pin(core: Core) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core.0);
    sched_setaffinity(None, &set).map_err(system(format!("moving to core {}", core.0)))
}

/// Allows as many open files as the machine lets us, and says how many.
pub(crate) fn raise_open_files() -> Result<u64, Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(system("raising the limit of open files"))?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Nanoseconds since the measurements began.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// CPU time this process has used, exact.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits between two looks at something that cannot be waited for.
pub(crate) fn pause(time: Duration) {
    match nanosleep(&timespec(time)) {
        // Cut short, we look again a little earlier.
        NanosleepRelativeResult::Ok
        | NanosleepRelativeResult::Interrupted(_)
        | NanosleepRelativeResult::Err(_) => {}
    }
}

pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// What a reader must know to judge the numbers, in one line.
pub(crate) fn describe(cores: Cores) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("CPU");
    let n_cores = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let kib: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0);
    let place = match cores.server {
        Some(_) => "server and client each on a core of its own",
        None => "server and client sharing one core",
    };
    format!(
        "{} × {}, {} GiB, Linux {}; {place}",
        n_cores,
        model.trim_start_matches([' ', '\t', ':']),
        kib.div_ceil(1 << 20),
        kernel.trim()
    )
}

/// Today, as years, months and days of UTC.
pub(crate) fn date() -> String {
    let days = clock_gettime(ClockId::Realtime).tv_sec.div_euclid(24 * 3600);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The date of a day counted from 1970-01-01: years begin in March, so that leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const FROM_YEAR_0_TO_1970: i64 = 719_468;
    let days = days + FROM_YEAR_0_TO_1970;
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(-1), (1969, 12, 31));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_779), (2026, 11, 22));
    }
}
