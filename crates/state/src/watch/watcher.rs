//! One watcher of a stream: what it wants, and how far it is.

use proto::etcdserverpb::WatchCreateRequest;
use proto::etcdserverpb::watch_create_request::FilterType;

use super::Token;
use super::hub::Event;
use crate::mvcc::history::{Catchup, Kind};
use crate::mvcc::index::Span;

pub(super) struct Watcher {
    pub(super) span: Span,
    pub(super) mode: Mode,
    /// No progress is reported below this: the revision it was created for, perhaps in the future.
    pub(super) start: i64,
    /// The first revision it has not been sent, for all that is known.
    pub(super) next: i64,
    pub(super) previous: bool,
    pub(super) fragment: bool,
    pub(super) progress: Progress,
    no_put: bool,
    no_delete: bool,
}

pub(super) enum Mode {
    /// The hub delivers what follows.
    Synced(Token),
    /// It reads history.
    Behind(Box<Catchup>),
}

/// Whether a watcher is told, from time to time, how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Never,
    /// Events were sent since the last tick: they told it.
    Told,
    Due,
}

impl Watcher {
    /// `start`: 0 for the next revision after `head`.
    pub(super) fn new(create: &WatchCreateRequest, span: Span, head: i64) -> Self {
        let filters = |filter: FilterType| create.filters.contains(&(filter as i32));
        let next = if create.start_revision == 0 { head + 1 } else { create.start_revision };
        Self {
            span,
            mode: Mode::Behind(Box::new(Catchup::new(next))),
            start: create.start_revision,
            next,
            previous: create.prev_kv,
            fragment: create.fragment,
            progress: if create.progress_notify { Progress::Due } else { Progress::Never },
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
        }
    }

    pub(super) fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Create | Kind::Update => !self.no_put,
            Kind::Delete => !self.no_delete,
        }
    }

    /// An event in the form this watcher wants.
    pub(super) fn form<'a>(&self, event: &'a Event) -> &'a [u8] {
        let form = if self.previous { &event.with_previous } else { &event.plain };
        form.as_ref().expect("the hub encodes what its members want")
    }
}
