//! What tests of the executable share.

pub(crate) mod client;
pub(crate) mod process;

use std::fmt::Debug;
use std::io::{Write, stderr};
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

/// Tells how long `what` took. How long it may take says nothing of a machine that is busy, or slow: so
/// whoever knows that it is neither asks, with `RETCD_LATENCIES=1`, that it took no more than `max`.
pub(crate) fn prompt(what: &str, took: Duration, max: Duration) {
    // Said past the harness, for whoever measures.
    let _ = writeln!(stderr(), "{what}: {took:.1?}, wanted {max:?}");
    if env::var_os("RETCD_LATENCIES").is_some() {
        assert!(took < max, "{what}: {took:?}, wanted {max:?}");
    }
}

/// Runs an asynchronous test on this thread.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
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
