//! moto's server as another judge: it was written by others, from AWS's own descriptions of its APIs.

use ocib_testkit::MotoServer;

use crate::cases;

/// A server for the account of these tests.
struct Moto(MotoServer);

impl Moto {
    fn start() -> Self {
        Self(MotoServer::start(&[("MOTO_ACCOUNT_ID", "123456789012")]))
    }

    /// What `case` says as somebody whom moto takes for `123456789012`'s own.
    fn run(&self, case: &str) -> Vec<String> {
        let mut command = cases::process(case);
        command.env("HOST", "registry.test").env("AWS_ENDPOINT_URL", self.0.endpoint());
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "planted-7f3a");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_REGION", "eu-west-1");
        let output = command.output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{printed}");
        assert!(!printed.contains("planted-7f3a"), "a secret is seen: {printed}");
        printed.lines().filter_map(|line| Some(line.split_once("SAYS ")?.1.to_owned())).collect()
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
