//! Changes of membership take effect when they are applied, here as in the state machine.
//!
//! # Invariants
//!
//! - Each conf change handed out is answered, in order, before what follows it counts as applied.
//! - A change older than the snapshot the configuration came with is history.
//! - A leader that no longer votes looks for another: `Leader::retire`.

use crate::effects::Dropped;
use crate::membership::ConfChange;
use crate::node::{Node, Role};
use crate::number::Index;

impl Node {
    pub(super) fn conf_change_applied(&mut self, index: Index, change: Option<ConfChange>) {
        if index <= self.core.conf_index {
            return;
        }
        assert_eq!(self.unanswered.pop_front(), Some(index), "conf changes are answered in order");
        self.core.conf_index = index;
        let Some(change) = change else { return };
        match self.core.conf.after(&change) {
            Ok(conf) => {
                self.core.conf = conf;
                self.on_conf_changed();
            }
            // Every member finds the same, so leaving things as they are keeps them in step.
            Err(reason) => self.core.out.dropped.push(Dropped::Unfit { index, reason }),
        }
    }

    fn on_conf_changed(&mut self) {
        let core = &mut self.core;
        match &mut self.role {
            Role::Leader(leader) => {
                leader.follow_conf(core);
                if leader.heir.is_some_and(|heir| !core.conf.is_voter(heir)) {
                    leader.heir = None;
                }
                leader.on_quorum_moved(core);
                leader.feed(core);
                leader.answer_confirmed(core);
                leader.retire(core);
            }
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {}
        }
    }
}
