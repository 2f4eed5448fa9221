//! Snapshots that came from other members: put in place of the state while the member runs.
//!
//! The file is whole and durable, and the log knows of it: whatever happens from here on, the next
//! start can do the same again (see `boot`).

use std::sync::PoisonError;

use state::restore::{self, RestoreError};
use state::watch::ShardId;

use super::pace::Pacer;
use crate::api::port::PortWork;
use crate::engine::Engine;

/// Replaces the state by the snapshot up to entry `index`.
pub(super) fn install(engine: &Engine, index: u64) -> Result<(), RestoreError> {
    // The keeper must not work on a store that is being replaced.
    let _turn = engine.store_turn.lock().unwrap_or_else(PoisonError::into_inner);
    let home = &engine.home;
    let file = home.snapshot(index);
    // Other processes may share the disk, and wait for it.
    let mut pacer = Pacer::new(engine);
    let restored = restore::build(&home.disk, &file, &home.member_dir, home.state, &mut pacer)?;
    let shards = (0..engine.ports.len()).map(|port| ShardId(port as u16));
    let lost = engine.state_mut().replace_by(restored, shards);
    for (ShardId(port), sequence, revision) in lost {
        let work = PortWork::WatchLost { sequence, revision };
        engine.ports[usize::from(port)].push_admitted([work]);
    }
    restore::remove_older(&*home.disk, &home.member_dir)?;
    home.remove_snapshots(index, &mut pacer).map_err(RestoreError::from)
}
