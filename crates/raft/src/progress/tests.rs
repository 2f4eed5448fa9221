//! One follower's progress under every reply that may come, in any order.

use stdx::each_seed;

use super::*;

fn progress(next: u64, n_max: usize) -> Progress {
    let node = NodeId::new(2).expect("not 0");
    Progress::new(node, Index(next), n_max, u64::MAX)
}

#[test]
fn whatever_comes_it_never_forgets_a_match_nor_overfills_its_window() {
    each_seed(|g| {
        let last = 30;
        let mut peer = progress(g.below(last) + 1, g.int(1..=4));
        for _ in 0..100 {
            let before = peer.matched;
            match g.below(8) {
                0..3 if peer.may_send() => {
                    let room = if peer.may_send_entries() {
                        (last + 1).saturating_sub(peer.next.0)
                    } else {
                        0
                    };
                    let n = g.below(3).min(room);
                    peer.on_sent(n, n, Index(g.below(last)));
                }
                0..3 => peer.paused = false,
                3 => {
                    let index = Index(g.below(last + 1));
                    if peer.on_accepted(index) {
                        peer.free_window(index);
                    }
                }
                4 => drop(peer.on_rejected(Index(g.below(last)), Index(g.below(last)))),
                5 => peer.become_probe(),
                6 => peer.become_replicate(),
                _ => peer.become_snapshot(peer.matched.next()),
            }
            peer.assert_invariants();
            assert!(peer.matched >= before);
        }
    });
}

#[test]
fn a_probe_falls_back_to_the_hint_and_never_behind_the_match() {
    let mut peer = progress(10, 4);
    assert!(!peer.on_rejected(Index(5), Index(2)), "an answer to an older question");
    assert!(peer.on_rejected(Index(9), Index(4)));
    assert_eq!(peer.next, Index(5));
    peer.on_accepted(Index(4));
    assert!(peer.on_rejected(Index(4), Index(1)));
    assert_eq!(peer.next, Index(5));
}

#[test]
fn a_snapshot_is_followed_from_its_end_or_given_up() {
    let mut peer = progress(10, 4);
    peer.become_snapshot(Index(20));
    assert!(!peer.may_send() && !peer.on_rejected(Index(20), Index(3)));
    peer.become_probe();
    assert_eq!(peer.next, Index(21));
    peer.become_snapshot(Index(20));
    peer.give_up_snapshot();
    assert_eq!(peer.next, Index(1));
}

#[test]
fn bytes_fill_a_window_too() {
    let mut window = Window { sent: VecDeque::new(), bytes: 0, n_max: 9, bytes_max: 100 };
    window.add(Index(1), 60);
    assert!(!window.is_full());
    window.add(Index(2), 60);
    assert!(window.is_full());
    window.free(Index(1));
    assert_eq!((window.is_full(), window.bytes), (false, 60));
}
