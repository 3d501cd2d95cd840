//! Transactions: compares of every kind, both branches, nested ones, and what is refused.

use keystead_client::{
    Client, Compare, Delete, KeyRange, Kind, Op, OpResult, Outcome, Put, Range, Relation, Txn,
};

use super::{client, on_each};

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put(Put::new(key, value))
}

fn get(key: &'static str) -> Op {
    Op::Range(Range::new(KeyRange::key(key)))
}

async fn holds(client: &Client, compare: Compare) -> bool {
    let answer = client.txn(Txn::when([compare])).await;
    answer.expect("an answer").succeeded
}

#[tokio::test]
async fn every_compare_holds_exactly_when_it_should() {
    on_each(async |server| {
        let client = client(server);
        let created = client.put("k", "m").await.expect("a put").header.revision;
        let modified = client.put("k", "m").await.expect("a put").header.revision;
        // What is stored is equal to, greater or less than: the operand itself, one less, one more.
        type Make = fn(Relation, i64) -> Compare;
        let numbers: [(Make, i64); 4] = [
            (|is, to| Compare::version("k", is, to), 2),
            (|is, to| Compare::create_revision("k", is, to), created),
            (|is, to| Compare::mod_revision("k", is, to), modified),
            (|is, to| Compare::lease("k", is, to), 0),
        ];
        for (make, stored) in numbers {
            for (relation, truths) in [
                (Relation::Equal, [false, true, false]),
                (Relation::NotEqual, [true, false, true]),
                (Relation::Greater, [true, false, false]),
                (Relation::Less, [false, false, true]),
            ] {
                for (operand, truth) in (stored - 1..).zip(truths) {
                    let compare = make(relation, operand);
                    assert_eq!(holds(&client, compare.clone()).await, truth, "{compare:?}");
                }
            }
        }
        for (relation, truths) in [
            (Relation::Equal, [false, true, false]),
            (Relation::NotEqual, [true, false, true]),
            (Relation::Greater, [true, false, false]),
            (Relation::Less, [false, false, true]),
        ] {
            for (value, truth) in ["l", "m", "n"].into_iter().zip(truths) {
                let compare = Compare::value("k", relation, value);
                assert_eq!(holds(&client, compare.clone()).await, truth, "{compare:?}");
            }
        }
        assert!(holds(&client, Compare::present("k")).await);
        assert!(!holds(&client, Compare::present("x")).await);
        assert!(holds(&client, Compare::missing("x")).await);
        assert!(!holds(&client, Compare::missing("k")).await);
    })
    .await;
}

#[tokio::test]
async fn a_compare_over_a_range_holds_when_it_holds_for_every_key() {
    on_each(async |server| {
        let client = client(server);
        for key in ["r/1", "r/2"] {
            client.put(key, "v").await.expect("a put");
        }
        let all = || Compare::value("", Relation::Equal, "v").over(KeyRange::prefix("r/"));
        assert!(holds(&client, all()).await);
        client.put("r/3", "other").await.expect("a put");
        assert!(!holds(&client, all()).await);
    })
    .await;
}

#[tokio::test]
async fn the_branch_that_the_compares_choose_runs_whole_at_one_revision() {
    on_each(async |server| {
        let client = client(server);
        let txn = || {
            Txn::when([Compare::missing("owner"), Compare::missing("other")])
                .then([put("owner", "me"), get("owner"), put("log", "1")])
                .otherwise([
                    get("owner"),
                    Op::Delete(Delete::new(KeyRange::key("owner"))),
                ])
        };
        let first = client.txn(txn()).await.expect("a txn");
        assert!(first.succeeded);
        let [OpResult::Put(_), OpResult::Range(read), OpResult::Put(_)] = &first.results[..] else {
            panic!("{:?}", first.results);
        };
        // An operation sees what those before it did.
        assert_eq!(read.kvs[0].value, "me");
        let stored = client
            .range(Range::new(KeyRange::all()))
            .await
            .expect("a range");
        assert!(
            stored
                .kvs
                .iter()
                .all(|kv| kv.mod_revision == first.header.revision)
        );
        let second = client.txn(txn()).await.expect("a txn");
        assert!(!second.succeeded);
        let [OpResult::Range(_), OpResult::Delete(deleted)] = &second.results[..] else {
            panic!("{:?}", second.results);
        };
        assert_eq!(deleted.deleted, 1);
        assert_eq!(client.get("owner").await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn a_transaction_within_a_transaction_answers_within_its_answer() {
    on_each(async |server| {
        let client = client(server);
        let inner = Txn::when([Compare::present("nothing")])
            .then([put("wrong", "1")])
            .otherwise([put("k", "inner"), get("k")]);
        let outer = Txn::when([]).then([put("outer", "1"), Op::Txn(inner)]);
        let answer = client.txn(outer).await.expect("a txn");
        let [OpResult::Put(_), OpResult::Txn(within)] = &answer.results[..] else {
            panic!("{:?}", answer.results);
        };
        assert!(answer.succeeded && !within.succeeded);
        let [OpResult::Put(_), OpResult::Range(read)] = &within.results[..] else {
            panic!("{:?}", within.results);
        };
        assert_eq!(read.kvs[0].value, "inner");
        assert_eq!(client.get("wrong").await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_cannot_be_was_not_applied() {
    on_each(async |server| {
        let client = client(server);
        let many = (0..129).map(|number| Op::Put(Put::new(format!("k{number}"), "v")));
        for (txn, text) in [
            (
                Txn::when([]).then([put("k", "1"), put("k", "2")]),
                "etcdserver: duplicate key given in txn request",
            ),
            (
                Txn::when([]).then(many),
                "etcdserver: too many operations in txn request",
            ),
            (
                Txn::when([]).otherwise([put("", "1")]),
                "etcdserver: key is not provided",
            ),
        ] {
            let error = client.txn(txn).await.expect_err("it is refused");
            assert_eq!(
                (error.kind, error.message.as_str(), error.outcome),
                (Kind::InvalidArgument, text, Outcome::NotApplied)
            );
        }
        let stored = client
            .range(Range::new(KeyRange::all()))
            .await
            .expect("a range");
        assert_eq!(stored.count, 0);
    })
    .await;
}
