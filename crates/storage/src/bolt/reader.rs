//! Reading a bbolt file: buckets, and rows in the order of their keys.
//!
//! # Invariants
//!
//! - A page is checked whole when it is read (its kind, its elements' bounds, the order of its
//!   keys); what is handed out needs no further care.
//! - A walk ends: it descends no deeper than `DEPTH_MAX` and visits no more pages than the file
//!   has.

use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::{
    BUCKET_HEADER_SIZE, ELEMENT_IS_BUCKET, ELEMENT_SIZE, FLAG_BRANCH, FLAG_LEAF, FLAG_META, MAGIC,
    META_SIZE, PAGE_HEADER_SIZE, VERSION, fnv64a,
};
use crate::disk::File;

/// A tree of 16 levels with the least number of children has 65,536 leaves; real ones have
/// hundreds.
const DEPTH_MAX: usize = 32;

/// Page sizes a file may have. The second meta page is looked for behind each.
const PAGE_SIZES: [u64; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// Why a file could not be read (on).
#[derive(Debug)]
pub enum BoltError {
    Io(io::Error),
    /// Neither meta page is whole.
    NotBolt,
    /// A page does not say what a page of its place must say.
    Corrupt {
        page: u64,
        what: &'static str,
    },
}

impl fmt::Display for BoltError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "bbolt: {error}"),
            Self::NotBolt => write!(f, "bbolt: no valid meta page: not a bbolt file, or destroyed"),
            Self::Corrupt { page, what } => write!(f, "bbolt: page {page} is corrupt: {what}"),
        }
    }
}

impl std::error::Error for BoltError {}

impl From<io::Error> for BoltError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An open bbolt file, as of its last transaction.
#[derive(Clone)]
pub struct Reader {
    file: Arc<dyn File>,
    meta: Meta,
    len: u64,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    page_size: u64,
    root: u64,
    n_pages: u64,
    transaction: u64,
}

impl Meta {
    fn decode(page: &[u8]) -> Option<Self> {
        let meta = page.get(PAGE_HEADER_SIZE..PAGE_HEADER_SIZE + META_SIZE)?;
        let (body, checksum) = meta.split_at(META_SIZE - 8);
        let page_size = u64::from(u32_at(meta, 8));
        let is_valid = u16_at(page, 8) & FLAG_META != 0
            && (u32_at(meta, 0), u32_at(meta, 4)) == (MAGIC, VERSION)
            && PAGE_SIZES.contains(&page_size)
            && u64_at(checksum, 0) == fnv64a(body);
        is_valid.then(|| Self {
            page_size,
            root: u64_at(meta, 16),
            n_pages: u64_at(meta, 40),
            transaction: u64_at(meta, 48),
        })
    }
}

impl Reader {
    pub fn open(file: Arc<dyn File>) -> Result<Self, BoltError> {
        let mut metas = Vec::new();
        for at in [0].into_iter().chain(PAGE_SIZES) {
            let mut page = [0; PAGE_HEADER_SIZE + META_SIZE];
            let n = file.read_at(at, &mut page)?;
            let meta = Meta::decode(&page[..n]);
            metas.extend(meta.filter(|meta| at == 0 || at == meta.page_size));
        }
        let newest = metas.into_iter().max_by_key(|meta| meta.transaction);
        let len = file.len()?;
        Ok(Self { file, meta: newest.ok_or(BoltError::NotBolt)?, len })
    }

    /// The bytes in use: what a copy of the file would need.
    pub fn size(&self) -> u64 {
        self.meta.n_pages.saturating_mul(self.meta.page_size)
    }

    /// The bucket that holds the named ones.
    pub fn root(&self) -> Bucket<'_> {
        Bucket { reader: self, tree: Tree::Pages { root: self.meta.root } }
    }

    /// The bucket of that name, if there is one.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_>>, BoltError> {
        let mut cursor = self.root().cursor_at(name)?;
        match cursor.next()? {
            Some(row) if row.key == name && row.is_bucket => {
                let value = row.value.to_vec();
                Ok(Some(Bucket { reader: self, tree: Tree::decode(&value, self.meta.root)? }))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The names of all buckets.
    pub fn bucket_names(&self) -> Result<Vec<Vec<u8>>, BoltError> {
        let mut cursor = self.root().cursor()?;
        let mut names = Vec::new();
        while let Some(row) = cursor.next()? {
            if row.is_bucket {
                names.push(row.key.to_vec());
            }
        }
        Ok(names)
    }

    fn page(&self, id: u64) -> Result<Page, BoltError> {
        let corrupt = |what| BoltError::Corrupt { page: id, what };
        if id < 2 || id >= self.meta.n_pages {
            return Err(corrupt("no such page"));
        }
        let size = self.meta.page_size;
        let at = id.checked_mul(size).ok_or_else(|| corrupt("no such page"))?;
        let mut bytes = Vec::new();
        self.read(id, at, size, &mut bytes)?;
        let n_more = u64::from(u32_at(&bytes, 12));
        if u64_at(&bytes, 0) != id || n_more >= self.meta.n_pages - id {
            return Err(corrupt("header"));
        }
        self.read(id, at + size, n_more * size, &mut bytes)?;
        Page::check(bytes).map_err(corrupt)
    }

    fn read(&self, page: u64, at: u64, len: u64, into: &mut Vec<u8>) -> Result<(), BoltError> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(BoltError::Corrupt { page, what: "behind the end of the file" });
        }
        Ok(self.file.copy_to(at, len as usize, into)?)
    }
}

/// Rows under one name.
pub struct Bucket<'a> {
    reader: &'a Reader,
    tree: Tree,
}

#[derive(Clone)]
enum Tree {
    Pages {
        root: u64,
    },
    /// A small bucket's only page lies in the table of buckets.
    Inline(Vec<u8>),
}

impl Tree {
    /// Of the value of a bucket's entry in the table, which is in the tree of `page`.
    fn decode(value: &[u8], page: u64) -> Result<Self, BoltError> {
        let split = value.split_at_checked(BUCKET_HEADER_SIZE);
        let (header, inline) =
            split.ok_or(BoltError::Corrupt { page, what: "a bucket's header" })?;
        Ok(match u64_at(header, 0) {
            0 => Self::Inline(inline.to_vec()),
            root => Self::Pages { root },
        })
    }
}

impl<'a> Bucket<'a> {
    /// A cursor before the first row.
    pub fn cursor(&self) -> Result<Cursor<'a>, BoltError> {
        self.cursor_at(&[])
    }

    /// A cursor before the first row whose key is `key` or greater.
    pub fn cursor_at(&self, key: &[u8]) -> Result<Cursor<'a>, BoltError> {
        let mut cursor = Cursor { reader: self.reader, path: Vec::new(), n_visited: 0 };
        match &self.tree {
            Tree::Pages { root } => cursor.descend(*root, key)?,
            Tree::Inline(bytes) => {
                let table = self.reader.meta.root;
                let corrupt = |what| BoltError::Corrupt { page: table, what };
                let page = Page::check(bytes.clone()).map_err(corrupt)?;
                if !page.is_leaf {
                    return Err(corrupt("an inline bucket that is no leaf"));
                }
                cursor.enter(page, key);
            }
        }
        Ok(cursor)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BoltError> {
        let mut cursor = self.cursor_at(key)?;
        let row = cursor.next()?.filter(|row| row.key == key && !row.is_bucket);
        Ok(row.map(|row| row.value.to_vec()))
    }
}

/// A row of a bucket.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// The value is then a bucket, of use to [`Reader::bucket`] alone.
    pub is_bucket: bool,
}

/// Walks through a bucket, holding one page per level.
pub struct Cursor<'a> {
    reader: &'a Reader,
    /// From the root down; of each page, the element to come next.
    path: Vec<(Page, usize)>,
    n_visited: u64,
}

impl Cursor<'_> {
    /// The next row, or `None` behind the last.
    #[expect(clippy::should_implement_trait, reason = "a row borrows from the cursor")]
    pub fn next(&mut self) -> Result<Option<Row<'_>>, BoltError> {
        loop {
            let Some((page, at)) = self.path.last_mut() else { return Ok(None) };
            if *at == page.count {
                self.path.pop();
            } else if page.is_leaf {
                *at += 1;
                break;
            } else {
                let child = page.child(*at);
                *at += 1;
                self.descend(child, &[])?;
            }
        }
        let (page, at) = self.path.last().expect("a leaf was found");
        Ok(Some(page.row(*at - 1)))
    }

    /// Goes down from page `id` to the leaf where `key` is or would be.
    fn descend(&mut self, mut id: u64, key: &[u8]) -> Result<(), BoltError> {
        loop {
            self.n_visited += 1;
            if self.path.len() == DEPTH_MAX || self.n_visited > self.reader.meta.n_pages {
                return Err(BoltError::Corrupt { page: id, what: "pages in a circle" });
            }
            let page = self.reader.page(id)?;
            let is_leaf = page.is_leaf;
            self.enter(page, key);
            if is_leaf {
                return Ok(());
            }
            let (page, at) = self.path.last_mut().expect("just entered");
            if *at == page.count {
                return Err(BoltError::Corrupt { page: id, what: "a branch without children" });
            }
            id = page.child(*at);
            *at += 1;
        }
    }

    /// Puts `page` on the path, before the element that holds `key`.
    fn enter(&mut self, page: Page, key: &[u8]) {
        let n_less = page.partition(|k| k.cmp(key) == Ordering::Less);
        // In a branch, keys up to the next element's belong to the one before.
        let holds = page.is_leaf || (n_less < page.count && page.key(n_less) == key);
        let at = if holds { n_less } else { n_less.saturating_sub(1) };
        self.path.push((page, at));
    }
}

/// A leaf or a branch, all overflow included, whose elements have been checked.
struct Page {
    bytes: Vec<u8>,
    is_leaf: bool,
    count: usize,
}

impl Page {
    fn check(bytes: Vec<u8>) -> Result<Self, &'static str> {
        if bytes.len() < PAGE_HEADER_SIZE {
            return Err("header");
        }
        let is_leaf = match u16_at(&bytes, 8) {
            FLAG_LEAF => true,
            FLAG_BRANCH => false,
            _ => return Err("neither leaf nor branch"),
        };
        let page = Self { is_leaf, count: u16_at(&bytes, 10).into(), bytes };
        let data_at = PAGE_HEADER_SIZE + page.count * ELEMENT_SIZE;
        if data_at > page.bytes.len() {
            return Err("more elements than it has room for");
        }
        for i in 0..page.count {
            let Range { start, end } = page.extent(i);
            if start < data_at as u64 || end > page.bytes.len() as u64 {
                return Err("an element points outside");
            }
        }
        if (1..page.count).any(|i| page.key(i - 1) >= page.key(i)) {
            return Err("keys out of order");
        }
        Ok(page)
    }

    fn element(&self, i: usize) -> &[u8] {
        let at = PAGE_HEADER_SIZE + i * ELEMENT_SIZE;
        &self.bytes[at..at + ELEMENT_SIZE]
    }

    /// Where key and value of element `i` begin, and the lengths of both.
    fn parts(&self, i: usize) -> (u64, u64, u64) {
        let element = self.element(i);
        let at = (PAGE_HEADER_SIZE + i * ELEMENT_SIZE) as u64;
        let number = |offset| u64::from(u32_at(element, offset));
        if self.is_leaf {
            (at + number(4), number(8), number(12))
        } else {
            (at + number(0), number(4), 0)
        }
    }

    fn extent(&self, i: usize) -> Range<u64> {
        let (at, key_len, value_len) = self.parts(i);
        at..at + key_len + value_len
    }

    fn key(&self, i: usize) -> &[u8] {
        let (at, key_len, _) = self.parts(i);
        &self.bytes[at as usize..(at + key_len) as usize]
    }

    fn row(&self, i: usize) -> Row<'_> {
        let (at, key_len, _) = self.parts(i);
        let value = &self.bytes[(at + key_len) as usize..self.extent(i).end as usize];
        let flags = u32_at(self.element(i), 0);
        Row { key: self.key(i), value, is_bucket: flags & ELEMENT_IS_BUCKET != 0 }
    }

    fn child(&self, i: usize) -> u64 {
        u64_at(self.element(i), 8)
    }

    /// How many of the keys, from the first on, are as `before` says.
    fn partition(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if before(self.key(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
