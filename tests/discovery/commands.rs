//! What commands do with the members that DNS names: genuine etcdctl, where it can be built, and `keystead` beside it.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::process::{Command, Output};

use keystead_tests::{Network, Server, oracle, resolving_by};

use super::dns::{Dns, Zone};

const HOST: &str = "m0.cluster.test";

/// Runs a command line of words where these records count.
fn run(dns: &Dns, program: &str, words: &str) -> Output {
    let mut all = resolving_by(dns.resolv_conf());
    all.push(program.into());
    all.extend(words.split(' ').map(OsString::from));
    let output = Command::new(&all[0]).args(&all[1..]).output();
    output.expect("unshare is part of every system")
}

fn assert_says(output: &Output, code: i32, on_stdout: &str, on_stderr: &str) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert_eq!(out, on_stdout, "{err}");
    assert!(err.contains(on_stderr), "{on_stderr}: {err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_ask_whom_dns_names() {
    let server = Server::keystead().await;
    let dead = Network::addresses(1)[0].port();
    let port = server.address().port();
    let zone = Zone::default()
        .host(HOST, Ipv4Addr::LOCALHOST)
        .srv("_etcd-client._tcp.cluster.test", [(HOST, port)])
        .srv("_etcd-client-blue._tcp.cluster.test", [(HOST, port)])
        .srv("_etcd-client._tcp.two.test", [(HOST, port), (HOST, dead)]);
    let Some(dns) = Dns::start(zone, "test") else {
        return;
    };
    let keystead = server.command_line().swap_remove(0);
    let etcdctl = oracle("etcdctl").map(|it| it.display().to_string());
    for program in etcdctl.iter().chain([&keystead]) {
        println!("{program}");
        let ran = |words| run(&dns, program, words);
        assert_says(&ran("--discovery-srv cluster.test put k v"), 0, "OK\n", "");
        // What no record has is looked up in the domain of this machine, too.
        let named = "-d cluster --discovery-srv-name blue get k";
        assert_says(&ran(named), 0, "k\nv\n", "");
        let lookup = |service: &str| {
            let at = dns.address();
            format!("lookup _{service}._tcp.none.test on {at}: no such host")
        };
        let nobody = format!(
            "Error: dns lookup errors: {} and {}",
            lookup("etcd-client-ssl-blue"),
            lookup("etcd-client-blue")
        );
        let words = "-d none.test --discovery-srv-name blue get k";
        assert_says(&ran(words), 1, "", &nobody);
        // etcdctl asks the usual endpoints then.
        let ignored = format!("ignoring discovered insecure endpoint \"http://{HOST}");
        let words = "-d cluster.test --insecure-discovery=false --endpoints 127.0.0.1:1 --command-timeout 1s get k";
        assert_says(&ran(words), 1, "", &ignored);
    }
    let asked = run(&dns, &keystead, "-d two.test endpoint health");
    let said = String::from_utf8_lossy(&asked.stdout);
    let healthy = format!("http://{HOST}:{port} is healthy: ");
    assert!(said.starts_with(&healthy), "{said}");
    let said = String::from_utf8_lossy(&asked.stderr);
    let unhealthy = format!("http://{HOST}:{dead} is unhealthy: ");
    assert!(said.contains(&unhealthy), "{said}");
}
