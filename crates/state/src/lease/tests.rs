use stdx::each_seed;

use super::*;

fn leases() -> Leases {
    Leases::new(Config {
        ttl_min: 2,
        checkpoint: true,
        checkpoint_persist: false,
        checkpoint_interval_ms: CHECKPOINT_INTERVAL_MS,
    })
}

#[test]
fn a_renewed_lease_expires_at_its_new_deadline_only() {
    let mut table = leases();
    table.promote(1, 0, 0);
    table.grant(LeaseId(1), 10).unwrap();
    assert_eq!(table.renew(LeaseId(1), 9_000), Renewal::Renewed { ttl: 10 });
    assert_eq!(table.expired(10_000, 500), []);
    assert_eq!(table.expired(18_999, 500), []);
    assert_eq!(table.expired(19_000, 500), [LeaseId(1)]);
    assert_eq!(table.renew(LeaseId(1), 19_000), Renewal::Expired);
}

#[test]
fn an_expired_lease_is_reported_again_if_it_is_still_there() {
    let mut table = leases();
    table.promote(1, 0, 0);
    table.grant(LeaseId(1), 10).unwrap();
    assert_eq!(table.expired(10_000, 500), [LeaseId(1)]);
    assert_eq!(table.expired(12_999, 500), []);
    assert_eq!(table.expired(13_000, 500), [LeaseId(1)]);
    table.remove(LeaseId(1));
    assert_eq!(table.expired(100_000, 500), []);
}

#[test]
fn only_the_primary_counts_time() {
    let mut table = leases();
    table.grant(LeaseId(1), 10).unwrap();
    assert_eq!(table.renew(LeaseId(1), 0), Renewal::NotPrimary);
    assert_eq!(table.time_to_live(LeaseId(1), 0), Err(Error::LeaderChanged));
    table.promote(1, 1_000_000, 1_000);
    let left = table.time_to_live(LeaseId(1), 1_000_000).unwrap().unwrap();
    assert_eq!((left.ttl, left.granted), (11, 10));
    table.demote();
    assert_eq!(table.expired(u64::MAX - RETRY_MS, 500), []);
}

#[test]
fn a_checkpointed_lease_goes_on_with_what_was_left() {
    let mut table = leases();
    table.promote(1, 0, 0);
    table.grant(LeaseId(1), 1_000).unwrap();
    assert_eq!(table.due_checkpoints(299_999, 10), []);
    assert_eq!(table.due_checkpoints(300_000, 10), [(LeaseId(1), 700)]);
    table.checkpoint(LeaseId(1), 700).unwrap();
    assert_eq!(table.renew(LeaseId(1), 300_000), Renewal::CheckpointFirst);
    table.demote();
    table.promote(1, 500_000, 0);
    assert_eq!(table.time_to_live(LeaseId(1), 500_000).unwrap().unwrap().ttl, 700);
    table.checkpoint(LeaseId(1), 0).unwrap();
    assert_eq!(table.renew(LeaseId(1), 500_000), Renewal::Renewed { ttl: 1_000 });
}

#[test]
fn a_new_leader_spreads_leases_that_would_expire_together() {
    let mut table = leases();
    for id in 1..=3_000 {
        table.grant(LeaseId(id), 10).unwrap();
    }
    table.promote(1, 0, 0);
    let mut total = 0;
    for second in 1..=14 {
        let mut of_this_second = 0;
        loop {
            let expired = table.expired(second * 1_000, 500);
            if expired.is_empty() {
                break;
            }
            of_this_second += expired.len();
            expired.into_iter().for_each(|id| table.remove(id));
        }
        assert!(second >= 10 || of_this_second == 0, "none gets less than its time");

        assert!(of_this_second <= EXPIRIES_PER_SECOND as usize + 1);
        total += of_this_second;
    }
    assert_eq!(total, 3_000, "all expired in the end");
}

#[test]
fn every_lease_expires_exactly_when_a_naive_table_says_so() {
    each_seed(|g| {
        let mut table = leases();
        table.promote(1, 0, 0);
        let mut model: BTreeMap<i64, (u64, i64)> = BTreeMap::new(); // id → deadline, ttl
        let mut now = 0;
        for _ in 0..200 {
            now += g.below(3_000);
            table.tell(now);
            let id = g.below(20) as i64 + 1;
            if g.chance(30) {
                let ttl = g.below(20) as i64;
                let granted = table.grant(LeaseId(id), ttl);
                assert_eq!(granted.is_ok(), !model.contains_key(&id));
                model.entry(id).or_insert((now + ttl.max(2) as u64 * 1_000, ttl.max(2)));
            } else if g.chance(50) {
                let expected = match model.get_mut(&id) {
                    None => Renewal::NotFound,
                    Some((deadline, _)) if *deadline <= now => Renewal::Expired,
                    Some((deadline, ttl)) => {
                        *deadline = now + *ttl as u64 * 1_000;
                        Renewal::Renewed { ttl: *ttl }
                    }
                };
                assert_eq!(table.renew(LeaseId(id), now), expected);
            } else {
                let mut found: Vec<_> = table.expired(now, 500).iter().map(|id| id.0).collect();
                found.sort_unstable();
                let over: Vec<_> =
                    model.iter().filter(|(_, (d, _))| *d <= now).map(|(&id, _)| id).collect();
                assert_eq!(found, over);
                for id in over {
                    table.remove(LeaseId(id));
                    model.remove(&id);
                }
            }
        }
    });
}

#[test]
fn a_key_belongs_to_the_lease_it_was_attached_to_last() {
    each_seed(|g| {
        let mut table = leases();
        for id in 1..5 {
            table.grant(LeaseId(id), 10).unwrap();
        }
        let mut model = BTreeMap::new();
        for _ in 0..100 {
            let key = vec![g.below(10) as u8];
            if g.chance(20) {
                table.detach(&key);
                model.remove(&key);
            } else {
                let id = g.below(5) as i64;
                table.attach(&key, LeaseId(id));
                model.insert(key, id);
            }
            table.check();
        }
        for (key, id) in model {
            assert_eq!(table.owner(&key), (id != 0).then_some(LeaseId(id)));
        }
    });
}

#[test]
fn a_lease_is_not_renewed_while_what_was_left_is_on_its_way_to_the_log() {
    let mut table = leases();
    table.promote(1, 0, 0);
    table.grant(LeaseId(1), 1_000).unwrap();
    assert_eq!(table.due_checkpoints(300_000, 10), [(LeaseId(1), 700)]);
    // The next leader would let it run for 700 s, whatever is said now.
    assert_eq!(table.renew(LeaseId(1), 300_001), Renewal::CheckpointOnItsWay);
    table.checkpoint(LeaseId(1), 700).unwrap();
    assert_eq!(table.renew(LeaseId(1), 300_002), Renewal::CheckpointFirst);
    assert_eq!(table.renew(LeaseId(1), 300_003), Renewal::CheckpointOnItsWay);
    table.checkpoint(LeaseId(1), 0).unwrap();
    assert_eq!(table.renew(LeaseId(1), 300_004), Renewal::Renewed { ttl: 1_000 });
}

#[test]
fn a_checkpoint_that_was_lost_is_made_up_for_before_a_renewal() {
    let mut table = leases();
    table.promote(1, 0, 0);
    table.grant(LeaseId(1), 1_000).unwrap();
    assert_eq!(table.due_checkpoints(300_000, 10), [(LeaseId(1), 700)]);
    assert_eq!(table.renew(LeaseId(1), 300_000 + RETRY_MS), Renewal::CheckpointFirst);
    table.checkpoint(LeaseId(1), 0).unwrap();
    assert_eq!(table.renew(LeaseId(1), 304_000), Renewal::Renewed { ttl: 1_000 });
}
