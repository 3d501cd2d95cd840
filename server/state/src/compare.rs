//! One compare of a transaction, on the state before the transaction.

use std::cmp::Ordering;

use keystead_mvcc::{Meta, Query, Read, ReadError};
use keystead_proto::etcdserverpb::Compare;
use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::range::{key_value, latest};

/// Values of a range are compared in pages, so that a large range is never in memory as a whole.
const PAGE_ROWS: usize = 1024;

/// Whether every key of the compare's range satisfies it.
///
/// A range without keys is compared as one key whose numbers are all 0; a value that does not exist satisfies nothing,
/// not even "not equal". As in etcd, a given number of another kind than the target counts as 0, and a result of no
/// kind holds.
pub(crate) fn holds(read: &impl Read, compare: &Compare) -> Result<bool, ReadError> {
    if compare.target == CompareTarget::Value as i32 {
        return values_hold(read, compare);
    }
    if compare.range_end.is_empty() {
        return Ok(number_holds(compare, read.meta(&compare.key)?.as_ref()));
    }
    let (mut all, mut any) = (true, false);
    read.metas_in(&compare.key, &compare.range_end, &mut |_, meta| {
        any = true;
        all = number_holds(compare, Some(meta));
        all
    })?;
    Ok(if any {
        all
    } else {
        number_holds(compare, None)
    })
}

fn values_hold(read: &impl Read, compare: &Compare) -> Result<bool, ReadError> {
    let given: &[u8] = match &compare.target_union {
        Some(TargetUnion::Value(value)) => value,
        _ => b"",
    };
    if compare.range_end.is_empty() {
        let row = latest(read, &compare.key)?;
        return row.map_or(Ok(false), |row| {
            Ok(satisfies(compare, key_value(&row)?.value.cmp(given)))
        });
    }
    let (mut from, mut any) = (compare.key.to_vec(), false);
    loop {
        let query = Query {
            key: &from,
            end: &compare.range_end,
            limit: PAGE_ROWS,
            ..Default::default()
        };
        let page = read.read(&query)?;
        for row in &page.rows {
            if !satisfies(compare, key_value(row)?.value.cmp(given)) {
                return Ok(false);
            }
        }
        any |= !page.rows.is_empty();
        match page.rows.last() {
            Some(last) if page.more => {
                from.clear();
                from.extend_from_slice(key_value(last)?.key);
                from.push(0);
            }
            _ => return Ok(any),
        }
    }
}

fn number_holds(compare: &Compare, meta: Option<&Meta>) -> bool {
    let number = |of: fn(&Meta) -> i64| meta.map_or(0, of);
    let ordering = match (
        CompareTarget::try_from(compare.target),
        &compare.target_union,
    ) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(given))) => {
            number(|m| m.version).cmp(given)
        }
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(given))) => {
            number(|m| m.create_revision).cmp(given)
        }
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(given))) => {
            number(|m| m.mod_revision.main).cmp(given)
        }
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(given))) => {
            number(|m| m.lease).cmp(given)
        }
        (Ok(CompareTarget::Version), _) => number(|m| m.version).cmp(&0),
        (Ok(CompareTarget::Create), _) => number(|m| m.create_revision).cmp(&0),
        (Ok(CompareTarget::Mod), _) => number(|m| m.mod_revision.main).cmp(&0),
        (Ok(CompareTarget::Lease), _) => number(|m| m.lease).cmp(&0),
        (Ok(CompareTarget::Value) | Err(_), _) => Ordering::Equal,
    };
    satisfies(compare, ordering)
}

fn satisfies(compare: &Compare, ordering: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
