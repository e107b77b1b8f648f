//! moto's server as another judge: it was written by others, from AWS's own descriptions of its APIs.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use ocib_testkit::checkout;

use crate::cases;

/// Python needs seconds to load it on a busy machine.
const POLLS: usize = 1200;

/// A server, ended when dropped.
struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    fn start() -> Self {
        let program = checkout().join("target/test-data/moto/bin/moto_server");
        assert!(
            program.is_file(),
            "{} is missing: run tests/run.sh once, which installs it",
            program.display()
        );
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).env("MOTO_ACCOUNT_ID", "123456789012");
        let mut moto = Self { process: command.spawn().unwrap(), port };
        for _ in 0..POLLS {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return moto;
            }
            assert!(moto.process.try_wait().unwrap().is_none(), "moto has ended");
            thread::sleep(Duration::from_millis(100));
        }
        panic!("moto does not listen");
    }

    /// What `case` says as somebody whom moto takes for `123456789012`'s own.
    fn run(&self, case: &str) -> Vec<String> {
        let mut command = cases::process(case);
        command
            .env("HOST", "registry.test")
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port));
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "planted-7f3a");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_REGION", "eu-west-1");
        let output = command.output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{printed}");
        assert!(!printed.contains("planted-7f3a"), "a secret is seen: {printed}");
        printed.lines().filter_map(|line| Some(line.split_once("SAYS ")?.1.to_owned())).collect()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn moto_understands_what_is_asked() {
    let moto = Moto::start();
    let made = "Immutable { except: [] } Kms(Some(\"arn:aws:kms:eu-west-1:123456789012:key/k\")) true";
    assert_eq!(
        moto.run("judged"),
        [
            "CALLER arn:aws:sts::123456789012:user/moto".to_owned(),
            "TOKEN AWS".to_owned(),
            "BEFORE Known(None)".to_owned(),
            format!("AFTER {made}"),
            "AGAIN RepositoryAlreadyExistsException".to_owned(),
        ]
    );
}
