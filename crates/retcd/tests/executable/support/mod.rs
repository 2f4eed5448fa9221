//! What tests of the executable share.

pub(crate) mod client;
pub(crate) mod process;

use std::fmt::Debug;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process as this};

/// How long anything may take that should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until `look` sees something; fails, naming `what`, when patience is at its end.
pub(crate) async fn eventually<T>(what: impl Debug, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs an asynchronous test on this thread.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

/// Ports below those the system gives to outgoing connections: a client that tries again and again
/// to connect to one of those may meet itself.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

/// A port nobody listens at. No two calls of one process get the same.
pub(crate) fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let n_ports = PORTS.end - PORTS.start;
    for _ in 0..n_ports {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (this::id().wrapping_mul(41).wrapping_add(call)) % n_ports;
        let port = u16::try_from(port).expect("a range of ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("all ports are taken");
}

/// The first of `n` ports in a row nobody listens at.
pub(crate) fn free_ports(n: u16) -> u16 {
    loop {
        let first = free_port();
        if (1..n).all(|next| TcpListener::bind(("127.0.0.1", first + next)).is_ok()) {
            return first;
        }
    }
}

/// A folder that goes when the test has passed, and stays for whoever looks into why it has not.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("retcd-{name}-{}-{call}", this::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(fs::remove_dir_all(&self.0));
        }
    }
}
