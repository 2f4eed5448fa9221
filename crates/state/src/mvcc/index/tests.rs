use std::collections::BTreeMap;

use stdx::each_seed;
use storage::revlog::{Config, Meta, Revision, Revlog};

use super::*;

/// Places can't be made up: a log gives them out.
pub(super) fn places(n: usize) -> Vec<Place> {
    let disk = std::sync::Arc::new(storage::disk::simulated::SimulatedDisk::new(1));
    let (mut log, _) = Revlog::open(disk, "index".as_ref(), Config::default()).unwrap();
    let place = |main| {
        let revision = Revision { main, sub: 0 };
        let meta = Meta { revision, tombstone: true, create_revision: 0, version: 0, lease: 0 };
        log.append(&meta, b"k", &[0x0a, 1, b'k']).unwrap()
    };
    (1..=n as i64).map(place).collect()
}

#[test]
fn an_index_built_at_once_equals_one_built_step_by_step() {
    let places = places(60);
    each_seed(|g| {
        let mut by_steps = Index::default();
        let mut points = Vec::new();
        let mut versions: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for (i, &place) in places.iter().enumerate() {
            let main = i as i64 + 2;
            let key = vec![b'a' + g.below(4) as u8];
            let version = versions.entry(key.clone()).or_insert(0);
            let tombstone = *version > 0 && g.chance(30);
            *version = if tombstone { 0 } else { *version + 1 };
            let point = Point {
                main,
                sub: g.below(5) as u32,
                tombstone,
                leased: g.chance(20),
                place,
                create_revision: if tombstone { 0 } else { main - *version + 1 },
                version: *version,
            };
            by_steps.push(&key, point);
            points.push((key.into_boxed_slice(), point));
        }
        let mut at_once = Index::build(points);
        let compacted = g.below(70) as i64;
        let prune = |index: &mut Index, keys_max| {
            let mut fates = Vec::new();
            let mut next = Some(Vec::new());
            while let Some(from) = next {
                next = index.prune(&from, keys_max, compacted, |fate, p| fates.push((fate, p)));
            }
            fates
        };
        assert_eq!(prune(&mut by_steps, 1), prune(&mut at_once, usize::MAX));
        let all = Span::From(Vec::new());
        for main in compacted..70 {
            let a: Vec<_> = by_steps.scan(&all, main).collect();
            let b: Vec<_> = at_once.scan(&all, main).collect();
            assert_eq!(a, b);
            let live = by_steps.chains(&all).filter(|(_, chain)| chain.is_live_at(main));
            assert_eq!(live.count(), a.len());
        }
    });
}

#[test]
fn a_compaction_changes_nothing_at_or_above_its_revision() {
    let places = places(40);
    each_seed(|g| {
        let mut index = Index::default();
        for (i, &place) in places.iter().enumerate() {
            let key = [b'a' + g.below(3) as u8];
            let live = index.at(&key, i64::MAX).is_some();
            let tombstone = live && g.chance(40);
            let main = i as i64 + 2;
            let (create_revision, version) = if tombstone { (0, 0) } else { (main, 1) };
            let (sub, leased) = (0, false);
            let point = Point { main, sub, tombstone, leased, place, create_revision, version };
            index.push(&key, point);
        }
        let all = Span::From(Vec::new());
        let rows =
            |index: &Index, main| index.scan(&all, main).map(|(k, p)| (k.to_vec(), p)).collect();
        let before: Vec<Vec<_>> = (0..45).map(|main| rows(&index, main)).collect();
        let compacted = g.below(45) as i64;
        index.prune(&[], usize::MAX, compacted, |_, point| assert!(point.main <= compacted));
        for main in compacted..45 {
            let after: Vec<_> = rows(&index, main);
            assert_eq!(after, before[main as usize]);
        }
        for (_, chain) in index.chains(&all) {
            let mut below = 0;
            chain.within(0, compacted, |p| {
                below += 1;
                assert!(!p.tombstone || p.main == compacted, "etcd#19179");
            });
            assert!(below <= 1, "one point a key is kept at or below the compaction");
        }
    });
}
