//! The registry: found by this client and by Go's resolver, gone with its owner, back after whatever lost it.

use std::process::{Command, Stdio};
use std::time::Duration;

use keystead_client::serde_json::json;
use keystead_client::{
    Client, Endpoint, Loss, Pick, Register, Registration, RegistrationState, Resolver,
};
use keystead_tests::{Server, oracle};
use tokio::time::timeout;

use super::{PATIENCE, eventually, on_each};

fn connect(server: &Server) -> Client {
    super::client(server).with_deadline(PATIENCE)
}

/// The addresses that a resolver knows, in a line.
fn known(resolver: &Resolver) -> String {
    let endpoints = resolver.endpoints().expect("it goes on");
    let addresses = endpoints.iter().map(|endpoint| endpoint.address.clone());
    addresses.collect::<Vec<_>>().join(" ")
}

async fn knows(resolver: &Resolver, expected: &str) {
    eventually(expected, async || {
        (known(resolver) == expected).then_some(())
    })
    .await;
}

/// The lease of a registration's key.
async fn lease(client: &Client, registration: &Registration) -> i64 {
    let kv = client.get(registration.key().clone()).await;
    kv.expect("a read").expect("it is registered").lease
}

/// Waits until it is registered again, and says why it had to be.
async fn back(registration: &Registration, mut state: RegistrationState) -> Loss {
    loop {
        let next = timeout(PATIENCE, registration.changed(state)).await;
        state = next.expect("it is told").expect("it goes on");
        if let RegistrationState::Registered { after, .. } = state {
            return after.expect("it was there before");
        }
    }
}

#[tokio::test]
async fn what_is_registered_is_found_and_picked_in_turn_until_it_is_withdrawn() {
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        let api = other.resolve("services/api").await.expect("it may be read");
        assert_eq!(api.pick(Pick::RoundRobin).expect("an answer"), None);
        let first = Endpoint {
            metadata: json!({"zone": "a", "weight": 3}),
            ..Endpoint::new("10.0.0.1:80")
        };
        let one = client.register("services/api", first.clone()).await;
        let one = one.expect("registered");
        let two = client.register("services/api", Endpoint::new("10.0.0.2:80"));
        let two = two.await.expect("registered");
        let nobodys = client.register("services/api2", Endpoint::new("10.0.0.3:80"));
        let _nobodys = nobodys.await.expect("registered");
        // What is no endpoint is passed over.
        client.put("services/api/junk", "{").await.expect("written");
        knows(&api, "10.0.0.1:80 10.0.0.2:80").await;
        assert_eq!(api.endpoints().expect("known")[0], first);
        assert_eq!(
            lease(&client, &one).await,
            lease(&client, &two).await,
            "they share a session"
        );

        let pick = |pick| api.pick(pick).expect("known").expect("one").address;
        let turns: Vec<_> = (0..4).map(|_| pick(Pick::RoundRobin)).collect();
        assert_eq!(turns[0], turns[2]);
        assert_eq!(turns[1], turns[3]);
        assert_ne!(turns[0], turns[1]);
        eventually("both by chance", async || {
            (pick(Pick::Random) != pick(Pick::Random)).then_some(())
        })
        .await;

        let seen = api.endpoints().expect("known");
        one.withdraw().await.expect("withdrawn");
        let now = timeout(PATIENCE, api.changed(&seen)).await;
        let now = now.expect("it is told").expect("known");
        assert_eq!(*now, [Endpoint::new("10.0.0.2:80")]);
        drop(two);
        knows(&api, "").await;
    })
    .await;
}

#[tokio::test]
async fn who_registers_over_another_is_not_withdrawn_with_it() {
    on_each(async |server| {
        let (old, new) = (connect(server), connect(server));
        let endpoint = || Endpoint::new("10.0.0.1:80");
        let before = old.register("services/api", endpoint()).await;
        let before = before.expect("registered");
        let after = new.register("services/api", endpoint()).await;
        let after = after.expect("registered");
        before.withdraw().await.expect("there is nothing to do");
        assert!(
            new.get(after.key().clone())
                .await
                .expect("a read")
                .is_some()
        );
    })
    .await;
}

#[tokio::test]
async fn a_registration_whose_session_is_lost_is_made_again_and_says_so() {
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        let register = Register {
            // So long that even a slow restart does not take longer.
            ttl: Duration::from_secs(18),
            ..Register::new("services/api", Endpoint::new("10.0.0.1:80"))
        };
        let registration = client.register_with(register).await.expect("registered");
        let api = other.resolve("services/api").await.expect("it may be read");
        assert_eq!(known(&api), "10.0.0.1:80");

        let seen = registration.state();
        let revoked = lease(&other, &registration).await;
        other.revoke(revoked).await.expect("revoked");
        assert_eq!(back(&registration, seen).await, Loss::Revoked);
        assert_ne!(lease(&other, &registration).await, revoked);
        knows(&api, "10.0.0.1:80").await;

        // The server loses everything: the registration is back, and whoever looks for it finds it again.
        let seen = registration.state();
        server.kill();
        let data = server.directory().join("data");
        std::fs::remove_dir_all(data).expect("it can be removed");
        server.restart().await;
        assert_eq!(back(&registration, seen).await, Loss::Forgotten);
        knows(&api, "10.0.0.1:80").await;
        let late = Endpoint::new("10.0.0.2:80");
        let late = other.register("services/api", late).await;
        let _late = late.expect("registered");
        knows(&api, "10.0.0.1:80 10.0.0.2:80").await;
    })
    .await;
}

#[tokio::test]
async fn gos_resolver_finds_ours_and_we_find_gos() {
    let Some(program) = oracle("concurrency") else {
        println!("skipped: there is no Go to build its client with");
        return;
    };
    on_each(async |server| {
        let client = connect(server);
        let ours = Endpoint {
            metadata: json!({"language": "rust", "tags": ["<a>", "b&c"]}),
            ..Endpoint::new("10.0.0.1:80")
        };
        let registration = client.register("services/api", ours).await;
        let registration = registration.expect("registered");
        let api = client.resolve("services/api").await.expect("read");
        // It registers 10.0.0.2:80, waits until it finds ours as it is here, and again until that has gone.
        let endpoint = format!("http://{}", server.address());
        let mut go = Command::new(&program)
            .args(["-endpoint", &endpoint, "-register", "services/api"])
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the Go program can be run");
        knows(&api, "10.0.0.1:80 10.0.0.2:80").await;
        let gos = api.endpoints().expect("known")[1].clone();
        assert_eq!(
            gos.metadata,
            json!({"language": "go", "tags": ["<a>", "b&c"]})
        );
        // Byte by byte what this client writes for the same.
        let theirs = client.get("services/api/10.0.0.2:80").await;
        let theirs = theirs.expect("a read").expect("registered").value;
        let again = client.register("copies", gos).await.expect("registered");
        let copy = client.get(again.key().clone()).await;
        assert_eq!(copy.expect("a read").expect("registered").value, theirs);

        // Once Go has found it, which it says by a key.
        eventually("Go to find ours", async || {
            client.get("found-by-go").await.expect("a read").map(|_| ())
        })
        .await;
        registration.withdraw().await.expect("withdrawn");
        let status = tokio::task::spawn_blocking(move || go.wait()).await;
        let status = status.expect("no panic").expect("it can be waited for");
        assert!(status.success(), "{status}");
        knows(&api, "").await;
    })
    .await;
}
