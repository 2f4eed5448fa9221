//! A measurement: warm up, look at the clocks, let the load run, look again.
//!
//! ```text
//!  prompt      clear            end of the window      drained
//!    ├──────────┼═══════════════════┼───────────────────┤
//!     warm-up    counted             what is under way is awaited, not counted
//! ```

use std::time::Duration;

use crate::failure::Failure;
use crate::fleet::{Fleet, Load};
use crate::histogram::Histogram;
use crate::machine::{Cores, own_cpu};
use crate::process::Server;
use crate::usage::{self, Cpu, Memory};

/// The share of a window that precedes it, uncounted.
const WARM_UP: f64 = 0.2;

/// The longest that what is under way at the end may take.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// The longest that getting a load ready may take.
pub(crate) const SETUP_MAX: Duration = Duration::from_secs(30);

/// The longest that anything done for its own sake (filling, compacting) may take.
const ERRAND_MAX: Duration = Duration::from_secs(600);

/// The longest a loop waits before it looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A load that can be measured.
pub(crate) trait Measured: Load {
    /// How long each answer took, since this was last cleared.
    fn latency(&mut self) -> &mut Histogram;

    /// Does what is due by now; says how long nothing further will be.
    fn pace(&mut self, now: u64) -> Pace;

    /// Asks nothing more from now on.
    fn stop(&mut self);

    fn is_idle(&self) -> bool;
}

/// What a load wants of the loop that drives it.
pub(crate) enum Pace {
    /// Only answers bring about more.
    Answers,
    /// The connection at this place has something to ask, though nothing came on it.
    Ask(usize),
    /// Something is due: let it ask, and come back after so long at the latest.
    Due(Duration),
}

/// One load on one server, once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    pub(crate) memory: Memory,
    /// What others took of the core they took more of, as a share: noise.
    pub(crate) others: f64,
}

/// For how long, and where.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) window: Duration,
    pub(crate) cores: Cores,
}

/// The CPU clocks at one moment.
struct Clocks {
    server: Cpu,
    client: Duration,
    /// How long each core has been busy, with whatever.
    busy: [Option<Duration>; 2],
}

/// What was used between two moments.
struct Spent {
    server: Duration,
    client: Duration,
    others: Duration,
}

impl Clocks {
    fn read(server: &Server, cores: Cores) -> Self {
        let busy = [cores.server, cores.client].map(|core| core.map(usage::busy));
        Self { server: server.cpu(), client: own_cpu(), busy }
    }

    fn since(&self, then: &Self) -> Spent {
        let server = self.server.since(then.server);
        let client = self.client.saturating_sub(then.client);
        let others = |n: usize, ours| {
            let (now, then) = (self.busy[n]?, then.busy[n]?);
            Some(now.saturating_sub(then).saturating_sub(ours))
        };
        let others = others(0, server).max(others(1, client)).unwrap_or_default();
        Spent { server, client, others }
    }
}

/// Runs the load for so long, on a server at rest.
pub(crate) fn measure(
    server: &mut Server,
    fleet: &mut Fleet,
    load: &mut impl Measured,
    Setting { window, cores }: Setting,
) -> Result<Sample, Failure> {
    fleet.prompt_all(load)?;
    drive_for(fleet, load, window.mul_f64(WARM_UP))?;

    load.latency().clear();
    let (before, start) = (Clocks::read(server, cores), fleet.clock.now());
    drive_for(fleet, load, window)?;
    let took = Duration::from_nanos(fleet.clock.now() - start);
    let spent = Clocks::read(server, cores).since(&before);
    server.check_alive()?;

    let latency = load.latency();
    let n = latency.count();
    let at = |share| Duration::from_nanos(latency.quantile(share));
    let each = |time: Duration| time.checked_div(n as u32).unwrap_or_default();
    let sample = Sample {
        per_second: n as f64 / took.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        server_cpu: each(spent.server),
        client_cpu: each(spent.client),
        memory: server.memory(),
        others: spent.others.as_secs_f64() / took.as_secs_f64(),
    };
    load.stop();
    drain(fleet, load, DRAIN_MAX)?;
    Ok(sample)
}

/// Runs the load until it has nothing more to ask.
pub(crate) fn finish(fleet: &mut Fleet, load: &mut impl Measured) -> Result<(), Failure> {
    fleet.prompt_all(load)?;
    drain(fleet, load, ERRAND_MAX)
}

pub(crate) fn drain(
    fleet: &mut Fleet,
    load: &mut impl Measured,
    patience: Duration,
) -> Result<(), Failure> {
    let end = fleet.clock.now() + patience.as_nanos() as u64;
    while !load.is_idle() {
        if fleet.clock.now() > end {
            return Err(Failure::TooLate { doing: "waiting for the last answers" });
        }
        fleet.turn(LOOK_EVERY, load)?;
    }
    Ok(())
}

/// Lets the load run for so long.
pub(crate) fn drive_for(
    fleet: &mut Fleet,
    load: &mut impl Measured,
    window: Duration,
) -> Result<(), Failure> {
    let end = fleet.clock.now() + window.as_nanos() as u64;
    loop {
        let now = fleet.clock.now();
        let left = Duration::from_nanos(end.saturating_sub(now));
        if left.is_zero() {
            return Ok(());
        }
        let wait = match load.pace(now) {
            Pace::Answers => LOOK_EVERY,
            Pace::Ask(at) => {
                fleet.prompt(at, load)?;
                LOOK_EVERY
            }
            Pace::Due(wait) => {
                fleet.prompt_all(load)?;
                wait
            }
        };
        fleet.turn(wait.min(left).min(LOOK_EVERY), load)?;
    }
}
