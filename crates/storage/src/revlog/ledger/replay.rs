//! Reading a ledger from its beginning to its last commit.

use std::sync::Arc;

use crc32c::crc32c;

use super::item::{Contents, Item};
use super::{COMMIT, FrameHeader, HEADER_SIZE, MAGIC, PART, SECTOR_SIZE, VERSION, file_header};
use crate::disk::File;
use crate::revlog::error::Trouble;
use crate::revlog::record::u32_at;
use crate::revlog::window::Window;

pub(super) struct Replayed {
    pub contents: Contents,
    /// Where the last commit ends.
    pub end: u64,
    pub previous: u32,
}

/// How a step over a frame went.
enum Step {
    /// More of the transaction follows.
    Part,
    Commit,
    /// The ledger ends here, perhaps with the torn beginning of a transaction.
    End,
}

struct Replay {
    window: Window,
    previous: u32,
    contents: Contents,
    /// The bodies of the transaction's frames so far.
    pending: Vec<Vec<u8>>,
}

pub(super) fn replay(file: &Arc<dyn File>, number: u64) -> Result<Replayed, Trouble> {
    let len = file.len()?;
    let mut window = Window::new(Arc::clone(file), 0, len);
    let previous = check_file_header(window.peek(SECTOR_SIZE)?, number)?;
    window.consume(SECTOR_SIZE);
    let contents = Contents::default();
    let mut replay = Replay { window, previous, contents, pending: Vec::new() };
    let mut committed = None;
    loop {
        match replay.step()? {
            Step::Part => {}
            Step::Commit => committed = Some((replay.window.at(), replay.previous)),
            Step::End => break,
        }
    }
    let stop = replay.window.at();
    let Some((end, previous)) = committed else {
        return Err(Trouble::Corrupt { offset: stop, what: "a ledger without a commit" });
    };
    check_nothing_follows(file, stop, len, replay.contents.sequence)?;
    Ok(Replayed { contents: replay.contents, end, previous })
}

fn check_file_header(header: &[u8], number: u64) -> Result<u32, Trouble> {
    let corrupt = |offset, what| Err(Trouble::Corrupt { offset, what });
    if &header[..8] != MAGIC || crc32c(&header[..20]) != u32_at(header, 20) {
        return corrupt(0, "the header");
    }
    if u32_at(header, 8) != VERSION {
        return corrupt(8, "a newer version");
    }
    if header != file_header(number) {
        return corrupt(12, "another ledger's header");
    }
    Ok(u32_at(header, 20))
}

impl Replay {
    fn step(&mut self) -> Result<Step, Trouble> {
        let at = self.window.at();
        let corrupt = |what| Trouble::Corrupt { offset: at, what };
        if self.window.remaining() < SECTOR_SIZE as u64 {
            return Ok(Step::End);
        }
        let sector = self.window.peek(SECTOR_SIZE)?;
        if is_zero(sector) {
            return Ok(Step::End);
        }
        let header = FrameHeader::decode(sector.first_chunk().expect("a whole header"))
            .ok_or(corrupt("the header of a frame"))?;
        if header.previous != self.previous || !self.continues(header.sequence) {
            return Err(corrupt("a frame does not follow the one before it"));
        }
        let used = HEADER_SIZE + header.length as usize;
        let size = used.next_multiple_of(SECTOR_SIZE);
        if size as u64 > self.window.remaining() {
            return Ok(Step::End);
        }
        let frame = self.window.peek(size)?;
        let body = &frame[HEADER_SIZE..used];
        if crc32c(body) != header.body_crc || !is_zero(&frame[used..]) {
            let torn = frame[SECTOR_SIZE..].chunks(SECTOR_SIZE).any(is_zero);
            return if torn { Ok(Step::End) } else { Err(corrupt("the checksum of a frame")) };
        }
        let body = body.to_vec();
        let previous = u32_at(frame, HEADER_SIZE - 4);
        self.take(header, body).map_err(corrupt)?;
        self.previous = previous;
        self.window.consume(size);
        Ok(if header.kind == COMMIT { Step::Commit } else { Step::Part })
    }

    /// Whether a frame of that transaction may come now. A ledger that was rewritten starts with any.
    fn continues(&self, sequence: u64) -> bool {
        match self.contents.mark.is_some() {
            true => sequence == self.contents.sequence + 1,
            false => true,
        }
    }

    fn take(&mut self, header: FrameHeader, body: Vec<u8>) -> Result<(), &'static str> {
        self.pending.push(body);
        match header.kind {
            PART => Ok(()),
            COMMIT => {
                for body in std::mem::take(&mut self.pending) {
                    let mut input = body.as_slice();
                    while !input.is_empty() {
                        let item = Item::decode(&mut input).ok_or("an item of a frame")?;
                        self.contents.apply(item)?;
                    }
                }
                self.contents.commit(header.sequence)
            }
            _ => Err("a frame of unknown kind"),
        }
    }
}

/// A transaction is begun only when the one before it is durable: if a later one is there, the frame we
/// stopped at was whole once.
fn check_nothing_follows(
    file: &Arc<dyn File>,
    stop: u64,
    len: u64,
    committed: u64,
) -> Result<(), Trouble> {
    let mut window = Window::new(Arc::clone(file), stop, len);
    while window.remaining() >= SECTOR_SIZE as u64 {
        let header = window.peek(HEADER_SIZE)?.first_chunk().expect("a whole header");
        if FrameHeader::decode(header).is_some_and(|header| header.sequence > committed + 1) {
            return Err(Trouble::Corrupt { offset: stop, what: "a frame before the last commit" });
        }
        window.peek(SECTOR_SIZE)?;
        window.consume(SECTOR_SIZE);
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
