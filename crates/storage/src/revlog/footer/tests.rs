use std::path::Path;

use stdx::{Generator, each_seed};

use super::*;
use crate::disk::{Disk, SimulatedDisk};

const RECORDS_END: u64 = 1 << 20;

fn file(g: &mut Generator) -> Arc<dyn File> {
    SimulatedDisk::new(g.number()).create(Path::new("segment")).expect("a file")
}

/// Metas as wild as 64 bits allow.
fn metas(g: &mut Generator) -> Vec<(Vec<u8>, Meta, u32)> {
    let number = |g: &mut Generator| (g.number() >> g.below(64)) as i64;
    g.vec(1..200, |g| {
        let revision = Revision { main: number(g), sub: i64::from(g.number() as u32) };
        let (tombstone, created) = (g.chance(20), g.chance(50));
        let create_revision = if created { revision.main } else { number(g) };
        let mut meta =
            Meta { revision, tombstone, create_revision, version: number(g), lease: number(g) };
        if tombstone {
            (meta.create_revision, meta.version, meta.lease) = (0, 0, 0);
        }
        let longest = if g.chance(1) { 100_000 } else { 50 };
        (g.bytes(0..longest), meta, g.below(1000) as u32)
    })
}

#[test]
fn a_footer_says_of_every_record_what_was_written() {
    each_seed(|g| {
        let (file, segment, metas) = (file(g), SegmentId(7), metas(g));
        let mut writer = Writer::new(Arc::clone(&file), RECORDS_END);
        let mut offset = segment::FIRST_OFFSET as u32;
        for (key, meta, len) in &metas {
            let place = Place::new(segment, offset);
            writer.push(&Entry { key, meta: *meta, place, len: *len }).expect("room");
            offset += len + HEADER_SIZE as u32;
        }
        // The records end where their lengths say, so the footer is found past a gap here.
        let end = writer.finish().expect("room");
        let mut reader = Reader::new(segment, file, RECORDS_END, end);
        let mut at = segment::FIRST_OFFSET as u32;
        for (key, meta, len) in &metas {
            assert!(reader.advance().expect("as it was written"));
            let place = Place::new(segment, at);
            assert_eq!(reader.entry(), Entry { key, meta: *meta, place, len: *len });
            at += len + HEADER_SIZE as u32;
        }
        assert!(reader.advance().is_err(), "the records go on, the footer does not");
    });
}

#[test]
fn any_bytes_can_be_decoded() {
    each_seed(|g| {
        let mut bytes = g.bytes(1..60);
        bytes[0] = g.below(8) as u8;
        let decoded = decode(&mut bytes.as_slice(), g.number() as i64);
        assert!(decoded.is_none_or(|d| d.length as usize >= HEADER_SIZE));

        let file = file(g);
        let bytes = g.bytes(0..200);
        file.write_at(0, &bytes).expect("room");
        let mut reader = Reader::new(SegmentId(1), file, 0, bytes.len() as u64);
        assert!(!matches!(reader.advance(), Ok(true)), "no checksum fits by chance");
    });
}
