//! What the system says of this process: `process_*` and `os_*`.
//!
//! Read from `/proc` at each scrape. What it doesn't say is not shown.

use std::fs;

use super::text::{Kind, Samples};

/// Ticks of the clock in which Linux tells processes their times: 100 a second, everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/self/stat`, counted from the one behind the command's name.
const STAT_UTIME: usize = 11;
const STAT_STIME: usize = 12;
const STAT_START: usize = 19;
const STAT_VSIZE: usize = 20;

/// A value found, the name it goes by, and whether it only grows.
type Found = (&'static str, Kind, &'static str, Option<f64>);

pub(super) fn render(text: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let traffic = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
    let fds = open_fds();
    let fds_max = limit(&limits, "Max open files");
    let cpu = Some(STAT_UTIME).zip(Some(STAT_STIME));
    let cpu = cpu.and_then(|(user, system)| Some(field(&stat, user)? + field(&stat, system)?));
    let found: [Found; 11] = [
        ("os_fd_limit", Kind::Gauge, "File descriptors the process may have.", fds_max),
        ("os_fd_used", Kind::Gauge, "File descriptors the process has.", fds),
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "Time the process has computed, in seconds.",
            cpu.map(|ticks| ticks / TICKS_PER_SECOND),
        ),
        ("process_max_fds", Kind::Gauge, "File descriptors the process may have.", fds_max),
        (
            "process_network_receive_bytes_total",
            Kind::Counter,
            "Bytes that came in over the network, for all processes of this namespace.",
            ip_bytes(&traffic, "InOctets"),
        ),
        (
            "process_network_transmit_bytes_total",
            Kind::Counter,
            "Bytes that went out over the network, for all processes of this namespace.",
            ip_bytes(&traffic, "OutOctets"),
        ),
        ("process_open_fds", Kind::Gauge, "File descriptors the process has.", fds),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory of the process that is in RAM.",
            resident_bytes(),
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process began, in seconds since 1970.",
            start_time(&stat),
        ),
        (
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Addresses the process has mapped.",
            field(&stat, STAT_VSIZE),
        ),
        (
            "process_virtual_memory_max_bytes",
            Kind::Gauge,
            "Addresses the process may map.",
            limit(&limits, "Max address space"),
        ),
    ];
    for (name, kind, help, value) in found {
        if let Some(value) = value {
            Samples::new(text, name, kind, help).number(&[], value);
        }
    }
}

/// A field of `/proc/self/stat`. The command's name may hold anything, so it is skipped by its end.
fn field(stat: &str, at: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(at)?.trim().parse().ok()
}

/// The soft limit of this name; Go shows none as the largest number there is.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// How many file descriptors the process may have.
pub fn fd_limit() -> Option<f64> {
    limit(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

fn open_fds() -> Option<f64> {
    let n = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(n.saturating_sub(1) as f64) // One of them is the folder itself, while it is read.
}

/// Bytes of the process that are in RAM.
pub fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn start_time(stat: &str) -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(booted + field(stat, STAT_START)? / TICKS_PER_SECOND)
}

/// A number of the `IpExt` pair of lines: names above, values below.
fn ip_bytes(traffic: &str, name: &str) -> Option<f64> {
    let mut lines = traffic.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    values.split(' ').nth(at)?.parse().ok()
}
