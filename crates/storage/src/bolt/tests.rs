use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::reader::{BoltError, Reader};
use super::writer::{Bucket, EachRow, Plan, Rows};
use super::{FLAG_BRANCH, PAGE_SIZE};
use crate::disk::{Disk, File, SimulatedDisk};
use stdx::generate::each_seed_of;
use stdx::{Generator, each_seed};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn written(buckets: &BTreeMap<Vec<u8>, Model>) -> Vec<u8> {
    let buckets = buckets.iter().map(|(name, rows)| Bucket { name, rows }).collect();
    let plan = Plan::new(buckets).expect("a plan");
    let mut file = Vec::new();
    plan.write(&mut |bytes| {
        file.extend_from_slice(bytes);
        Ok(())
    })
    .expect("written");
    assert_eq!(file.len() as u64, plan.size());
    file
}

fn file_of(bytes: &[u8]) -> Arc<dyn File> {
    let file = SimulatedDisk::new(0).create(Path::new("db")).expect("a file");
    file.write_at(0, bytes).expect("written");
    file
}

/// All that can be read, with the work it took bounded.
fn read(bytes: &[u8]) -> Result<BTreeMap<Vec<u8>, Model>, BoltError> {
    let reader = Reader::open(file_of(bytes))?;
    let mut buckets = BTreeMap::new();
    for name in reader.bucket_names()? {
        let Some(bucket) = reader.bucket(&name)? else { continue };
        let mut rows = Model::new();
        let mut cursor = bucket.cursor()?;
        while let Some(row) = cursor.next()? {
            rows.insert(row.key.to_vec(), row.value.to_vec());
        }
        buckets.insert(name, rows);
    }
    Ok(buckets)
}

fn rows(g: &mut Generator) -> Model {
    let n = *g.pick(&[0, 1, 3, 30, 300, 2000]);
    let value_max = *g.pick(&[1, 40, 400, 2000, 20_000]).min(&(4_000_000 / (n + 1)));
    let key_max = *g.pick(&[3, 20, 200, 1500]);
    (0..n).map(|_| (g.bytes(1..key_max), g.bytes(0..value_max))).collect()
}

fn buckets(g: &mut Generator) -> BTreeMap<Vec<u8>, Model> {
    (0..g.int(0..=4)).map(|_| (g.bytes(1..10), rows(g))).collect()
}

#[test]
fn what_was_written_is_read() {
    each_seed_of(60, |g| {
        let model = buckets(g);
        let file = written(&model);
        assert_eq!(read(&file).expect("a whole file"), model);
    });
}

#[test]
fn a_cursor_starts_at_the_first_key_not_below_the_one_asked_for() {
    each_seed_of(60, |g| {
        let model = buckets(g);
        let reader = Reader::open(file_of(&written(&model))).expect("a whole file");
        for (name, rows) in &model {
            let bucket = reader.bucket(name).expect("readable").expect("there");
            for _ in 0..20 {
                let some = rows.keys().nth(g.below(rows.len() as u64 + 1) as usize);
                let mut key = some.cloned().unwrap_or_default();
                if g.chance(50) {
                    key.extend(g.bytes(0..3));
                }
                let expected = rows.range(key.clone()..).next();
                let mut cursor = bucket.cursor_at(&key).expect("readable");
                let found = cursor.next().expect("readable");
                assert_eq!(
                    found.map(|r| (r.key, r.value)),
                    expected.map(|(k, v)| (&k[..], &v[..]))
                );
                assert_eq!(bucket.get(&key).expect("readable").as_ref(), rows.get(&key));
            }
        }
        assert!(reader.bucket(b"no such bucket").expect("readable").is_none());
    });
}

#[test]
fn no_branch_has_a_single_child() {
    each_seed_of(60, |g| {
        let file = written(&buckets(g));
        let mut at = 2 * PAGE_SIZE;
        while at < file.len() {
            let header = &file[at..];
            let n_more = u32::from_le_bytes(header[12..16].try_into().expect("four bytes"));
            if header[8] == FLAG_BRANCH as u8 {
                assert!(header[10] >= 2, "page {}", at / PAGE_SIZE);
            }
            at += (1 + n_more as usize) * PAGE_SIZE;
        }
    });
}

#[test]
fn damage_gives_an_error_or_rows_but_nothing_worse() {
    each_seed(|g| {
        let n = g.int(0..=300);
        let small: Model = (0..n).map(|_| (g.bytes(1..30), g.bytes(0..100))).collect();
        let mut file =
            written(&[(b"key".to_vec(), small.clone()), (b"meta".to_vec(), small)].into());
        for _ in 0..g.int(1..=8) {
            // Mostly where the structure is: in headers and elements.
            let page = g.below((file.len() / PAGE_SIZE) as u64) as usize;
            let last = if g.chance(80) { 100 } else { PAGE_SIZE - 1 };
            let within = g.int(0..=last);
            file[page * PAGE_SIZE + within] = g.number() as u8;
        }
        file.truncate(g.int(file.len() / 2..=file.len() * 3 / 2));
        drop(read(&file));
    });
}

#[test]
fn an_older_meta_page_serves_if_the_newer_is_torn() {
    let model: BTreeMap<Vec<u8>, Model> = [(b"key".to_vec(), Model::new())].into();
    let mut file = written(&model);
    file[PAGE_SIZE + 20] ^= 1;
    assert_eq!(read(&file).expect("readable"), model);
    file[20] ^= 1;
    assert!(matches!(read(&file), Err(BoltError::NotBolt)));
}

/// Rows that grow between the passes.
struct Restless(Cell<usize>);

impl Rows for Restless {
    fn rows(&self, each: &mut EachRow) -> io::Result<()> {
        self.0.set(self.0.get() + 5000);
        each(b"key", &vec![1; self.0.get()])
    }
}

#[test]
fn rows_that_change_between_the_passes_are_found_out() {
    let rows = Restless(Cell::new(0));
    let plan = Plan::new(vec![Bucket { name: b"b", rows: &rows }]).expect("a plan");
    let error = plan.write(&mut |_| Ok(())).expect_err("it grew");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
