use super::*;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, process};

/// A folder that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("retcd-disk-{}-{n}", process::id()));
        RealDisk.create_dir(&path.join("a/b")).expect("a folder");
        Self(path.join("a/b"))
    }

    fn file(&self) -> Arc<dyn File> {
        RealDisk.create(&self.0.join("file")).expect("a file")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let root = self.0.ancestors().nth(2).expect("two folders up");
        fs::remove_dir_all(root).expect("removed");
    }
}

#[test]
fn folders_and_files_are_the_owners_alone() {
    let scratch = Scratch::new();
    scratch.file();
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&scratch.0), 0o700);
    assert_eq!(mode(scratch.0.parent().expect("a parent")), 0o700);
    assert_eq!(mode(&scratch.0.join("file")), 0o600);
    RealDisk.create_dir(&scratch.0).expect("making it again changes nothing");
    assert_eq!(RealDisk.list(&scratch.0).expect("a list"), ["file"]);
}

#[test]
fn what_was_written_is_read_mapped_or_not() {
    let scratch = Scratch::new();
    let file = scratch.file();
    file.write_at(0, b"hello").expect("written");
    let read = |offset, len| {
        let mut out = b">".to_vec();
        file.copy_to(offset, len, &mut out).map(|()| out)
    };
    assert_eq!(read(1, 3).expect("read"), b">ell");
    file.map(1 << 30).expect("mapped, as far as it goes");
    assert_eq!(read(1, 4).expect("read"), b">ello");

    file.write_at(5, b" there").expect("grown");
    assert_eq!(read(3, 5).expect("read past the mapping"), b">lo th");
    file.map(11).expect("mapped further");
    file.write_at(0, b"J").expect("changed under the mapping");
    assert_eq!(read(0, 11).expect("read"), b">Jello there");
    assert_eq!(read(8, 4).expect_err("too far").kind(), ErrorKind::UnexpectedEof);
    assert_eq!(read(u64::MAX, 4).expect_err("too far").kind(), ErrorKind::UnexpectedEof);

    let mut into = [0; 8];
    assert_eq!(file.read_at(6, &mut into).expect("read"), 5);
    assert_eq!(&into[..5], b"there");
}

#[test]
fn a_failed_copy_leaves_the_target_as_it_was() {
    let scratch = Scratch::new();
    let file = scratch.file();
    file.set_len(3).expect("extended");
    let mut out = b"kept".to_vec();
    file.copy_to(0, 4, &mut out).expect_err("the file is shorter");
    assert_eq!(out, b"kept");
}

#[test]
#[should_panic(expected = "a mapped file must not be cut")]
fn a_mapped_file_refuses_to_be_cut() {
    let scratch = Scratch::new();
    let file = scratch.file();
    file.set_len(10).expect("extended");
    file.map(10).expect("mapped");
    drop(file.set_len(9));
}

#[test]
fn a_locked_path_is_refused_until_the_guard_goes() {
    let scratch = Scratch::new();
    let path = scratch.0.join("lock");
    let guard = RealDisk.lock(&path).expect("free");
    let refused = RealDisk.lock(&path).err().expect("taken");
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    drop(guard);
    RealDisk.lock(&path).expect("free again");
}
