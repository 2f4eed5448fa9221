//! The network: loses, repeats, delays, reorders and cuts.
//!
//! Each message has a delay of its own, so messages overtake each other, as they do between etcd's two
//! streams. A cut is a direction between two machines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use raft::Message;
use stdx::Generator;

/// A message on its way.
pub(crate) struct Parcel {
    pub(crate) from: usize,
    pub(crate) from_life: u64,
    pub(crate) to: usize,
    pub(crate) message: Message,
    /// The file that comes with a snapshot's message, and whether it breaks off halfway.
    pub(crate) file: Option<Arc<Vec<u8>>>,
    pub(crate) cut: bool,
}

/// How the network is at the moment; by default it is in order.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) cuts: BTreeSet<(usize, usize)>,
    /// What is sent this way takes so much longer.
    pub(crate) late: BTreeMap<(usize, usize), u64>,
    pub(crate) loss_percent: u64,
    pub(crate) repeat_percent: u64,
    /// The longest delay, in microseconds.
    pub(crate) delay_max: u64,
}

const DELAY_MIN: u64 = 100;
const DELAY_USUAL: u64 = 2_000;

impl Default for Network {
    fn default() -> Self {
        Self {
            cuts: BTreeSet::new(),
            late: BTreeMap::new(),
            loss_percent: 0,
            repeat_percent: 0,
            delay_max: DELAY_USUAL,
        }
    }
}

impl Network {
    /// After how long a message arrives: never, once, or twice.
    pub(crate) fn fate(
        &self,
        from: usize,
        to: usize,
        may_repeat: bool,
        random: &mut Generator,
    ) -> Vec<u64> {
        if self.cuts.contains(&(from, to)) || random.chance(self.loss_percent) {
            return Vec::new();
        }
        let n = if may_repeat && random.chance(self.repeat_percent) { 2 } else { 1 };
        let delay_min = DELAY_MIN + self.late.get(&(from, to)).copied().unwrap_or_default();
        (0..n).map(|_| delay_min + random.below(self.delay_max)).collect()
    }
}
