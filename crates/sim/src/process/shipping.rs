//! Snapshots for members that are too far behind, and from others for this one.

use std::path::Path;
use std::sync::Arc;

use member::Event;
use member::roster;
use raft::{Body, Message, NodeId};

use super::{Alive, Death, Duty, Process, SNAPSHOT_DIR, Surroundings, snapshot_path};

impl Process {
    /// Makes a snapshot of what is applied, for member `to`.
    pub(super) fn gather(&mut self, to: NodeId, around: &mut Surroundings<'_>) -> Alive {
        let mut run = self.state.snapshot("3.7.0");
        let gathered = loop {
            if let Some(gathered) = self.state.snapshot_turn(&mut run) {
                break gathered;
            }
        };
        let snapshot = gathered.measure()?;
        let described = roster::described(&snapshot);
        self.outgoing.insert(to.get(), snapshot);
        self.tell(Event::SnapshotTaken { to, snapshot: described }, around);
        Ok(())
    }

    /// Sends the file that waits for raft's message along with it.
    pub(super) fn ship(&mut self, message: Message, around: &mut Surroundings<'_>) -> Alive {
        let to = message.to;
        let Some(snapshot) = self.outgoing.remove(&to.get()) else {
            self.tell(Event::SnapshotSent { node: to, ok: false }, around);
            return Ok(());
        };
        let mut file = Vec::new();
        let written = snapshot.file().write(&mut |bytes| {
            file.extend_from_slice(bytes);
            Ok(())
        });
        written.map_err(|error| Death(format!("{error:?}")))?;
        around.duties.push(Duty::Send { message, file: Some(Arc::new(file)) });
        Ok(())
    }

    /// A message from another member. The file of a snapshot is durable before raft hears of it; of
    /// one that is `cut` only a part came.
    ///
    /// The answer says whether a file came whole.
    pub(crate) fn receive(
        &mut self,
        message: Message,
        file: Option<&[u8]>,
        cut: bool,
        around: &mut Surroundings<'_>,
    ) -> Alive<bool> {
        if let Body::Snapshot(snapshot) = &message.body {
            let Some(bytes) = file else { return Ok(false) };
            let name = snapshot_path(snapshot.index.0);
            let partial = Path::new(SNAPSHOT_DIR).join("coming.tmp");
            let file = self.disk.create(&partial)?;
            let half = if cut { bytes.len() / 2 } else { bytes.len() };
            file.write_at(0, &bytes[..half])?;
            if cut {
                return Ok(false);
            }
            file.sync()?;
            self.disk.rename(&partial, &name)?;
            self.disk.sync_dir(Path::new(SNAPSHOT_DIR))?;
        }
        self.tell(Event::Receive(message), around);
        Ok(true)
    }
}
