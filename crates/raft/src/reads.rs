//! Linearizable reads without the log: a leader that a majority still follows, after the question
//! was asked, knows what was committed when it was asked.
//!
//! ```text
//! asked  7  8         9  10            question 10 is the 4th of this term: its round is 4
//! round  1  2         3  4
//!        └──┘ heartbeat(2)  └──┘ heartbeat(4)     an answer to round 4 confirms 1 … 4
//! ```
//!
//! The round, not the asker's context, goes around with the heartbeats: contexts of several members
//! may be equal, and one that is used again could be confirmed by answers to its first use.
//!
//! # Invariants
//!
//! - Rounds grow for as long as this leader leads; a new term starts with an empty queue.
//! - Nothing is asked before the leader's own term has committed something: until then it does not
//!   know what its predecessors had committed.
//! - At most `READS_MAX` questions wait; more are refused.

use std::collections::VecDeque;

use crate::number::{Context, Index, NodeId};

/// How many questions may wait for their answer.
pub(crate) const READS_MAX: usize = 65_536;

/// How many rounds are under way before the next questions wait for one of them to end.
const ROUNDS_MAX: usize = 8;

/// A question, and who asked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) from: NodeId,
    pub(crate) context: Context,
}

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Asked before this term had committed anything.
    postponed: VecDeque<Read>,
    /// Asked; the index is what was committed then.
    waiting: VecDeque<(Read, Index)>,
    /// The round of the last question that was answered.
    confirmed: u64,
    /// The rounds that heartbeats have carried, and nobody has ended yet.
    announced: VecDeque<u64>,
}

impl Reads {
    pub(crate) fn is_full(&self) -> bool {
        self.postponed.len() + self.waiting.len() >= READS_MAX
    }

    pub(crate) fn postpone(&mut self, read: Read) {
        self.postponed.push_back(read);
    }

    pub(crate) fn take_postponed(&mut self) -> VecDeque<Read> {
        std::mem::take(&mut self.postponed)
    }

    pub(crate) fn ask(&mut self, read: Read, commit: Index) {
        self.waiting.push_back((read, commit));
    }

    /// The round of the newest question; `None` if none waits.
    pub(crate) fn round(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then(|| self.newest())
    }

    pub(crate) fn newest(&self) -> u64 {
        self.confirmed + self.waiting.len() as u64
    }

    /// Whether a heartbeat should go out now for the questions that none has carried yet.
    pub(crate) fn should_announce(&self) -> bool {
        let carried = self.announced.back().copied().unwrap_or(self.confirmed);
        self.newest() > carried && self.announced.len() < ROUNDS_MAX
    }

    /// A heartbeat carries the newest round.
    pub(crate) fn announce(&mut self) {
        let newest = self.newest();
        if self.announced.back() == Some(&newest) {
            return;
        }
        if self.announced.len() >= ROUNDS_MAX {
            self.announced.pop_back();
        }
        self.announced.push_back(newest);
    }

    /// A quorum has confirmed `round`: yields the questions that this answers.
    pub(crate) fn confirm(&mut self, round: u64) -> impl Iterator<Item = (Read, Index)> + '_ {
        let round = round.min(self.newest());
        let n = round.saturating_sub(self.confirmed);
        self.confirmed += n;
        while self.announced.front().is_some_and(|&announced| announced <= self.confirmed) {
            self.announced.pop_front();
        }
        self.waiting.drain(..n as usize)
    }

    /// Whoever led leads no more: all questions that were never answered.
    pub(crate) fn into_unanswered(self) -> impl Iterator<Item = Read> {
        self.postponed.into_iter().chain(self.waiting.into_iter().map(|(read, _)| read))
    }
}

#[cfg(test)]
mod tests {
    use stdx::each_seed;

    use super::*;

    /// The model numbers the questions; a round answers all that were asked up to it.
    #[test]
    fn a_round_answers_exactly_the_questions_asked_before_it() {
        each_seed(|g| {
            let from = NodeId::new(1).expect("not 0");
            let mut reads = Reads::default();
            let (mut asked, mut answered) = (0, 0);
            for _ in 0..100 {
                match g.below(3) {
                    0 => {
                        asked += 1;
                        reads.ask(Read { from, context: Context(asked) }, Index(asked));
                    }
                    1 if reads.should_announce() => {
                        reads.announce();
                        assert!(reads.announced.len() <= ROUNDS_MAX);
                    }
                    1 => {}
                    _ => {
                        let round = g.below(asked + 3);
                        for (read, _) in reads.confirm(round) {
                            answered += 1;
                            assert_eq!(read.context, Context(answered), "in order, none twice");
                            assert!(answered <= round, "asked after the round");
                        }
                        assert!(answered >= round.min(asked), "one was left out");
                    }
                }
                assert_eq!(reads.newest(), asked);
            }
        });
    }
}
