//! The folders of a simulated disk: the names as they are, as they rest, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Inode, Luck};

#[derive(Clone, Default)]
pub(super) struct Names {
    folders: BTreeSet<PathBuf>,
    current: BTreeMap<PathBuf, Inode>,
    durable: BTreeMap<PathBuf, Inode>,
    /// Changes whose folder has not been synced since, in the order they were made.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Create { path: PathBuf, inode: Inode },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    Remove { path: PathBuf },
}

impl Change {
    fn touches(&self, dir: &Path) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => path.parent() == Some(dir),
            Self::Rename { from, to, .. } => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }

    fn make(self, names: &mut BTreeMap<PathBuf, Inode>) {
        match self {
            Self::Create { path, inode } => {
                names.insert(path, inode);
            }
            Self::Rename { from: _, to, inode } => {
                // A file has one name, even if an earlier rename of it got lost.
                names.retain(|_, other| !Arc::ptr_eq(other, &inode));
                names.insert(to, inode);
            }
            Self::Remove { path } => {
                names.remove(&path);
            }
        }
    }
}

impl Names {
    pub(super) fn find(&self, path: &Path) -> io::Result<Inode> {
        if self.is_folder(path) {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.current.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The file of that name; a new one if there is none.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<Inode> {
        match self.find(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
        self.check_folder_of(path)?;
        let inode = Inode::default();
        self.change(Change::Create { path: path.to_owned(), inode: Arc::clone(&inode) });
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        self.check_folder_of(to)?;
        if self.is_folder(to) {
            return Err(ErrorKind::IsADirectory.into());
        }
        if from != to {
            self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(Change::Remove { path: path.to_owned() });
        Ok(())
    }

    pub(super) fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        for folder in dir.ancestors() {
            if self.current.contains_key(folder) {
                return Err(ErrorKind::NotADirectory.into());
            }
            self.folders.insert(folder.to_owned());
        }
        Ok(())
    }

    /// What was in the folder, and might have come back, is gone with it.
    pub(super) fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.sync(dir)?;
        self.folders.remove(dir);
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.is_folder(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let all = self.current.keys().chain(&self.folders);
        let inside = all.filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect())
    }

    pub(super) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        if !self.is_folder(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        for change in std::mem::take(&mut self.pending) {
            if change.touches(dir) {
                change.make(&mut self.durable);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    /// The names and files found after a crash: of the pending changes any subset, in their order.
    pub(super) fn survive(&self, luck: &mut Luck<'_>) -> Self {
        let mut durable = self.durable.clone();
        for change in &self.pending {
            if luck.spares() {
                change.clone().make(&mut durable);
            }
        }
        for inode in durable.values_mut() {
            let found = inode.lock().expect("no panic within").survive(luck);
            *inode = Arc::new(Mutex::new(found));
        }
        let folders = self.folders.clone();
        Self { folders, current: durable.clone(), durable, pending: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        change.clone().make(&mut self.current);
        self.pending.push(change);
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.folders.contains(path)
    }

    fn check_folder_of(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if self.is_folder(folder) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }
}
