//! etcd's Range over any view of the store: limit, count, sorting, filters.
//!
//! Called by the Range service with a [`View`](keystead_mvcc::View) and by transactions with their own writes in sight.
//! Rows stay encoded: what is answered is copied from the store as it lies there. Nothing is validated here, see
//! [`crate::check`].

use std::cmp::Reverse;

use keystead_mvcc::{DamagedRow, KeyValueRef, Query, Read, ReadError, Revision, Row, strip_value};
use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keystead_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use keystead_proto::mvccpb::KeyValue;
use prost::Message;

use crate::Refusal;

/// What a range holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The rows to answer, in the order asked for; each payload is an encoded `KeyValue`.
    pub rows: Vec<Row>,
    /// The limit cut rows off.
    pub more: bool,
    /// The keys in the range at the revision read, whatever the limit and the filters.
    pub count: i64,
    /// The store's revision, which the header carries.
    pub current: i64,
}

impl RangeAnswer {
    /// The answer as a message, whose header has the revision alone.
    ///
    /// # Errors
    /// [`Refusal::DamagedRow`] when a row is not an encoded `KeyValue`.
    pub fn into_response(self) -> Result<RangeResponse, Refusal> {
        Ok(self.decode()?)
    }

    pub(crate) fn decode(self) -> Result<RangeResponse, ReadError> {
        let header = ResponseHeader {
            revision: self.current,
            ..Default::default()
        };
        let kvs = self
            .rows
            .into_iter()
            .map(decode_row)
            .collect::<Result<_, _>>()?;
        Ok(RangeResponse {
            header: Some(header),
            kvs,
            more: self.more,
            count: self.count,
        })
    }
}

/// Answers a range.
///
/// # Errors
/// [`Refusal::Compacted`] and [`Refusal::FutureRevision`] by the revision asked for; [`Refusal::DamagedRow`] and
/// [`Refusal::Storage`] when this member can't read its rows.
pub fn range(read: &impl Read, request: &RangeRequest) -> Result<RangeAnswer, Refusal> {
    Ok(select(read, request)?)
}

/// [`range`] with the store's own errors.
pub(crate) fn select(read: &impl Read, request: &RangeRequest) -> Result<RangeAnswer, ReadError> {
    let plan = Plan::of(request);
    let page = read.read(&Query {
        key: &request.key,
        end: &request.range_end,
        revision: request.revision,
        limit: plan.fetch,
        count_only: request.count_only,
    })?;
    let (count, current) = (page.count as i64, page.current);
    if request.count_only {
        return Ok(RangeAnswer {
            rows: Vec::new(),
            more: false,
            count,
            current,
        });
    }
    let (mut rows, mut more) = (page.rows, page.more);
    if plan.filters {
        rows = filter(rows, request)?;
    }
    if let Some((target, descending)) = plan.sort {
        sort(&mut rows, target, descending)?;
    }
    if plan.cut {
        let limit = limit_of(request);
        more = limit > 0 && rows.len() > limit;
        rows.truncate(if limit > 0 { limit } else { rows.len() });
    }
    if request.keys_only {
        rows.iter_mut()
            .for_each(|row| row.payload = strip_value(&row.payload));
    }
    Ok(RangeAnswer {
        rows,
        more,
        count,
        current,
    })
}

/// How a request is answered: what to fetch in key order, and what is done to it afterwards.
struct Plan {
    /// The limit of the fetch; 0 for all.
    fetch: usize,
    filters: bool,
    /// By what to sort, and whether the largest comes first.
    sort: Option<(SortTarget, bool)>,
    /// The limit is applied after sorting.
    cut: bool,
}

/// The most rows that a range without filters and of no old revision reads; 0 for all of them.
pub(crate) fn fetched(request: &RangeRequest) -> usize {
    Plan::of(request).fetch
}

impl Plan {
    fn of(request: &RangeRequest) -> Self {
        let filters = request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0;
        let limit = limit_of(request);
        let sort = match (request.sort_target(), request.sort_order()) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => None,
            (target, order) => Some((target, order == SortOrder::Descend)),
        };
        let fetch = match (sort, request.sort_order()) {
            _ if filters => 0,
            (None, _) => limit,
            // etcd's quirk: without an order the first keys are taken, and one to tell whether there are more; they
            // alone are sorted.
            (Some(_), SortOrder::None) if limit > 0 => limit.saturating_add(1),
            (Some(_), _) => 0,
        };
        Self {
            fetch,
            filters,
            sort,
            cut: filters || sort.is_some(),
        }
    }
}

fn limit_of(request: &RangeRequest) -> usize {
    usize::try_from(request.limit).unwrap_or(0)
}

fn filter(rows: Vec<Row>, request: &RangeRequest) -> Result<Vec<Row>, ReadError> {
    let within = |revision: i64, least: i64, most: i64| {
        (least == 0 || revision >= least) && (most == 0 || revision <= most)
    };
    let mut kept = Vec::new();
    for row in rows {
        let kv = key_value(&row)?;
        if within(
            kv.mod_revision,
            request.min_mod_revision,
            request.max_mod_revision,
        ) && within(
            kv.create_revision,
            request.min_create_revision,
            request.max_create_revision,
        ) {
            kept.push(row);
        }
    }
    Ok(kept)
}

/// Sorts rows that come in key order. Ties keep it; etcd promises nothing for them.
fn sort(rows: &mut Vec<Row>, target: SortTarget, descending: bool) -> Result<(), ReadError> {
    match target {
        SortTarget::Key if descending => {
            rows.reverse();
            Ok(())
        }
        SortTarget::Key => Ok(()),
        SortTarget::Version => sort_by(rows, descending, |_, kv| kv.version),
        SortTarget::Create => sort_by(rows, descending, |_, kv| kv.create_revision),
        SortTarget::Mod => sort_by(rows, descending, |_, kv| kv.mod_revision),
        SortTarget::Value => sort_by(rows, descending, |row, kv| row.payload.slice_ref(kv.value)),
    }
}

fn sort_by<K: Ord>(
    rows: &mut Vec<Row>,
    descending: bool,
    key: impl Fn(&Row, &KeyValueRef<'_>) -> K,
) -> Result<(), ReadError> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        let by = key(&row, &key_value(&row)?);
        keyed.push((by, row));
    }
    if descending {
        keyed.sort_by(|(a, _), (b, _)| Reverse(a).cmp(&Reverse(b)));
    } else {
        keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

/// The row of one key at the latest revision in sight; none when the key does not exist.
pub(crate) fn latest(read: &impl Read, key: &[u8]) -> Result<Option<Row>, ReadError> {
    let query = Query {
        key,
        ..Default::default()
    };
    Ok(read.read(&query)?.rows.pop())
}

/// A row's message, without a copy.
pub(crate) fn key_value(row: &Row) -> Result<KeyValueRef<'_>, ReadError> {
    KeyValueRef::decode(&row.payload).map_err(|_| damaged(row.revision))
}

/// A row's message, whose key and value share the row's memory.
pub(crate) fn decode_row(row: Row) -> Result<KeyValue, ReadError> {
    KeyValue::decode(row.payload).map_err(|_| damaged(row.revision))
}

fn damaged(revision: Revision) -> ReadError {
    ReadError::Corrupt(DamagedRow { revision })
}
