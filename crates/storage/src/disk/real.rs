//! The machine's own disk: `std::fs`, and a read-only mapping for the values that are read often.
//!
//! Folders are made for the owner alone (0700), and so are files (0600), as etcd does.
//!
//! # Invariants
//!
//! - A file is never cut below what has been mapped of it.   (asserted in `set_len`)
//!
//! # Not here
//!
//! `unsafe`: see `mapping`, `ownership` and `writeout`. Retries: a failed sync is the caller's end, not ours to
//! hide.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::mapping::Mapping;
use super::{Disk, File, Lock, ownership, writeout};

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// How often a growing file is mapped anew. The mappings of the past stay until the file is closed
/// (readers may be inside them); past this many, the rest of the file is read by the system call.
const MAPPINGS_MAX: usize = 16;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        opened(options().create(true).truncate(true).open(path)?)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        opened(options().open(path)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(FOLDER_MODE).create(dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).ok_or(e)?;
                self.create_dir(parent)?;
                DirBuilder::new().mode(FOLDER_MODE).create(dir)?;
            }
            outcome => outcome?,
        }
        self.sync_dir(parent_of(dir))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)?;
        self.sync_dir(parent_of(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = options().create(true).truncate(false).open(path)?;
        ownership::take(&file)?;
        Ok(Box::new(Held { _file: file }))
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

fn opened(file: fs::File) -> io::Result<Arc<dyn File>> {
    if file.metadata()?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    Ok(Arc::new(RealFile { file, mappings: Default::default() }))
}

/// The folder that holds the name `path`.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The system releases the lock when the descriptor is closed, however the process ends.
struct Held {
    _file: fs::File,
}

impl Lock for Held {}

struct RealFile {
    file: fs::File,
    /// Growing views of the file, shortest first: filled from the left, never replaced.
    mappings: [OnceLock<Mapping>; MAPPINGS_MAX],
}

impl RealFile {
    fn mapped(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().map_while(OnceLock::get)
    }

    fn mapped_len(&self) -> u64 {
        self.mapped().last().map_or(0, |m| m.len() as u64)
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        assert!(len >= self.mapped_len(), "a mapped file must not be cut");
        self.file.set_len(len)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn copy_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let end = offset.checked_add(len as u64).ok_or(ErrorKind::UnexpectedEof)?;
        if let Some(mapping) = self.mapped().find(|m| m.len() as u64 >= end) {
            mapping.copy_to(offset as usize, len, out);
            return Ok(());
        }
        let used = out.len();
        out.resize(used + len, 0);
        self.file.read_exact_at(&mut out[used..], offset).inspect_err(|_| out.truncate(used))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_out(&self, offset: u64, length: u64) -> io::Result<()> {
        writeout::write_out(&self.file, offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self, len: u64) -> io::Result<()> {
        let len = len.min(self.len()?);
        for slot in &self.mappings {
            match slot.get() {
                Some(mapping) if mapping.len() as u64 >= len => return Ok(()),
                Some(_) => {}
                None if len == 0 => return Ok(()),
                None => {
                    let mapping = Mapping::new(&self.file, len as usize)?;
                    // Two threads may map at once; the slower one's view is dropped, which is only
                    // a pity.
                    drop(slot.set(mapping));
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
