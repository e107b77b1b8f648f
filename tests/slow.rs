//! Connections that stand still, by the built program. A preflight loses its patience after ten seconds,
//! and tries twice.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use ocib_testkit::{Scripted, ScriptedRegistry};

use crate::program::{Ended, Site, ended};

fn preflight(host: &str) -> Ended {
    let site = Site::new("FROM scratch\nCOPY a /\n");
    site.file("context/a", "a");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
    site.clean(command.args([
        "preflight",
        "context",
        "--platform=linux/amd64",
        "-t",
        &format!("{host}/a:1"),
    ]));
    ended(&mut command)
}

fn assert_problem(looked: &Ended, check: &str, cause: &str, remedy: &str) {
    let text = String::from_utf8(looked.stdout.clone()).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("problem  {check}"))).unwrap_or(&text);
    assert!(line.ends_with(&format!(" [{cause}]")), "{text}");
    assert!(text.contains(&format!("help: {remedy}")), "{text}");
    assert_eq!(looked.code(), Some(5), "{looked:?}");
}

#[test]
fn an_answer_that_does_not_come_is_a_stall() {
    let registry =
        ScriptedRegistry::start(|method, target, _| match (method, target.contains("/uploads/")) {
            ("POST", true) => Scripted::Stall,
            _ => Scripted::Usual,
        });
    assert_problem(&preflight(&registry.host()), "permission", "stalled", "run the command again");
}

/// A port whose queue of connections is full: the system drops further ones in silence, as firewalls do.
fn full_port() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
    let waiting = std::iter::from_fn(connect).take(10_000).collect::<Vec<_>>();
    assert!(waiting.len() < 10_000, "the queue has an end");
    (listener, waiting, address)
}

#[test]
fn a_connection_that_is_not_made_is_a_timeout() {
    let (_listener, _waiting, address) = full_port();
    let looked = preflight(&address.to_string());
    assert_problem(&looked, "registry", "connection-timeout", "check that firewalls let the port through");
}
