//! The obviously right log: maps, cloned whole at every checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stdx::Generator;

use crate::disk::{Disk, SimulatedDisk};
use crate::revlog::{
    Config, Fatal, Mark, Meta, OpenError, Place, Revision, Revlog, Tables, varint,
};

pub(in crate::revlog) const CONFIG: Config =
    Config { segment_size_max: 2000, ledger_size_min: 4000 };

pub(in crate::revlog) fn dir() -> PathBuf {
    PathBuf::from("member/store")
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::revlog) struct Record {
    pub key: Vec<u8>,
    pub meta: Meta,
    pub key_value: Vec<u8>,
}

/// All that a restart must find.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(in crate::revlog) struct Model {
    pub mark: Mark,
    pub tables: Tables,
    pub records: BTreeMap<Revision, Record>,
}

/// A key's revision with canonical bytes, every so often a tombstone.
pub(in crate::revlog) fn record(g: &mut Generator, revision: Revision, value_max: usize) -> Record {
    let key = vec![b'a' + g.below(5) as u8; g.int(1..=20)];
    let tombstone = g.chance(20);
    let create_revision = if tombstone { 0 } else { revision.main - g.below(2) as i64 };
    let version = if tombstone { 0 } else { 1 + g.below(3) as i64 };
    let lease = if tombstone || g.chance(50) { 0 } else { g.number() as i64 };
    let meta = Meta { revision, tombstone, create_revision, version, lease };
    let value = g.bytes(0..value_max);
    let key_value = key_value(&key, &meta, &value);
    Record { key, meta, key_value }
}

pub(in crate::revlog) fn key_value(key: &[u8], meta: &Meta, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x0a];
    varint::put_bytes(&mut out, key);
    if !meta.tombstone {
        for (tag, number) in
            [(0x10, meta.create_revision), (0x18, meta.revision.main), (0x20, meta.version)]
        {
            out.push(tag);
            varint::put(&mut out, number as u64);
        }
        if !value.is_empty() {
            out.push(0x2a);
            varint::put_bytes(&mut out, value);
        }
        if meta.lease != 0 {
            out.push(0x30);
            varint::put(&mut out, meta.lease as u64);
        }
    }
    out
}

/// What lies on a disk, read back whole; also where each record is.
pub(in crate::revlog) struct Reopened {
    pub log: Revlog,
    pub model: Model,
    pub places: BTreeMap<Revision, Place>,
}

pub(in crate::revlog) fn open(disk: &SimulatedDisk) -> Result<Reopened, OpenError> {
    let (log, mut recovered) = Revlog::open(Arc::new(disk.clone()), &dir(), CONFIG)?;
    let mut model =
        Model { mark: recovered.mark, tables: recovered.tables, records: BTreeMap::new() };
    let mut places = BTreeMap::new();
    let mut before = Revision::default();
    while let Some(entry) = recovered.entries.next()? {
        assert!(entry.meta.revision > before, "entries come in the order of their revisions");
        before = entry.meta.revision;
        let key_value = read(&log, entry.place)?;
        assert_eq!(key_value.len(), entry.len as usize);
        let record = Record { key: entry.key.to_vec(), meta: entry.meta, key_value };
        model.records.insert(before, record);
        places.insert(before, entry.place);
    }
    Ok(Reopened { log, model, places })
}

pub(in crate::revlog) fn read(log: &Revlog, place: Place) -> Result<Vec<u8>, Fatal> {
    let mut out = b"before".to_vec();
    log.read(place, &mut out)?;
    let read = out.split_off(6);
    assert_eq!(out, b"before", "reading appends");
    assert_eq!(log.len_of(place)? as usize, read.len());
    Ok(read)
}

/// Nothing lies in the folder but what the log is made of.
pub(in crate::revlog) fn check_files(disk: &SimulatedDisk, log: &Revlog) {
    let mut names = disk.list(&dir()).expect("a folder");
    names.sort();
    let mut expected: Vec<String> = log.segments.values().map(|s| name_of(&s.path)).collect();
    expected.push(names.iter().filter(|n| n.ends_with(".ledger")).max().expect("one").clone());
    expected.push("lock".to_owned());
    expected.sort();
    assert_eq!(names, expected);
}

/// No file is longer than what is in it.
pub(in crate::revlog) fn check_lengths(disk: &SimulatedDisk, log: &Revlog) {
    for segment in log.segments.values() {
        let len = disk.open(&segment.path).expect("a file").len().expect("a length");
        let end = segment.sealed().map_or(segment.flushed(), |sealed| sealed.footer_end);
        assert_eq!(len, end, "{}", segment.path.display());
    }
    let ledger = log.shared.ledger().size();
    let names = disk.list(&dir()).expect("a folder");
    let name = names.iter().find(|n| n.ends_with(".ledger")).expect("a ledger");
    let len = disk.open(&dir().join(name)).expect("a file").len().expect("a length");
    assert_eq!(len, ledger);
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}
