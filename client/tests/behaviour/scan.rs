//! A scan over streams that break and servers that have none.

use bytes::Bytes;
use keystead_client::{Client, Header, KeyRange, Kind, Scan};
use keystead_proto::etcdserverpb::{RangeResponse, RangeStreamResponse, ResponseHeader};
use keystead_proto::mvccpb::KeyValue;

use crate::fake::{Act, Fake, framed};

fn keys(keys: &[&'static str]) -> Vec<KeyValue> {
    let kv = |key: &&'static str| KeyValue {
        key: Bytes::from_static(key.as_bytes()),
        ..Default::default()
    };
    keys.iter().map(kv).collect()
}

fn page(names: &[&'static str], more: bool) -> Act {
    Act::Messages(vec![framed(&RangeResponse {
        header: Some(ResponseHeader {
            revision: 9,
            ..Default::default()
        }),
        kvs: keys(names),
        more,
        count: 0,
    })])
}

fn stream(parts: &[&[&'static str]]) -> Act {
    let part = |names: &&[&'static str]| {
        framed(&RangeStreamResponse {
            range_response: Some(RangeResponse {
                kvs: keys(names),
                ..Default::default()
            }),
        })
    };
    Act::Messages(parts.iter().map(part).collect())
}

async fn scanned(script: impl IntoIterator<Item = Act>) -> (Result<Vec<Bytes>, Kind>, Fake) {
    let fake = Fake::start(script).await;
    let client = Client::lazy(fake.options()).expect("the URL is one");
    let mut scan = client.scan(Scan::new(KeyRange::all()));
    let mut seen = Vec::new();
    let seen = loop {
        match scan.next().await {
            Ok(Some(kv)) => seen.push(kv.key),
            Ok(None) => break Ok(seen),
            Err(error) => break Err(error.kind),
        }
    };
    if seen.is_ok() {
        assert_eq!(
            scan.revision(),
            Header {
                revision: 9,
                ..Header::default()
            }
            .revision
        );
    }
    (seen, fake)
}

#[tokio::test]
async fn the_rest_of_a_scan_comes_in_one_stream() {
    let (seen, fake) =
        scanned([page(&["a", "b"], true), stream(&[&["c"], &[], &["d", "e"]])]).await;
    assert_eq!(
        seen,
        Ok(vec![
            "a".into(),
            "b".into(),
            "c".into(),
            "d".into(),
            "e".into()
        ])
    );
    // The stream goes on after the last key of the page.
    assert_eq!(fake.ran(), ["\0", "b\0"]);
}

#[tokio::test]
async fn a_server_without_streams_is_read_in_pages() {
    let without = Act::Refuse(12, "unknown method RangeStream for service etcdserverpb.KV");
    let script = [
        page(&["a"], true),
        without,
        page(&["b"], true),
        page(&["c"], false),
    ];
    let (seen, fake) = scanned(script).await;
    assert_eq!(seen, Ok(vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(fake.requests(), 4);
}

#[tokio::test]
async fn a_stream_that_breaks_is_followed_by_a_page_and_another_stream() {
    let script = [
        page(&["a"], true),
        Act::DropAfter,
        page(&["b"], true),
        stream(&[&["c"]]),
    ];
    let (seen, fake) = scanned(script).await;
    assert_eq!(seen, Ok(vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(fake.ran(), ["\0", "a\0", "a\0", "b\0"]);
}

#[tokio::test]
async fn a_compaction_ends_a_scan_and_says_so() {
    let compacted = Act::Refuse(11, "etcdserver: mvcc: required revision has been compacted");
    let (seen, _fake) = scanned([page(&["a"], true), compacted]).await;
    assert_eq!(seen, Err(Kind::Compacted));
}

#[tokio::test]
async fn one_page_that_is_all_is_one_request() {
    let (seen, fake) = scanned([page(&["a"], false)]).await;
    assert_eq!((seen, fake.requests()), (Ok(vec!["a".into()]), 1));
}
