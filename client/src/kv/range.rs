//! Range: keys at one revision, with every option that etcd has.

use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keystead_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keystead_proto::mvccpb::KeyValue;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::key_range::KeyRange;
use crate::namespace::Namespace;
use crate::options::CallOptions;

/// Which keys to read, and how.
///
/// ```
/// # use keystead_client::{KeyRange, Order, Range, Sort, SortBy};
/// let newest = Range {
///     limit: 10,
///     sort: Some(Sort { by: SortBy::ModRevision, order: Order::Descending }),
///     ..Range::new(KeyRange::prefix("jobs/"))
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The keys.
    pub keys: KeyRange,
    /// The most keys to answer; 0 for all.
    pub limit: i64,
    /// The revision to read at; 0 for the newest.
    pub revision: i64,
    /// Sorts before the limit is applied; by key, ascending, when there is none.
    pub sort: Option<Sort>,
    /// Reads the state of the member that is asked, which may lag, without asking the others.
    pub serializable: bool,
    /// Leaves the values out.
    pub keys_only: bool,
    /// Answers the count alone.
    pub count_only: bool,
    /// Leaves out keys written last before this revision; 0 for none.
    pub min_mod_revision: i64,
    /// Leaves out keys written last after this revision; 0 for none.
    pub max_mod_revision: i64,
    /// Leaves out keys created before this revision; 0 for none.
    pub min_create_revision: i64,
    /// Leaves out keys created after this revision; 0 for none.
    pub max_create_revision: i64,
}

/// How to sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// Which way.
    pub order: Order,
}

/// What keys are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// The key itself.
    Key,
    /// How often it was written since it was created.
    Version,
    /// The revision at which it was created.
    CreateRevision,
    /// The revision of the last write.
    ModRevision,
    /// The value's bytes.
    Value,
}

/// Smallest first, or largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeResult {
    /// Who answered, at which revision.
    pub header: Header,
    /// The keys. Their bytes share the memory of the answer: copy what is kept for long.
    pub kvs: Vec<KeyValue>,
    /// There are keys that the limit cut off.
    pub more: bool,
    /// How many keys are in the range, whatever the limit and the revision filters.
    pub count: i64,
}

impl Range {
    /// A linearizable read of `keys` at the newest revision.
    pub fn new(keys: KeyRange) -> Range {
        Range {
            keys,
            ..Range::default()
        }
    }

    pub(crate) fn into_request(self, namespace: &Namespace) -> RangeRequest {
        let keys = namespace.range(self.keys);
        let (order, target) = match self.sort {
            None => (SortOrder::None, SortTarget::Key),
            Some(sort) => (sort.order.into(), sort.by.into()),
        };
        RangeRequest {
            key: keys.key,
            range_end: keys.end,
            limit: self.limit,
            revision: self.revision,
            sort_order: order.into(),
            sort_target: target.into(),
            serializable: self.serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_revision,
            max_mod_revision: self.max_mod_revision,
            min_create_revision: self.min_create_revision,
            max_create_revision: self.max_create_revision,
        }
    }
}

impl From<Order> for SortOrder {
    fn from(order: Order) -> SortOrder {
        match order {
            Order::Ascending => SortOrder::Ascend,
            Order::Descending => SortOrder::Descend,
        }
    }
}

impl From<SortBy> for SortTarget {
    fn from(by: SortBy) -> SortTarget {
        match by {
            SortBy::Key => SortTarget::Key,
            SortBy::Version => SortTarget::Version,
            SortBy::CreateRevision => SortTarget::Create,
            SortBy::ModRevision => SortTarget::Mod,
            SortBy::Value => SortTarget::Value,
        }
    }
}

impl RangeResult {
    pub(crate) fn new(answer: RangeResponse, namespace: &Namespace) -> RangeResult {
        RangeResult {
            header: answer.header.into(),
            kvs: namespace.strip_all(answer.kvs),
            more: answer.more,
            count: answer.count,
        }
    }
}

impl Client {
    /// Reads keys at one revision.
    ///
    /// # Errors
    /// `Compacted` and `FutureRevision`: there is no such revision (any more, or yet). Whatever passes by itself was
    /// tried again until the deadline.
    pub async fn range(&self, range: Range) -> Result<RangeResult> {
        let options = self.call_options();
        let options = CallOptions {
            // A serializable read asks for what this very member has, leader or none.
            requires_leader: options.requires_leader && !range.serializable,
            ..options
        };
        let request = range.into_request(self.keys());
        let answer = self.channel().call(&rpc::RANGE, &request, &options).await?;
        Ok(RangeResult::new(answer, self.keys()))
    }
}
