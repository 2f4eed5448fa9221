//! Senders we do not know yet: they say where they are, and are answered there.
//!
//! A member that was away while others joined may be led by one of them. It learns of that one from the
//! log, but would never get the log if the leader's appends went unanswered.
//!
//! # Invariants
//!
//! - A stranger is posted to and nothing else; once it is a member here, it is a stranger no more.
//! - There are few of them at a time. Whoever was removed is none.   (checked by the caller)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::HeaderMap;

use super::remote::Remote;
use super::{Known, Shared, head, post};
use crate::config::Url;

/// Strangers at a time: more than join while one member is away.
const STRANGERS_MAX: usize = 16;
/// URLs of one stranger.
const URLS_MAX: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Strangers(Mutex<BTreeMap<u64, Known>>);

impl Strangers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        // No step under the lock can stop halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Remote>> {
        self.lock().get(&id).map(|known| Arc::clone(&known.remote))
    }

    /// The stranger is a member now.
    pub(super) fn forget(&self, id: u64) {
        if let Some(known) = self.lock().remove(&id) {
            known.tasks.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

/// Remembers who sends a request, if nobody here knows it. Runs where the transport runs.
pub(super) fn learn(shared: &Arc<Shared>, headers: &HeaderMap) {
    let Some(id) = head::id(headers, &head::SERVER_FROM) else { return };
    if id == shared.config.member_id || shared.remote(id).is_some() {
        return;
    }
    let urls = urls(headers);
    if urls.is_empty() {
        return;
    }
    let mut strangers = shared.strangers.lock();
    if let Some(known) = strangers.get(&id) {
        known.remote.set_urls(urls);
        return;
    }
    if id == 0 || strangers.len() >= STRANGERS_MAX {
        return;
    }
    let remote = Arc::new(Remote::new(id, urls, shared.host.numbers(id)));
    let work = |_| {
        let work = post::work(Arc::clone(shared), Arc::clone(&remote));
        tokio::spawn(work).abort_handle()
    };
    let tasks = (0..post::WORKERS).map(work).collect();
    strangers.insert(id, Known { remote, tasks });
}

fn urls(headers: &HeaderMap) -> Vec<String> {
    let said = head::text(headers, &head::PEER_URLS).unwrap_or_default();
    said.split(',')
        .filter(|url| Url::parse(url).is_ok())
        .take(URLS_MAX)
        .map(str::to_owned)
        .collect()
}
