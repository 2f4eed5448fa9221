//! Recovery: from the files of a log to what they say.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::record::{Decoder, Stop};
use super::replay::{Contradiction, Replay};
use super::segment::{self, Name, Segment};
use super::{OpenError, Position, SnapshotMark};
use crate::disk::{Disk, File};

/// How the walk through a log ended.
pub(super) struct End {
    /// In the last segment: where the last whole record ends.
    pub(super) offset: u64,
    pub(super) crc: u32,
    pub(super) torn: bool,
    /// Where the bytes behind `offset` that are not zero end, if there are any.
    pub(super) dirt_end: Option<u64>,
}

/// Names an I/O error's file.
pub(super) fn io_of(file: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    move |error| OpenError::Io { file, error }
}

/// The segments to be read after `mark`, and the older ones before them.
pub(super) fn select(
    disk: &dyn Disk,
    dir: &Path,
    after: SnapshotMark,
) -> Result<(Vec<Name>, Vec<Name>), OpenError> {
    let mut names = match segment::list(disk, dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(io_of(dir))?,
    };
    if names.is_empty() {
        return Err(OpenError::Missing { dir: dir.to_owned() });
    }
    let missing = || OpenError::SegmentMissing { dir: dir.to_owned(), after };
    let first = segment::position_for(names.iter().copied(), after.index).ok_or_else(missing)?;
    let needed = names.split_off(first);
    if segment::is_continuous(&needed) { Ok((names, needed)) } else { Err(missing()) }
}

/// Takes `names` for this process.
pub(super) fn lock(disk: &dyn Disk, dir: &Path, names: &[Name]) -> Result<Vec<Segment>, OpenError> {
    let lock_one = |&name: &Name| {
        let file = name.file(dir);
        match disk.lock(&file) {
            Ok(lock) => Ok(Segment { name, _lock: Some(lock) }),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(OpenError::Locked { file }),
            Err(error) => Err(OpenError::Io { file, error }),
        }
    };
    names.iter().map(lock_one).collect()
}

/// Feeds the records of `names` to `replay`, one segment in memory at a time.
pub(super) fn walk(
    disk: &dyn Disk,
    dir: &Path,
    names: &[Name],
    replay: &mut Replay,
) -> Result<End, OpenError> {
    let (last, earlier) = names.split_last().expect("a log has a segment");
    // The very first segment's chain starts at 0; another one's says where it takes up.
    let mut crc = (names[0].sequence == 0).then_some(0);
    let mut bytes = Vec::new();
    for name in earlier {
        let file = name.file(dir);
        read(disk, &file, &mut bytes)?;
        replay.begin(*name);
        let mut decoder = Decoder::new(&bytes, crc, false);
        replay_segment(&mut decoder, &file, replay)?;
        crc = decoder.crc();
    }
    let file = last.file(dir);
    read(disk, &file, &mut bytes)?;
    replay.begin(*last);
    let mut decoder = Decoder::new(&bytes, crc, true);
    let torn = replay_segment(&mut decoder, &file, replay)?;
    let offset = decoder.offset();
    let dirt = bytes[offset as usize..].iter().rposition(|b| *b != 0);
    Ok(End {
        offset,
        crc: decoder.crc().expect("a head, or an error"),
        torn,
        dirt_end: dirt.map(|at| offset + at as u64 + 1),
    })
}

fn read(disk: &dyn Disk, file: &Path, into: &mut Vec<u8>) -> Result<(), OpenError> {
    let fill = |opened: &dyn File, into: &mut Vec<u8>| {
        into.clear();
        opened.copy_to(0, opened.len()? as usize, into)
    };
    disk.open(file).and_then(|opened| fill(&*opened, into)).map_err(io_of(file))
}

/// Whether the segment's end was torn off.
fn replay_segment(
    decoder: &mut Decoder,
    file: &Path,
    replay: &mut Replay,
) -> Result<bool, OpenError> {
    loop {
        let at = decoder.offset();
        let place = || Position { file: PathBuf::from(file), offset: at };
        let record = match decoder.next() {
            Ok(record) => record,
            Err(Stop::End) => return Ok(false),
            Err(Stop::Torn) => return Ok(true),
            Err(Stop::Corrupt(what)) => return Err(OpenError::Corrupt { at: place(), what }),
        };
        replay.record(&record).map_err(|contradiction| match contradiction {
            Contradiction::Corrupt(what) => OpenError::Corrupt { at: place(), what },
            Contradiction::Gap { expected, found } => {
                OpenError::Gap { at: place(), expected, found }
            }
            Contradiction::OtherTerm => OpenError::Corrupt {
                at: place(),
                what: "the mark of a snapshot has another term than the snapshot",
            },
        })?;
    }
}
