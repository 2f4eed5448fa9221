//! Where choices come from: a stream of its own for whatever makes them.
//!
//! All streams follow from the seed, and none from another. So when something is left out of a run, what
//! is left makes the choices that it made before, as long as it is asked for the same.

use stdx::Generator;

/// Who chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// How many members and clients there are, and for how long.
    Setup,
    /// A machine.
    Host(usize),
    /// A process of a machine.
    Life(usize, u64),
    /// What the disk of a machine does in a crash.
    Disk(usize),
    /// The messages from one machine to another.
    Link(usize, usize),
    /// A request of a client.
    Request(usize, u64),
    /// The time a client takes after a request.
    Pause(usize, u64),
    /// An act of the nemesis.
    Act(u64),
    /// What a client with a watch stream does.
    Watcher(usize, u64),
    /// What a client with a lease does.
    Holder(usize, u64),
}

impl Stream {
    pub(crate) fn of(self, seed: u64) -> Generator {
        let (kind, a, b) = match self {
            Self::Setup => (1, 0, 0),
            Self::Host(host) => (2, host as u64, 0),
            Self::Life(host, life) => (3, host as u64, life),
            Self::Disk(host) => (4, host as u64, 0),
            Self::Link(from, to) => (5, from as u64, to as u64),
            Self::Request(client, n) => (6, client as u64, n),
            Self::Act(number) => (7, number, 0),
            Self::Pause(client, n) => (8, client as u64, n),
            Self::Watcher(watcher, n) => (9, watcher as u64, n),
            Self::Holder(holder, n) => (10, holder as u64, n),
        };
        let mix = |seed, n| Generator::new(Generator::new(seed).number() ^ n).number();
        Generator::new([kind, a, b].into_iter().fold(seed, mix))
    }
}

/// One of `0..n`: the same however many there are, unless it is not there.
pub(crate) fn pick_of(n: usize, most: usize, random: &mut Generator) -> usize {
    let mut order: Vec<usize> = (0..most).collect();
    random.shuffle(&mut order);
    order.into_iter().find(|one| *one < n).expect("there is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_each_is_its_seeds_alone() {
        let first = |seed, stream: Stream| stream.of(seed).number();
        let (one, other) = (Stream::Link(0, 1), Stream::Link(1, 0));
        assert_eq!(first(7, one), first(7, one));
        assert_ne!(first(7, one), first(7, other));
        assert_ne!(first(7, one), first(8, one));
    }

    #[test]
    fn a_choice_holds_when_others_are_no_more() {
        for seed in 0..100 {
            let chosen = |n| pick_of(n, 9, &mut Generator::new(seed));
            let (three, five) = (chosen(3), chosen(5));
            assert!(three == five || five >= 3, "{three} of three, {five} of five");
        }
    }
}
