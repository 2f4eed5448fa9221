//! Power lost at the worst moment: just after a member has said something.
//!
//! A crash at a random time seldom comes between a word and the disk. Here it waits for the word, and
//! spares the message that carries it.

use raft::{AppendReply, Body, Message};
use stdx::Generator;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It has voted for another.
    Vote,
    /// It asks for votes.
    Candidacy,
    /// It has acknowledged entries.
    Acknowledgement,
    /// It sends entries of its own.
    Append,
    /// It sends a snapshot.
    Snapshot,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambush {
    moment: Moment,
    /// Once more than so many of them have passed.
    passing: u64,
}

impl Ambush {
    pub(crate) fn plan(random: &mut Generator) -> Self {
        use Moment::{Acknowledgement, Append, Candidacy, Snapshot, Vote};
        let moment = *random.pick(&[Vote, Vote, Candidacy, Acknowledgement, Append, Snapshot]);
        Self { moment, passing: random.below(3) }
    }

    pub(crate) fn of_vote() -> Self {
        Self { moment: Moment::Vote, passing: 0 }
    }

    pub(crate) fn moment(&self) -> Moment {
        self.moment
    }

    /// Whether the moment has come, now that the member says this.
    pub(crate) fn strikes(&mut self, message: &Message) -> bool {
        let meets = match &message.body {
            Body::VoteReply { pre: false, granted: true, .. } => self.moment == Moment::Vote,
            Body::Vote { pre: false, .. } => self.moment == Moment::Candidacy,
            Body::AppendReply(AppendReply::Accepted { .. }) => {
                self.moment == Moment::Acknowledgement
            }
            Body::Append { entries, .. } => !entries.is_empty() && self.moment == Moment::Append,
            Body::Snapshot(_) => self.moment == Moment::Snapshot,
            Body::AppendReply(AppendReply::Rejected { .. })
            | Body::Vote { pre: true, .. }
            | Body::VoteReply { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow
            | Body::TransferLeader
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::Propose { .. } => false,
        };
        let strikes = meets && self.passing == 0;
        self.passing -= u64::from(meets && !strikes);
        strikes
    }
}
