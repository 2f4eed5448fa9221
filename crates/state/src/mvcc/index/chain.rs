//! One key's points in time.
//!
//! Most keys of most clusters have one point. It is packed into 32 bytes without an allocation; the
//! rest has a list. Nothing outside sees the difference.

use storage::revlog::Place;

use super::Fate;

/// A key at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) main: i64,
    pub(crate) sub: u32,
    pub(crate) tombstone: bool,
    /// Whether a lease was attached, so that the next put knows it has one to detach.
    pub(crate) leased: bool,
    pub(crate) place: Place,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
}

impl Point {
    pub(crate) fn order(&self) -> (i64, u32) {
        (self.main, self.sub)
    }
}

/// The points of one key, oldest first. Never empty.
pub(crate) enum Chain {
    /// One point that is no tombstone, its numbers small enough to be packed.
    Lone(Lone),
    Long(Vec<Point>),
}

#[derive(Clone, Copy)]
pub(crate) struct Lone {
    main: i64,
    place: Place,
    /// The highest bit says that a lease is attached.
    sub: u32,
    /// How many revisions ago the key was created.
    age: u32,
    version: u32,
}

const LEASED: u32 = 1 << 31;
const _: () = assert!(size_of::<Chain>() <= 32, "a million keys count on it");

impl Lone {
    fn pack(point: &Point) -> Option<Self> {
        if point.tombstone || point.sub >= LEASED {
            return None;
        }
        Some(Self {
            main: point.main,
            place: point.place,
            sub: point.sub | if point.leased { LEASED } else { 0 },
            age: u32::try_from(point.main - point.create_revision).ok()?,
            version: u32::try_from(point.version).ok()?,
        })
    }

    fn unpack(&self) -> Point {
        Point {
            main: self.main,
            sub: self.sub & !LEASED,
            tombstone: false,
            leased: self.sub & LEASED != 0,
            place: self.place,
            create_revision: self.main - i64::from(self.age),
            version: i64::from(self.version),
        }
    }
}

impl Chain {
    pub(crate) fn new(point: Point) -> Self {
        match Lone::pack(&point) {
            Some(lone) => Self::Lone(lone),
            None => Self::Long(vec![point]),
        }
    }

    /// Its points, at least one.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Lone(_) => 1,
            Self::Long(points) => points.len(),
        }
    }

    pub(crate) fn newest(&self) -> Point {
        match self {
            Self::Lone(lone) => lone.unpack(),
            Self::Long(points) => *points.last().expect("a chain is never empty"),
        }
    }

    /// The key as of revision `main`; `None` if it was not there.
    pub(crate) fn at(&self, main: i64) -> Option<Point> {
        match self {
            Self::Lone(lone) => (lone.main <= main).then(|| lone.unpack()),
            Self::Long(points) => {
                let newest = points.last().expect("a chain is never empty");
                let point = if newest.main <= main {
                    newest
                } else {
                    let n = points.partition_point(|p| p.main <= main);
                    points[..n].last()?
                };
                (!point.tombstone).then_some(*point)
            }
        }
    }

    pub(crate) fn is_live_at(&self, main: i64) -> bool {
        match self {
            Self::Lone(lone) => lone.main <= main,
            Self::Long(_) => self.at(main).is_some(),
        }
    }

    /// Calls `visit` for each point with `from` ≤ main ≤ `to`, oldest first.
    pub(crate) fn within(&self, from: i64, to: i64, mut visit: impl FnMut(&Point)) {
        match self {
            Self::Lone(lone) => {
                if from <= lone.main && lone.main <= to {
                    visit(&lone.unpack());
                }
            }
            Self::Long(points) => {
                let start = points.partition_point(|p| p.main < from);
                points[start..].iter().take_while(|p| p.main <= to).for_each(visit);
            }
        }
    }

    /// # Panics
    ///
    /// If `point` isn't newer than all others.
    pub(crate) fn push(&mut self, point: Point) {
        let newest = self.newest().order();
        assert!(newest < point.order(), "{:?} is put after {newest:?}", point.order());
        match self {
            Self::Lone(lone) => {
                *self = Self::Long(vec![lone.unpack(), point]);
            }
            Self::Long(points) => points.push(point),
        }
    }

    pub(crate) fn replace_newest(&mut self, point: Point) {
        match self {
            Self::Lone(_) => *self = Self::new(point),
            Self::Long(points) => *points.last_mut().expect("a chain is never empty") = point,
        }
    }

    /// Forgets what a compaction at `main` gives up, and tells `visit` the fate of each point at or below
    /// it. False if nothing is left.
    pub(crate) fn prune(&mut self, main: i64, mut visit: impl FnMut(Fate, Point)) -> bool {
        let points = match self {
            Self::Lone(lone) => {
                if lone.main <= main {
                    visit(Fate::Kept, lone.unpack());
                }
                return true;
            }
            Self::Long(points) => points,
        };
        let n = points.partition_point(|p| p.main <= main);
        let keep = points[..n].last().is_some_and(|p| !p.tombstone || p.main == main);
        let drop = n - usize::from(keep);
        points.drain(..drop).for_each(|point| visit(Fate::Dropped, point));
        if keep {
            visit(Fate::Kept, points[0]);
        }
        match points.as_slice() {
            [] => return false,
            [point] => {
                if let Some(lone) = Lone::pack(point) {
                    *self = Self::Lone(lone);
                }
            }
            _ if drop > 0 => points.shrink_to_fit(),
            _ => {}
        }
        true
    }

    /// What the hash at revision `main` takes a compaction there to keep: the newest point at or below it,
    /// unless that is a tombstone.
    pub(crate) fn kept(&self, main: i64) -> Option<(i64, u32)> {
        self.at(main).map(|point| point.order())
    }

    /// What a compaction at `main` leaves of all that lies at or below it.
    pub(crate) fn survivor(&self, main: i64) -> Option<(i64, u32)> {
        match self {
            Self::Lone(lone) => (lone.main <= main).then(|| lone.unpack().order()),
            Self::Long(points) => {
                let newest = points[..points.partition_point(|p| p.main <= main)].last()?;
                (!newest.tombstone || newest.main == main).then(|| newest.order())
            }
        }
    }

    pub(crate) fn relocate(&mut self, order: (i64, u32), old: Place, new: Place) -> bool {
        let place = match self {
            Self::Lone(lone) if (lone.main, lone.sub & !LEASED) == order => &mut lone.place,
            Self::Lone(_) => return false,
            Self::Long(points) => match points.binary_search_by_key(&order, Point::order) {
                Ok(i) => &mut points[i].place,
                Err(_) => return false,
            },
        };
        if *place != old {
            return false;
        }
        *place = new;
        true
    }
}
