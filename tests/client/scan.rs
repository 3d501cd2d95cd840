//! Scans: in a stream on Keystead and in pages on an etcd that has none.

use keystead_client::{Client, Compact, Delete, KeyRange, Kind, Op, Put, Scan, Txn};

use super::{client, on_each};

fn key(number: usize) -> String {
    format!("scan/{number:05}")
}

async fn fill(client: &Client, keys: usize) -> i64 {
    let mut revision = 0;
    let numbers: Vec<usize> = (0..keys).collect();
    for part in numbers.chunks(100) {
        let put = |&number: &usize| Op::Put(Put::new(key(number), number.to_string()));
        let txn = Txn::when([]).then(part.iter().map(put));
        revision = client.txn(txn).await.expect("a txn").header.revision;
    }
    revision
}

#[tokio::test]
async fn a_scan_sees_one_revision_whatever_is_written_meanwhile() {
    const KEYS: usize = 2500;
    on_each(async |server| {
        let client = client(server);
        let revision = fill(&client, KEYS).await;
        client.put("scan0", "behind").await.expect("a put");
        for page in [0, 1000, 7000] {
            let mut scan = client.scan(Scan {
                page,
                revision,
                ..Scan::new(KeyRange::prefix("scan/"))
            });
            for number in 0..KEYS {
                let kv = scan.next().await.expect("a key").expect("it is there");
                assert_eq!(
                    (&kv.key[..], &kv.value[..]),
                    (key(number).as_bytes(), number.to_string().as_bytes())
                );
                if number == 10 {
                    client.put(key(2000), "changed").await.expect("a put");
                    client.delete(key(2001)).await.expect("a delete");
                    client.put("scan/00500x", "new").await.expect("a put");
                }
            }
            assert_eq!(scan.next().await, Ok(None));
            assert_eq!(scan.revision(), revision);
        }
    })
    .await;
}

#[tokio::test]
async fn a_scan_without_a_revision_stays_at_that_of_its_first_page() {
    on_each(async |server| {
        let client = client(server);
        let revision = fill(&client, 300).await;
        let mut scan = client.scan(Scan {
            page: 100,
            keys_only: true,
            ..Scan::new(KeyRange::prefix("scan/"))
        });
        let mut seen = scan
            .next_batch()
            .await
            .expect("a page")
            .expect("keys")
            .len();
        assert_eq!((seen, scan.revision()), (100, revision));
        client
            .delete_with(Delete::new(KeyRange::all()))
            .await
            .expect("a delete");
        while let Some(batch) = scan.next_batch().await.expect("a page") {
            assert!(batch.iter().all(|kv| kv.value.is_empty()));
            seen += batch.len();
        }
        assert_eq!(seen, 300);
    })
    .await;
}

#[tokio::test]
async fn a_scan_of_a_compacted_revision_says_so() {
    on_each(async |server| {
        let client = client(server);
        let revision = fill(&client, 200).await;
        client.put("scan/00000", "again").await.expect("a put");
        client
            .compact(Compact {
                revision: revision + 1,
                physical: false,
            })
            .await
            .expect("it is new");
        let mut scan = client.scan(Scan {
            revision,
            ..Scan::new(KeyRange::all())
        });
        let error = scan.next().await.expect_err("it is gone");
        assert_eq!(error.kind, Kind::Compacted);
    })
    .await;
}
