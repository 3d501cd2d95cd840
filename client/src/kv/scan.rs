//! Scan: a range of any size, all at one revision, a part at a time and only when it is wanted.
//!
//! The first page fixes the revision. What follows comes in one RangeStream where the server has it, and in pages where it has not;
//! a stream that breaks is followed by a page, so that whatever tries again for pages does so for scans.

use bytes::{BufMut, Bytes, BytesMut};
use keystead_proto::etcdserverpb::RangeStreamResponse;
use keystead_proto::mvccpb::KeyValue;
use tokio::time::timeout;

use crate::channel::{Receiver, rpc};
use crate::client::Client;
use crate::error::{Kind, Result};
use crate::key_range::KeyRange;
use crate::kv::range::{Range, RangeResult};

/// Keys of a page where the user named no number: a page of small values is some 100 KB.
const PAGE_KEYS: i64 = 500;

/// What to scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The keys, which come in their order.
    pub keys: KeyRange,
    /// The revision to read at; 0 for the newest when the first page is read.
    pub revision: i64,
    /// How many keys a page has; 0 for 500.
    pub page: i64,
    /// Leave the values out.
    pub keys_only: bool,
    /// See [`Range::serializable`].
    pub serializable: bool,
}

impl Scan {
    /// Every key of `keys`, at the newest revision.
    pub fn new(keys: KeyRange) -> Scan {
        Scan {
            keys,
            ..Scan::default()
        }
    }
}

/// The keys of a [`Scan`], one after the other. Holds one part of the answer; the server is stopped by what is not read.
pub struct Scanner {
    client: Client,
    scan: Scan,
    page: std::vec::IntoIter<KeyValue>,
    /// There may be more behind the page.
    more: bool,
    rest: Rest,
}

/// How the rest of a scan comes.
enum Rest {
    /// A page is next, because nothing has come yet or a stream broke; a stream may follow.
    Page,
    /// A stream is next.
    Stream,
    /// A stream is open.
    Streaming(Receiver<RangeStreamResponse>),
    /// This server has no RangeStream.
    Pages,
}

impl Client {
    /// Reads a range of any size, in pages at one revision. Nothing is sent before the first key is asked for.
    ///
    /// ```no_run
    /// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
    /// # use keystead_client::{KeyRange, Scan};
    /// let mut users = client.scan(Scan::new(KeyRange::prefix("users/")));
    /// while let Some(user) = users.next().await? {
    ///     println!("{:?} at {}", user.key, users.revision());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self, scan: Scan) -> Scanner {
        Scanner {
            client: self.clone(),
            scan,
            page: Vec::new().into_iter(),
            more: true,
            rest: Rest::Page,
        }
    }
}

impl Scanner {
    /// The next key; `None` after the last.
    ///
    /// # Errors
    /// See [`Scanner::next_batch`].
    pub async fn next(&mut self) -> Result<Option<KeyValue>> {
        loop {
            if let Some(kv) = self.page.next() {
                return Ok(Some(kv));
            }
            match self.read().await? {
                Some(page) => self.page = page.into_iter(),
                None => return Ok(None),
            }
        }
    }

    /// What is left of the page, or the next one; `None` after the last.
    ///
    /// # Errors
    /// `Compacted`: the revision was compacted while the scan went on; what has come so far is whole and true at that
    /// revision. After any other error the same page is asked for again.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<KeyValue>>> {
        let rest: Vec<KeyValue> = self.page.by_ref().collect();
        if rest.is_empty() {
            self.read().await
        } else {
            Ok(Some(rest))
        }
    }

    /// The revision that all pages are read at; 0 before the first one unless the scan named it.
    pub fn revision(&self) -> i64 {
        self.scan.revision
    }

    /// The last page was handed out, and it was seen to be the last.
    pub(crate) fn is_done(&self) -> bool {
        !self.more && self.page.len() == 0
    }

    /// Ends the scan: nothing more comes.
    pub fn cancel(&mut self) {
        self.page = Vec::new().into_iter();
        self.more = false;
        self.rest = Rest::Pages;
    }

    async fn read(&mut self) -> Result<Option<Vec<KeyValue>>> {
        let kvs = loop {
            if !self.more {
                return Ok(None);
            }
            match &mut self.rest {
                Rest::Page => {
                    let page = self.read_page().await?;
                    self.rest = Rest::Stream;
                    break page;
                }
                Rest::Pages => break self.read_page().await?,
                Rest::Stream => self.open().await?,
                Rest::Streaming(_) => {
                    if let Some(part) = self.read_part().await? {
                        break part;
                    }
                }
            }
        };
        if let Some(last) = kvs.last() {
            self.scan.keys.key = after(&last.key);
        }
        Ok((!kvs.is_empty()).then_some(kvs))
    }

    async fn read_page(&mut self) -> Result<Vec<KeyValue>> {
        let page = self.client.range(self.range()).await?;
        // From here on the scan stays at this revision.
        if self.scan.revision == 0 {
            self.scan.revision = page.header.revision;
        }
        self.more = page.more && !page.kvs.is_empty();
        Ok(page.kvs)
    }

    async fn open(&mut self) -> Result<()> {
        let request = Range {
            limit: 0,
            ..self.range()
        };
        let request = request.into_request(self.client.keys());
        let options = self.client.call_options();
        let channel = self.client.channel();
        let (mut sender, parts) = channel.open(&rpc::RANGE_STREAM, &options).await?;
        sender.send(&request);
        sender.finish();
        self.rest = Rest::Streaming(parts);
        Ok(())
    }

    /// A part of the stream; `None` when there is no more of it, or when it is to be read in another way.
    async fn read_part(&mut self) -> Result<Option<Vec<KeyValue>>> {
        let Rest::Streaming(parts) = &mut self.rest else {
            return Ok(None);
        };
        let namespace = self.client.keys();
        let patience = self.client.call_options().deadline;
        match timeout(patience, parts.next()).await {
            Ok(Ok(Some(part))) => {
                let part = part.range_response.unwrap_or_default();
                let kvs = RangeResult::new(part, namespace).kvs;
                Ok((!kvs.is_empty()).then_some(kvs))
            }
            Ok(Ok(None)) => {
                self.more = false;
                Ok(None)
            }
            Ok(Err(error)) if error.kind == Kind::Unimplemented => {
                self.rest = Rest::Pages;
                Ok(None)
            }
            Ok(Err(error)) if !error.retryable => Err(error),
            Ok(Err(_)) | Err(_) => {
                self.rest = Rest::Page;
                Ok(None)
            }
        }
    }

    fn range(&self) -> Range {
        let page = self.scan.page;
        Range {
            keys: self.scan.keys.clone(),
            limit: if page > 0 { page } else { PAGE_KEYS },
            revision: self.scan.revision,
            keys_only: self.scan.keys_only,
            serializable: self.scan.serializable,
            ..Range::default()
        }
    }
}

/// The first key after `key`.
fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}
