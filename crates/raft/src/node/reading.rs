//! How a leader answers reads: through rounds of heartbeats.

use bytes::Bytes;

use crate::effects::{Dropped, ReadReady, Reason};
use crate::message::Body;
use crate::node::core::Core;
use crate::node::leader::Leader;
use crate::number::{Index, NodeId};
use crate::quorum::reached_by_quorum;
use crate::reads::Read;

impl Leader {
    pub(crate) fn on_read(&mut self, core: &mut Core, read: Read) {
        if self.reads.is_full() {
            drop_read(core, read, Reason::Overloaded);
        } else if !core.has_committed_in_term() {
            self.reads.postpone(read);
        } else if core.is_alone() {
            answer(core, read, core.log.commit());
        } else {
            self.reads.ask(read, core.log.commit());
            self.announce(core);
        }
    }

    /// The term has its first commit: what was asked before can be asked now.
    pub(crate) fn ask_postponed(&mut self, core: &mut Core) {
        for read in self.reads.take_postponed() {
            self.on_read(core, read);
        }
    }

    /// Sends the rounds that no heartbeat has carried yet, if not too many are under way.
    fn announce(&mut self, core: &mut Core) {
        if self.reads.should_announce() {
            self.broadcast_heartbeat(core);
        }
    }

    pub(crate) fn heartbeat_context(&mut self) -> Bytes {
        match self.reads.round() {
            Some(round) => {
                self.reads.announce();
                Bytes::copy_from_slice(&round.to_be_bytes())
            }
            None => Bytes::new(),
        }
    }

    /// `from` still followed us when it heard of this round.
    pub(crate) fn on_round_confirmed(&mut self, core: &mut Core, from: NodeId, context: &[u8]) {
        let Ok(round) = context.try_into().map(u64::from_be_bytes) else { return };
        let newest = self.reads.newest();
        let Some(peer) = self.peer(from) else { return };
        if round > newest {
            return; // Never asked.
        }
        peer.read_round = peer.read_round.max(round);
        self.answer_confirmed(core);
    }

    pub(crate) fn answer_confirmed(&mut self, core: &mut Core) {
        let reached = |node| {
            if node == core.config.id {
                return self.reads.newest();
            }
            self.peers.iter().find(|peer| peer.node == node).map_or(0, |peer| peer.read_round)
        };
        let round = reached_by_quorum(&core.conf, reached);
        for (read, index) in self.reads.confirm(round) {
            answer(core, read, index);
        }
        self.announce(core);
    }
}

fn answer(core: &mut Core, read: Read, index: Index) {
    let context = read.context;
    if read.from == core.id() {
        core.out.reads.push(ReadReady { context, index });
    } else {
        core.send(read.from, Body::ReadIndexReply { context, index });
    }
}

pub(crate) fn drop_read(core: &mut Core, read: Read, reason: Reason) {
    if read.from == core.id() {
        core.out.dropped.push(Dropped::Read { context: read.context, reason });
    }
}
