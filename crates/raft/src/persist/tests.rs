//! Hand-outs against a disk that does one after the other.

use stdx::each_seed;

use super::*;

/// What is attested is on the disk, and no write still under way takes it back.
#[test]
fn an_attested_entry_is_on_disk_for_good() {
    each_seed(|g| {
        let mut persist = Persist::default();
        let (mut log, mut disk): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut writes: VecDeque<(PersistId, usize, Vec<u64>)> = VecDeque::new();
        let mut attested = 0;
        for _ in 0..80 {
            if g.chance(60) {
                // Two terms only, so that what was cut often comes back.
                let from = g.int(attested..=log.len());
                if from < log.len() {
                    persist.cut(Index(from as u64 + 1));
                }
                log.truncate(from);
                let news: Vec<u64> = g.vec(1..4, |g| g.below(2));
                log.extend(&news);
                let id = persist.hand_out(None, Index(log.len() as u64));
                writes.push_back((id, from, news));
                continue;
            }
            let Some((id, from, news)) = writes.pop_front() else { continue };
            disk.truncate(from);
            disk.extend(news);
            if let Some(last) = persist.on_persisted(id) {
                attested = attested.max(last.0 as usize);
            }
            let mut after = disk.clone();
            for (_, from, news) in &writes {
                assert_eq!(after[..attested], log[..attested]);
                after.truncate(*from);
                after.extend(news);
            }
            assert_eq!(after, log);
        }
        // Acknowledged to the end, all of it is attested: nothing is forgotten.
        if let Some((id, ..)) = writes.back() {
            assert_eq!(persist.on_persisted(*id), Some(Index(log.len() as u64)));
        }
    });
}

#[test]
fn what_rests_on_a_write_waits_for_it_and_goes_in_order() {
    let mut persist = Persist::default();
    let term = |what: Option<Withheld>| match what {
        Some(Withheld::OwnVote(term)) => Some(term.0),
        Some(Withheld::Send(_)) | None => None,
    };
    persist.withhold(Withheld::OwnVote(Term(1)));
    assert_eq!(term(persist.release()), Some(1), "nothing is under way");
    let first = persist.hand_out(None, Index(1));
    persist.withhold(Withheld::OwnVote(Term(2)));
    let second = persist.hand_out(None, Index(2));
    persist.withhold(Withheld::OwnVote(Term(3)));
    assert_eq!(term(persist.release()), None);
    persist.on_persisted(first);
    assert_eq!(term(persist.release()), Some(2));
    assert_eq!(term(persist.release()), None);
    persist.on_persisted(second);
    assert_eq!(term(persist.release()), Some(3));
}

#[test]
fn hand_outs_that_the_caller_has_not_acted_on_are_one() {
    let mut persist = Persist::default();
    let open = persist.hand_out(None, Index(1));
    assert_eq!(persist.hand_out(Some(open), Index(2)), open);
    assert_eq!(persist.on_persisted(open), Some(Index(2)));
}

#[test]
fn an_overflow_of_hand_outs_releases_nothing_early() {
    let mut persist = Persist::default();
    persist.hand_out(None, Index(1));
    persist.withhold(Withheld::OwnVote(Term(1)));
    for index in 0..IN_FLIGHT_MAX as u64 + 5 {
        persist.hand_out(None, Index(index + 2));
    }
    assert!(persist.in_flight.len() <= IN_FLIGHT_MAX);
    assert!(persist.release().is_none());
}
