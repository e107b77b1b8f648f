//! moto's server (PyPI): S3, filled by Amazon's own client, and the rest of AWS.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    machine::checkout,
    port::{free_port, listens},
    process::run_command,
};

/// A server of AWS's APIs on a loopback port, ended when dropped.
#[derive(Debug)]
pub struct MotoServer {
    port: u16,
    process: Child,
}

/// A server of S3. Everybody may read; signatures are not verified.
#[derive(Debug)]
pub struct S3Server(MotoServer);

/// Polls until it answers; one takes 20 ms. Generous: a busy machine must not fail a test.
const POLLS: usize = 3000;
const PORT_ATTEMPTS: usize = 5;

/// Puts each file of a directory, named by its number, under the key in `keys`; makes the bucket first.
const PUT: &str = r#"
import boto3, json, sys
endpoint, bucket, directory, with_sha256 = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                  aws_access_key_id="test", aws_secret_access_key="test")
if bucket not in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
    s3.create_bucket(Bucket=bucket)
extra = {"ChecksumAlgorithm": "SHA256"} if with_sha256 == "True" else {}
for number, key in enumerate(json.load(open(directory + "/keys"))):
    s3.put_object(Bucket=bucket, Key=key, Body=open(f"{directory}/{number}", "rb"),
                  ACL="public-read", **extra)
"#;

/// Brings an object into a file.
const GET: &str = r#"
import boto3, sys
endpoint, bucket, key, file = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                  aws_access_key_id="test", aws_secret_access_key="test")
s3.download_file(bucket, key, file)
"#;

/// What a bucket has, and what is on its way there.
const KEYS: &str = r#"
import boto3, json, sys
endpoint, bucket = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                  aws_access_key_id="test", aws_secret_access_key="test")
objects = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
print(json.dumps(sorted(each["Key"] for each in objects + uploads)))
"#;

impl MotoServer {
    /// Starts an empty server with these variables.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            let mut command = Command::new(program("moto_server"));
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).envs(variables.iter().copied());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process =
                command.spawn().unwrap_or_else(|error| panic!("cannot run moto_server: {error}"));
            for _ in 0..POLLS {
                if listens(process.id(), port) {
                    return Self { port, process };
                }
                // Somebody else took the port.
                if process.try_wait().is_ok_and(|status| status.is_some()) {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
        }
        panic!("moto_server does not start")
    }

    /// The value of `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl S3Server {
    /// Starts an empty server.
    pub fn start() -> Self {
        Self(MotoServer::start(&[]))
    }

    /// The value of `AWS_ENDPOINT_URL_S3`.
    pub fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    /// Puts objects into a bucket, which is made if it is missing; with a SHA-256 that the server keeps, or not.
    pub fn put(&self, bucket: &str, objects: &[(&str, &[u8])], with_sha256: bool) {
        let dir = TempDir::with_prefix("ocib-s3-").expect("a temporary directory");
        let keys: Vec<&str> = objects.iter().map(|(key, _)| *key).collect();
        let write = |name: String, content: &[u8]| {
            fs::write(dir.path().join(name), content).expect("a file in a directory of ours");
        };
        write("keys".to_owned(), serde_json::json!(keys).to_string().as_bytes());
        objects.iter().enumerate().for_each(|(number, (_, content))| write(number.to_string(), content));
        let directory = dir.path().display().to_string();
        let flag = if with_sha256 { "True" } else { "False" };
        let arguments = ["-c", PUT, &self.endpoint(), bucket, &directory, flag];
        run_command(Command::new(program("python")).args(arguments));
    }
}

impl S3Server {
    /// What an object holds.
    pub fn object(&self, bucket: &str, key: &str) -> Vec<u8> {
        let dir = TempDir::with_prefix("ocib-s3-").expect("a temporary directory");
        let file = dir.path().join("object");
        let script = ["-c", GET, &self.endpoint(), bucket, key, &file.display().to_string()];
        run_command(Command::new(program("python")).args(script));
        fs::read(file).expect("a file that was just written")
    }

    /// The keys of all objects of a bucket, and of all uploads that were begun and not ended, in order.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let script = ["-c", KEYS, &self.endpoint(), bucket];
        let listed = run_command(Command::new(program("python")).args(script));
        serde_json::from_str(&listed).expect("a list of names")
    }
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        // It has ended already: what was wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program(name: &str) -> PathBuf {
    let program = checkout().join("target/test-data/moto/bin").join(name);
    assert!(program.is_file(), "{} is missing: tests/run.sh installs moto[server]", program.display());
    program
}
