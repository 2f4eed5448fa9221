//! Writing a bbolt file from its first byte to its last, without seeking and without holding it.
//!
//! # Invariants
//!
//! - Memory: one unfinished page per level of the tree being written, and small buckets whole;
//!   never a value that doesn't fit a page.
//! - Keys of a bucket strictly ascend.   (asserted)

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use super::{
    BUCKET_HEADER_SIZE, ELEMENT_IS_BUCKET, ELEMENT_SIZE, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF,
    FLAG_META, MAGIC, PAGE_HEADER_SIZE, PAGE_SIZE, VERSION, fnv64a,
};

/// A bucket that is no larger lives inside its entry in the table of buckets, as bbolt does it.
const INLINE_MAX: usize = PAGE_SIZE / 4;

const FREELIST_AT: u64 = 2;
const FIRST_TREE_PAGE: u64 = 3;

/// What becomes of a row: key and value.
pub type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<()> + 'a;

/// What becomes of a row of which the value's length is enough.
pub type EachSize<'a> = dyn FnMut(&[u8], usize) -> io::Result<()> + 'a;

/// Where the file goes, a page or more at a time.
pub type Out<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// The rows of a bucket. Both methods must give the same rows, in ascending order of their keys.
pub trait Rows {
    /// Calls `each` with every key and the length of its value.
    fn sizes(&self, each: &mut EachSize) -> io::Result<()> {
        self.rows(&mut |key, value| each(key, value.len()))
    }

    /// Calls `each` with every key and value.
    fn rows(&self, each: &mut EachRow) -> io::Result<()>;
}

impl Rows for BTreeMap<Vec<u8>, Vec<u8>> {
    fn rows(&self, each: &mut EachRow) -> io::Result<()> {
        self.iter().try_for_each(|(key, value)| each(key, value))
    }
}

/// A bucket to be written.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    pub name: &'a [u8],
    pub rows: &'a dyn Rows,
}

/// A file whose size is known, and that is yet to be written.
pub struct Plan<'a> {
    buckets: Vec<Bucket<'a>>,
    shape: Shape,
}

/// What the meta pages say of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    root: u64,
    n_pages: u64,
}

impl<'a> Plan<'a> {
    /// Measures the file that is to hold `buckets`, which may come in any order.
    pub fn new(mut buckets: Vec<Bucket<'a>>) -> io::Result<Self> {
        buckets.sort_by_key(|bucket| bucket.name);
        let unique = buckets.is_sorted_by(|a, b| a.name < b.name);
        assert!(unique && buckets.iter().all(|b| !b.name.is_empty()), "a bucket has its own name");
        let mut pages = Pages { n: FIRST_TREE_PAGE, out: None };
        let measure = |bucket: &Bucket, tree: &mut Tree, pages: &mut Pages| {
            bucket.rows.sizes(&mut |key, len| tree.row(pages, 0, key, Value::Unread(len)))
        };
        let root = write_trees(&buckets, &mut pages, measure)?;
        Ok(Self { buckets, shape: Shape { root, n_pages: pages.n } })
    }

    /// How many bytes `write` will give.
    pub fn size(&self) -> u64 {
        self.shape.n_pages * PAGE_SIZE as u64
    }

    /// Gives the file to `out`, piece by piece.
    ///
    /// # Errors
    ///
    /// Those of `out` and of the rows; `InvalidData` if the rows are not those that were measured.
    pub fn write(&self, out: &mut Out) -> io::Result<()> {
        for id in [0, 1] {
            out(&meta_page(id, self.shape))?;
        }
        let mut freelist = header(FREELIST_AT, FLAG_FREELIST, 0, 0).to_vec();
        freelist.resize(PAGE_SIZE, 0);
        out(&freelist)?;

        let mut pages = Pages { n: FIRST_TREE_PAGE, out: Some(out) };
        let copy = |bucket: &Bucket, tree: &mut Tree, pages: &mut Pages| {
            bucket.rows.rows(&mut |key, value| tree.row(pages, 0, key, Value::Bytes(value)))
        };
        let root = write_trees(&self.buckets, &mut pages, copy)?;
        if self.shape != (Shape { root, n_pages: pages.n }) {
            let what = "the rows of a bucket changed while they were written";
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        Ok(())
    }
}

/// Writes the tree of each bucket, then that of the buckets; the answer is its root.
fn write_trees(
    buckets: &[Bucket],
    pages: &mut Pages,
    mut fill: impl FnMut(&Bucket, &mut Tree, &mut Pages) -> io::Result<()>,
) -> io::Result<u64> {
    let mut table = Tree::default();
    for bucket in buckets {
        let mut tree = Tree::default();
        fill(bucket, &mut tree, pages)?;
        let value = tree.finish_bucket(pages)?;
        table.row(pages, ELEMENT_IS_BUCKET, bucket.name, Value::Bytes(&value))?;
    }
    table.finish(pages)
}

/// A value, or in the first pass only how long it is.
#[derive(Clone, Copy)]
enum Value<'a> {
    Unread(usize),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn len(self) -> usize {
        match self {
            Self::Unread(len) => len,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Unread(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Where pages go: they are numbered, and written unless this is the first pass.
struct Pages<'a> {
    n: u64,
    out: Option<&'a mut Out<'a>>,
}

impl Pages<'_> {
    /// Puts a page of `node` (and of `value`, if it is the value of the node's only element).
    fn put(&mut self, node: &Node, flags: u16, value: Value) -> io::Result<u64> {
        let id = self.n;
        let size = node.size() + value.len();
        let n_pages = size.div_ceil(PAGE_SIZE);
        self.n += n_pages as u64;
        if let Some(out) = &mut self.out {
            let n_more = u32::try_from(n_pages - 1).expect("a row shorter than 16 TiB");
            let mut page = node.bytes(id, flags, n_more);
            let padding = n_pages * PAGE_SIZE - size;
            if value.len() > 0 {
                out(&page)?;
                out(value.bytes())?;
                page.clear();
            }
            page.resize(page.len() + padding, 0);
            out(&page)?;
        }
        Ok(id)
    }
}

/// A page under construction: elements, and the keys and values they point to.
#[derive(Default)]
struct Node {
    /// Of each element its two numbers beside the position, as they are in the file.
    elements: Vec<Element>,
    data: Vec<u8>,
    /// Counts values even if they are not there.
    data_len: usize,
}

#[derive(Clone, Copy)]
enum Element {
    Branch { key_len: usize, child: u64 },
    Leaf { flags: u32, key_len: usize, value_len: usize },
}

impl Element {
    fn data_len(self) -> usize {
        match self {
            Self::Branch { key_len, .. } => key_len,
            Self::Leaf { key_len, value_len, .. } => key_len + value_len,
        }
    }
}

impl Node {
    fn size(&self) -> usize {
        PAGE_HEADER_SIZE + self.elements.len() * ELEMENT_SIZE + self.data_len
    }

    fn push(&mut self, element: Element, key: &[u8], value: Value) {
        self.elements.push(element);
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value.bytes());
        self.data_len += key.len() + value.len();
    }

    /// Length of the key of the first element; the data starts with it.
    fn first_key(&self) -> &[u8] {
        match self.elements.first() {
            Some(Element::Branch { key_len, .. } | Element::Leaf { key_len, .. }) => {
                &self.data[..*key_len]
            }
            None => &[],
        }
    }

    /// The page, without padding.
    fn bytes(&self, id: u64, flags: u16, n_more: u32) -> Vec<u8> {
        let count = u16::try_from(self.elements.len()).expect("a page has room for 255 elements");
        let mut page = Vec::with_capacity(PAGE_SIZE);
        page.extend_from_slice(&header(id, flags, count, n_more));
        // A position counts from its own element.
        let mut at = self.elements.len() * ELEMENT_SIZE;
        for element in &self.elements {
            let position = at_most_u32(at);
            match *element {
                Element::Branch { key_len, child } => {
                    page.extend_from_slice(&position);
                    page.extend_from_slice(&at_most_u32(key_len));
                    page.extend_from_slice(&child.to_le_bytes());
                }
                Element::Leaf { flags, key_len, value_len } => {
                    page.extend_from_slice(&flags.to_le_bytes());
                    page.extend_from_slice(&position);
                    page.extend_from_slice(&at_most_u32(key_len));
                    page.extend_from_slice(&at_most_u32(value_len));
                }
            }
            at = at + element.data_len() - ELEMENT_SIZE;
        }
        page.extend_from_slice(&self.data);
        page
    }
}

fn at_most_u32(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a key or value of less than 4 GiB").to_le_bytes()
}

/// A tree that grows from the left: its leaf, and the branches above it.
#[derive(Default)]
struct Tree {
    leaf: Node,
    /// From the leaves up.
    branches: Vec<Node>,
    last_key: Vec<u8>,
    n_rows: u64,
}

impl Tree {
    fn row(&mut self, pages: &mut Pages, flags: u32, key: &[u8], value: Value) -> io::Result<()> {
        assert!(self.n_rows == 0 || *self.last_key < *key, "keys ascend");
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.n_rows += 1;

        let element = Element::Leaf { flags, key_len: key.len(), value_len: value.len() };
        let size = ELEMENT_SIZE + key.len() + value.len();
        if !self.leaf.elements.is_empty() && self.leaf.size() + size > PAGE_SIZE {
            self.end_leaf(pages, Value::Unread(0))?;
        }
        if PAGE_HEADER_SIZE + size > PAGE_SIZE {
            // Alone on pages of its own, past our buffers.
            self.leaf.push(element, key, Value::Unread(0));
            return self.end_leaf(pages, value);
        }
        self.leaf.push(element, key, value);
        Ok(())
    }

    fn end_leaf(&mut self, pages: &mut Pages, value: Value) -> io::Result<()> {
        let leaf = std::mem::take(&mut self.leaf);
        let child = pages.put(&leaf, FLAG_LEAF, value)?;
        self.adopt(pages, 0, leaf.first_key(), child)
    }

    /// Adds a finished page to the branch at `level`.
    fn adopt(&mut self, pages: &mut Pages, level: usize, key: &[u8], child: u64) -> io::Result<()> {
        if self.branches.len() == level {
            self.branches.push(Node::default());
        }
        let branch = &mut self.branches[level];
        let element = Element::Branch { key_len: key.len(), child };
        if branch.elements.len() > 2 && branch.size() + ELEMENT_SIZE + key.len() > PAGE_SIZE {
            // The last child goes over to the new branch, so that it can't end up with only one.
            let mut full = std::mem::take(branch);
            let moved = full.elements.pop().expect("more than two");
            full.data_len -= moved.data_len();
            branch.push(moved, &full.data[full.data_len..], Value::Unread(0));
            full.data.truncate(full.data_len);
            branch.push(element, key, Value::Unread(0));
            let id = pages.put(&full, FLAG_BRANCH, Value::Unread(0))?;
            return self.adopt(pages, level + 1, full.first_key(), id);
        }
        branch.push(element, key, Value::Unread(0));
        Ok(())
    }

    /// Puts what is unfinished; the answer is the root.
    fn finish(mut self, pages: &mut Pages) -> io::Result<u64> {
        if self.branches.is_empty() {
            return pages.put(&self.leaf, FLAG_LEAF, Value::Unread(0));
        }
        if !self.leaf.elements.is_empty() {
            self.end_leaf(pages, Value::Unread(0))?;
        }
        let mut level = 0;
        loop {
            let branch = std::mem::take(&mut self.branches[level]);
            let is_top = level + 1 == self.branches.len();
            if let (true, [Element::Branch { child, .. }]) = (is_top, &branch.elements[..]) {
                return Ok(*child); // The only leaf needs no branch.
            }
            let id = pages.put(&branch, FLAG_BRANCH, Value::Unread(0))?;
            if is_top {
                return Ok(id);
            }
            level += 1;
            self.adopt(pages, level, branch.first_key(), id)?;
        }
    }

    /// As [`Tree::finish`]; the answer is what the table of buckets says of it.
    fn finish_bucket(self, pages: &mut Pages) -> io::Result<Vec<u8>> {
        let mut value = Vec::with_capacity(BUCKET_HEADER_SIZE);
        if self.branches.is_empty() && self.leaf.size() <= INLINE_MAX {
            value.resize(BUCKET_HEADER_SIZE, 0);
            value.extend_from_slice(&self.leaf.bytes(0, FLAG_LEAF, 0));
            // In the first pass the values are missing, but not their room.
            value.resize(BUCKET_HEADER_SIZE + self.leaf.size(), 0);
        } else {
            value.extend_from_slice(&self.finish(pages)?.to_le_bytes());
            value.extend_from_slice(&[0; 8]); // The sequence, of which etcd makes no use.
        }
        Ok(value)
    }
}

fn header(id: u64, flags: u16, count: u16, n_more: u32) -> [u8; PAGE_HEADER_SIZE] {
    let mut header = [0; PAGE_HEADER_SIZE];
    header[..8].copy_from_slice(&id.to_le_bytes());
    header[8..10].copy_from_slice(&flags.to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&n_more.to_le_bytes());
    header
}

fn meta_page(id: u64, shape: Shape) -> Vec<u8> {
    let mut meta = Vec::with_capacity(PAGE_SIZE);
    for number in [MAGIC, VERSION, PAGE_SIZE as u32, 0] {
        meta.extend_from_slice(&number.to_le_bytes());
    }
    // Root page and sequence, freelist, number of pages, transaction (which says where the next
    // one's meta goes).
    for number in [shape.root, 0, FREELIST_AT, shape.n_pages, id] {
        meta.extend_from_slice(&number.to_le_bytes());
    }
    let checksum = fnv64a(&meta);
    meta.extend_from_slice(&checksum.to_le_bytes());
    let mut page = header(id, FLAG_META, 0, 0).to_vec();
    page.append(&mut meta);
    page.resize(PAGE_SIZE, 0);
    page
}
