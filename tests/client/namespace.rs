//! A view of the keys below a prefix: nothing else is seen or touched, by any verb.

use keystead_client::{
    Change, Compare, Delete, Expected, KeyRange, Op, OpResult, Put, Range, Scan, Swap, Txn,
};

use super::{client, on_each};

#[tokio::test]
async fn every_verb_stays_within_the_namespace() {
    on_each(async |server| {
        let all = client(server);
        for key in ["a", "app", "app/", "app0", "z"] {
            all.put(key, "outside").await.expect("a put");
        }
        all.delete("app/").await.expect("a delete");
        let app = all.namespace("app/");
        app.put("k", "1").await.expect("a put");
        assert_eq!(
            all.get("app/k")
                .await
                .expect("a get")
                .expect("it is there")
                .value,
            "1"
        );
        assert_eq!(
            app.get("k").await.expect("a get").expect("it is there").key,
            "k"
        );
        assert_eq!(app.get("a").await, Ok(None));
        let within = app
            .range(Range::new(KeyRange::all()))
            .await
            .expect("a range");
        assert_eq!((within.kvs.len(), &within.kvs[0].key[..]), (1, &b"k"[..]));
        let mut scan = app.scan(Scan::new(KeyRange::from_key("")));
        assert_eq!(
            scan.next().await.expect("a key").expect("it is there").key,
            "k"
        );
        assert_eq!(scan.next().await, Ok(None));
        let swap = Swap {
            key: "k".into(),
            expected: Expected::Value("1".into()),
            change: Change::Put("2".into()),
        };
        assert!(
            app.compare_and_swap(swap)
                .await
                .expect("an answer")
                .succeeded
        );
        let txn = Txn::when([Compare::present("k"), Compare::missing("a")]).then([
            Op::Put(Put {
                prev_kv: true,
                ..Put::new("k", "3")
            }),
            Op::Range(Range::new(KeyRange::prefix("k"))),
        ]);
        let answer = app.txn(txn).await.expect("a txn");
        let [OpResult::Put(put), OpResult::Range(read)] = &answer.results[..] else {
            panic!("{answer:?}");
        };
        assert_eq!(put.prev_kv.as_ref().map(|kv| &kv.key[..]), Some(&b"k"[..]));
        assert_eq!(read.kvs[0].key, "k");
        let inner = app.namespace("k");
        assert_eq!(
            inner
                .get("")
                .await
                .expect("a get")
                .expect("it is there")
                .key,
            ""
        );
        let everything = Delete {
            prev_kv: true,
            ..Delete::new(KeyRange::all())
        };
        let removed = app.delete_with(everything).await.expect("a delete");
        assert_eq!(
            (removed.deleted, &removed.prev_kvs[0].key[..]),
            (1, &b"k"[..])
        );
        let left = all
            .range(Range::new(KeyRange::all()))
            .await
            .expect("a range");
        assert_eq!(left.count, 4, "what is outside stays");
    })
    .await;
}
