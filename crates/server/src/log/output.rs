//! Where lines go: the standard streams, the journal, files that are begun anew when full.
//!
//! # Invariants
//!
//! - A line lies in one file as a whole; a file grows past its bound only by a line that is longer.
//! - Lines of several threads never mix: a write is one call, and files are opened for appending.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::encode::date;
use super::journal::Journal;
use super::{Level, Output, Rotation};

/// Full files that are looked at when some are to be removed.
const BACKUPS_LISTED_MAX: usize = 100_000;

pub(super) enum Sink {
    Stderr,
    Stdout,
    Journal(Journal),
    File(File),
    Rotating(Mutex<Rotating>),
}

impl Sink {
    pub(super) fn open(output: &Output, rotation: Option<&Rotation>) -> io::Result<Self> {
        let named = |path: &Path, e: io::Error| {
            io::Error::new(e.kind(), format!("open log output {}: {e}", path.display()))
        };
        match (output, rotation) {
            (Output::Stderr, _) => Ok(Self::Stderr),
            (Output::Stdout, _) => Ok(Self::Stdout),
            (Output::Journal, _) => Ok(Journal::open().map_or(Self::Stderr, Self::Journal)),
            (Output::File(path), None) => {
                append_to(path).map(Self::File).map_err(|e| named(path, e))
            }
            (Output::File(path), Some(rotation)) => Rotating::open(path, rotation)
                .map(|file| Self::Rotating(Mutex::new(file)))
                .map_err(|e| named(path, e)),
        }
    }

    /// Writes a whole line; `at` is the time since 1970 it was made.
    pub(super) fn write(&self, level: Level, at: Duration, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(line),
            Self::Stdout => io::stdout().lock().write_all(line),
            Self::Journal(journal) => journal.write(level, line),
            Self::File(file) => (&mut &*file).write_all(line),
            // A thread that panicked while it wrote left a file that can be appended to.
            Self::Rotating(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write(at, line)
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// A file that is set aside under another name when full.
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
    rotation: Rotation,
}

impl Rotating {
    fn open(path: &Path, rotation: &Rotation) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append_to(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, rotation: rotation.clone() })
    }

    fn write(&mut self, at: Duration, line: &[u8]) -> io::Result<()> {
        let grown = self.size.saturating_add(line.len() as u64);
        if grown > self.rotation.size_max && self.size > 0 {
            self.rotate(at)?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, at: Duration) -> io::Result<()> {
        let (before, after) = self.name_parts();
        let mut aside = format!("{before}-{}{after}", stamp(at));
        // Two in one millisecond: the later one is kept apart by a number.
        let mut n = 1;
        while self.path.with_file_name(&aside).exists() && n < BACKUPS_LISTED_MAX {
            aside = format!("{before}-{}.{n}{after}", stamp(at));
            n += 1;
        }
        fs::rename(&self.path, self.path.with_file_name(aside))?;
        self.file = append_to(&self.path)?;
        self.size = 0;
        self.remove_surplus(at)
    }

    /// `etcd.log` is `etcd` and `.log`.
    fn name_parts(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let extension = part(self.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (part(self.path.file_stem()), format!("{dot}{extension}"))
    }

    /// Removes full files that are too many or too old. Their names sort by age.
    fn remove_surplus(&self, at: Duration) -> io::Result<()> {
        let Rotation { age_days_max, backups_max, .. } = self.rotation;
        if age_days_max == 0 && backups_max == 0 {
            return Ok(());
        }
        let (before, after) = self.name_parts();
        let (before, own) = (format!("{before}-"), self.path.file_name());
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        let names = fs::read_dir(folder)?.flatten().take(BACKUPS_LISTED_MAX).map(|e| e.file_name());
        let mut full: Vec<String> = names
            .filter(|name| Some(name.as_os_str()) != own)
            .filter_map(|name| name.into_string().ok())
            .filter(|name| is_backup(name, &before, &after))
            .collect();
        full.sort();
        let n_too_many = match backups_max {
            0 => 0,
            max => full.len().saturating_sub(max),
        };
        let oldest = at.saturating_sub(Duration::from_secs(age_days_max.saturating_mul(86_400)));
        let oldest = format!("{before}{}", stamp(oldest));
        for (i, name) in full.iter().enumerate() {
            if i < n_too_many || (age_days_max > 0 && *name < oldest) {
                fs::remove_file(folder.join(name))?;
            }
        }
        Ok(())
    }
}

/// Whether a file is one of ours: nobody else's may be removed.
fn is_backup(name: &str, before: &str, after: &str) -> bool {
    const STAMP: &str = "dddd-dd-ddTdd-dd-dd.ddd";
    let middle = name.strip_prefix(before).and_then(|name| name.strip_suffix(after));
    middle.and_then(|middle| middle.get(..STAMP.len())).is_some_and(|stamp| {
        let fits =
            |(c, form): (char, char)| if form == 'd' { c.is_ascii_digit() } else { c == form };
        stamp.chars().zip(STAMP.chars()).all(fits)
    })
}

/// `2026-11-22T15-33-36.009`
fn stamp(at: Duration) -> String {
    let (year, month, day) = date(at.as_secs() / 86_400);
    let second = at.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = at.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{millis:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, gone when the test is over.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("retcd-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write_days(sink: &Sink, days: std::ops::Range<u64>) {
        for day in days {
            sink.write(Level::Info, Duration::from_secs(day * 86_400), b"12345678\n").unwrap();
        }
    }

    fn rotating(folder: &Folder, age_days_max: u64, backups_max: usize) -> Sink {
        let rotation = Rotation { size_max: 18, age_days_max, backups_max };
        Sink::open(&Output::File(folder.0.join("e.log")), Some(&rotation)).unwrap()
    }

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_of_too_many_goes() {
        let folder = Folder::new("rotate-count");
        fs::write(folder.0.join("e-notes.log"), "not ours").unwrap();
        write_days(&rotating(&folder, 0, 2), 0..9);
        assert_eq!(
            folder.names(),
            [
                "e-1970-01-07T00-00-00.000.log",
                "e-1970-01-09T00-00-00.000.log",
                "e-notes.log",
                "e.log"
            ]
        );
        let full = fs::read_to_string(folder.0.join("e-1970-01-09T00-00-00.000.log"));
        assert_eq!(full.unwrap(), "12345678\n12345678\n");
    }

    #[test]
    fn a_file_that_is_too_old_goes() {
        let folder = Folder::new("rotate-age");
        write_days(&rotating(&folder, 3, 0), 0..9);
        assert_eq!(
            folder.names(),
            ["e-1970-01-07T00-00-00.000.log", "e-1970-01-09T00-00-00.000.log", "e.log"]
        );
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let folder = Folder::new("append");
        let output = Output::File(folder.0.join("e.log"));
        for _ in 0..2 {
            write_days(&Sink::open(&output, None).unwrap(), 0..1);
        }
        let text = fs::read_to_string(folder.0.join("e.log")).unwrap();
        assert_eq!(text, "12345678\n12345678\n");
    }
}
