//! Ranges: rows, in key order or sorted, straight into the response.
//!
//! A plain range is one walk over the index; each row's stored bytes are copied into the response as
//! they are. Where order or filter is the client's own, rows are picked first, see [`super::picks`]. What
//! takes too long for one go is a [`LongRange`]'s.
//!
//! # Invariants
//!
//! - `count` is the number of keys in the interval, whatever limit and filters leave of them.
//! - With `keys_only` no value is touched, unless the order is by value; the lease is then absent too.

use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, ResponseHeader};
use proto::mvccpb::KeyValue;

use super::Mvcc;
use super::index::{Point, Span};
use super::long::LongRange;
use super::stream::Turn;
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
    let as_they_are = is_key_ordered(request)
        && !is_filtered(request)
        && (by_key || request.sort_order != SortOrder::None as i32);
    request.count_only || as_they_are
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

/// How many rows a walk shows.
pub(super) fn rows_max(request: &RangeRequest) -> usize {
    if request.count_only { 0 } else { limit(request) }
}

/// How much of a range may be done in one go.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce {
    /// Bytes of the response, and a row.
    pub bytes: usize,
    /// Keys looked at.
    pub keys: usize,
}

impl AtOnce {
    /// However long it takes.
    pub(crate) const ALL: Self = Self { bytes: usize::MAX, keys: usize::MAX };
}

/// Whether a response was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Whole,
    /// It was begun and has to be thrown away: see [`LongRead`](crate::LongRead).
    TooLong,
}

impl Mvcc {
    /// Appends the response to `request`. Its revision is read, whatever `header` says.
    pub(crate) fn range(
        &self,
        request: &RangeRequest,
        header: ResponseHeader,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        self.range_within(request, header, AtOnce::ALL, out).map(drop)
    }

    /// As `range`; gives up when it is too much for one go.
    pub(crate) fn range_within(
        &self,
        request: &RangeRequest,
        header: ResponseHeader,
        most: AtOnce,
        out: &mut Vec<u8>,
    ) -> Result<Fit, Stop> {
        let at = self.readable(request.revision)?;
        let header = ResponseHeader { revision: self.now(), ..header };
        if is_plain(request) {
            encode::header(out, &header);
            return Ok(self.walk(request, at, most, out)?);
        }
        let mut range = LongRange::new(request.clone(), header, at);
        let len = range.measure_within(self, most.keys)?;
        if len.is_none_or(|len| len > most.bytes as u64) {
            return Ok(Fit::TooLong);
        }
        while range.write(self, usize::MAX, out)? == Turn::More {}
        Ok(Fit::Whole)
    }

    fn walk(
        &self,
        request: &RangeRequest,
        at: i64,
        most: AtOnce,
        out: &mut Vec<u8>,
    ) -> Result<Fit, Fatal> {
        let rows_max = rows_max(request);
        let full_at = out.len().saturating_add(most.bytes);
        let span = Span::new(&request.key, &request.range_end);
        let mut n_rows = 0;
        for (n_seen, (key, chain)) in self.index.chains(&span).enumerate() {
            if n_seen == most.keys || out.len() > full_at {
                return Ok(Fit::TooLong);
            }
            if n_rows >= rows_max {
                n_rows += usize::from(chain.is_live_at(at));
            } else if let Some(point) = chain.at(at) {
                n_rows += 1;
                self.row(request.keys_only, key, &point, out)?;
            }
        }
        encode::flag(out, MORE, n_rows > rows_max && !request.count_only);
        encode::signed(out, COUNT, n_rows as i64);
        Ok(Fit::Whole)
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

    /// Appends a row as `request` wants it.
    pub(super) fn row_for(
        &self,
        request: &RangeRequest,
        key: &[u8],
        point: &Point,
        out: &mut Vec<u8>,
    ) -> Result<(), Fatal> {
        if request.keys_only && request.sort_target == SortTarget::Value as i32 {
            encode_without_value(&self.key_value(point)?, out);
            return Ok(());
        }
        self.row(request.keys_only, key, point, out)
    }
}

/// The length of a row, with what stands before it.
pub(super) fn row_len(
    mvcc: &Mvcc,
    request: &RangeRequest,
    key: &[u8],
    point: &Point,
    scratch: &mut Vec<u8>,
) -> Result<u64, Fatal> {
    scratch.clear();
    if request.keys_only {
        mvcc.row_for(request, key, point, scratch)?;
        return Ok(scratch.len() as u64);
    }
    let len = mvcc.len_of(point.place)?;
    encode::prefix(scratch, KVS, len);
    Ok((scratch.len() + len) as u64)
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
