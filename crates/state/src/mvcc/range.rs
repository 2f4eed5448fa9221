//! Ranges: rows, in key order or sorted, straight into the response.
//!
//! A plain range is one walk over the index; each row's stored bytes are copied into the response as
//! they are. Where order or filter is the client's own, all rows are gathered first, as etcd does.
//!
//! # Invariants
//!
//! - `count` is the number of keys in the interval, whatever limit and filters leave of them.
//! - With `keys_only` no value is touched, unless the order is by value; the lease is then absent too.
//! - Rows that are equal in the client's order stay in key order.

use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, ResponseHeader};
use proto::mvccpb::KeyValue;

use super::Mvcc;
use super::index::{Point, Span};
use crate::encode::{self, KeyValueParts};
use crate::fault::{Fatal, Stop};

// The fields of a RangeResponse.
pub(super) const KVS: u32 = 2;
pub(super) const MORE: u32 = 3;
pub(super) const COUNT: u32 = 4;

/// Whether keys come in their own order, so that a walk needs no sorting.
pub(crate) fn is_key_ordered(request: &RangeRequest) -> bool {
    let by_key = request.sort_target == SortTarget::Key as i32;
    request.sort_order == SortOrder::None as i32
        || (by_key && request.sort_order == SortOrder::Ascend as i32)
}

/// Whether one walk over the keys is the answer. etcd sorts by anything but the key even when told no
/// order.
pub(super) fn is_plain(request: &RangeRequest) -> bool {
    let by_key = request.sort_target == SortTarget::Key as i32;
    is_key_ordered(request)
        && !is_filtered(request)
        && (by_key || request.sort_order != SortOrder::None as i32)
}

pub(crate) fn is_filtered(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// No limit, for which clients also send negative ones.
pub(super) fn limit(request: &RangeRequest) -> usize {
    match usize::try_from(request.limit) {
        Ok(limit @ 1..) => limit,
        Ok(0) | Err(_) => usize::MAX,
    }
}

impl Mvcc {
    /// Appends the response to `request`. Its revision is read, whatever `header` says.
    pub(crate) fn range(
        &self,
        request: &RangeRequest,
        header: ResponseHeader,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        self.range_within(request, header, usize::MAX, out).map(drop)
    }

    /// As `range`; gives up when a walk over the keys has written more than `size_max`.
    pub(crate) fn range_within(
        &self,
        request: &RangeRequest,
        header: ResponseHeader,
        size_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Fit, Stop> {
        let at = self.readable(request.revision)?;
        let span = Span::new(&request.key, &request.range_end);
        encode::header(out, &ResponseHeader { revision: self.now(), ..header });
        if request.count_only {
            encode::signed(out, COUNT, self.index.count(&span, at));
            return Ok(Fit::Whole);
        }
        let counts = if is_plain(request) {
            match self.walk(request, &span, at, size_max, out)? {
                Some(counts) => counts,
                None => return Ok(Fit::TooLong),
            }
        } else {
            self.gather(request, &span, at, out)?
        };
        encode::flag(out, MORE, counts.more);
        encode::signed(out, COUNT, counts.total);
        Ok(Fit::Whole)
    }

    fn walk(
        &self,
        request: &RangeRequest,
        span: &Span,
        at: i64,
        size_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<Counts>, Fatal> {
        let limit = limit(request);
        let full_at = out.len().saturating_add(size_max);
        let mut rows = self.index.scan(span, at);
        let mut n = 0;
        for (key, point) in rows.by_ref().take(limit) {
            self.row(request.keys_only, key, &point, out)?;
            n += 1;
            if out.len() > full_at {
                return Ok(None);
            }
        }
        let beyond = rows.count();
        Ok(Some(Counts { total: (n + beyond) as i64, more: beyond > 0 }))
    }

    /// Appends one row, from the index alone or as it is stored.
    pub(super) fn row(
        &self,
        key_only: bool,
        key: &[u8],
        point: &Point,
        out: &mut Vec<u8>,
    ) -> Result<(), Fatal> {
        if !key_only {
            return self.copy(KVS, point, out);
        }
        let parts = KeyValueParts {
            key,
            create_revision: point.create_revision,
            mod_revision: point.main,
            version: point.version,
            value: &[],
            lease: 0,
        };
        encode::nested(out, KVS, |out| encode::key_value_fields(out, parts));
        Ok(())
    }

    fn gather(
        &self,
        request: &RangeRequest,
        span: &Span,
        at: i64,
        out: &mut Vec<u8>,
    ) -> Result<Counts, Fatal> {
        let by_value = request.sort_target == SortTarget::Value as i32;
        let limit = limit(request);
        // Told a target but no order, etcd sorts only what a walk by key would have shown.
        let first = is_key_ordered(request) && !is_filtered(request);
        let rows_max = if first { limit.saturating_add(1) } else { usize::MAX };
        let mut total = 0;
        let mut rows = Vec::new();
        for (key, point) in self.index.scan(span, at) {
            total += 1;
            if rows.len() < rows_max && passes(request, &point) {
                let kv = if by_value { Some(self.key_value(&point)?) } else { None };
                rows.push(Row { key, point, kv });
            }
        }
        sort(request, &mut rows);
        for row in rows.iter().take(limit) {
            match &row.kv {
                Some(kv) if request.keys_only => encode_without_value(kv, out),
                Some(_) | None => self.row(request.keys_only, row.key, &row.point, out)?,
            }
        }
        Ok(Counts { total, more: rows.len() > limit })
    }
}

/// Whether a response was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Whole,
    /// It was begun and has to be thrown away: see [`super::long::LongRange`].
    TooLong,
}

struct Counts {
    total: i64,
    more: bool,
}

struct Row<'a> {
    key: &'a [u8],
    point: Point,
    /// Read if it is sorted by.
    kv: Option<KeyValue>,
}

fn passes(request: &RangeRequest, point: &Point) -> bool {
    let within = |n: i64, min: i64, max: i64| (min == 0 || n >= min) && (max == 0 || n <= max);
    within(point.main, request.min_mod_revision, request.max_mod_revision)
        && within(point.create_revision, request.min_create_revision, request.max_create_revision)
}

fn sort(request: &RangeRequest, rows: &mut [Row<'_>]) {
    // The numbers have been checked before anything was proposed; a txn of a stranger's log may still
    // hold others, which then mean nothing.
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    let order = SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None);
    let compare = |a: &Row<'_>, b: &Row<'_>| match target {
        SortTarget::Key => a.key.cmp(b.key),
        SortTarget::Version => a.point.version.cmp(&b.point.version),
        SortTarget::Create => a.point.create_revision.cmp(&b.point.create_revision),
        SortTarget::Mod => a.point.main.cmp(&b.point.main),
        SortTarget::Value => value(a).cmp(value(b)),
    };
    match order {
        SortOrder::None if target == SortTarget::Key => {}
        SortOrder::None | SortOrder::Ascend => rows.sort_by(compare),
        SortOrder::Descend => rows.sort_by(|a, b| compare(a, b).reverse()),
    }
}

fn value<'a>(row: &'a Row<'_>) -> &'a [u8] {
    row.kv.as_ref().map_or(&[], |kv| &kv.value)
}

fn encode_without_value(kv: &KeyValue, out: &mut Vec<u8>) {
    let parts = KeyValueParts {
        key: &kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: &[],
        lease: kv.lease,
    };
    encode::nested(out, KVS, |out| encode::key_value_fields(out, parts));
}
