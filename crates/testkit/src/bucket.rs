//! A bucket of objects of any size, which are made while they are sent: moto reads a whole object for each part of it.
//! It answers what S3 and Google Cloud Storage have in common (Amazon S3 API, `ListObjectsV2` and `GetObject`;
//! Google's XML API). Everybody may read. Plain HTTP on loopback.

use std::{collections::BTreeMap, fmt::Write, io::Read, sync::Arc};

use crate::{
    content::Generated,
    http::{HttpServer, Incoming, Reply, decoded, encoded, ranged},
};

/// A server of one bucket, ended when dropped.
#[derive(Debug)]
pub struct BucketServer {
    server: HttpServer,
}

/// The seed of an object's bytes, and how many there are.
type Object = (u64, u64);

impl BucketServer {
    /// Starts a server of a bucket `bucket` with these objects: key, seed of [`Generated`], and size in bytes.
    pub fn start(bucket: &str, objects: &[(&str, u64, u64)]) -> Self {
        Self::serve(bucket, objects, |_| None)
    }

    /// The same, of a bucket whose owner does not pay for requests: each must say who does, as Amazon wants it, in a
    /// header that is signed, or as Google does, if it has a token.
    pub fn start_paid(bucket: &str, objects: &[(&str, u64, u64)]) -> Self {
        Self::serve(bucket, objects, |request| {
            let proof = request.header("authorization").unwrap_or_default();
            let is_google = proof.starts_with("Bearer ");
            let is_signed = || {
                let signed = proof.split("SignedHeaders=").nth(1)?.split(',').next()?;
                signed.split(';').find(|name| *name == "x-amz-request-payer")
            };
            let is_paid = match is_google {
                true => request.header("x-goog-user-project") == Some("payer"),
                false => request.header("x-amz-request-payer") == Some("requester") && is_signed().is_some(),
            };
            let (status, code) = if is_google { (400, "UserProjectMissing") } else { (403, "AccessDenied") };
            (!is_paid).then(|| refused(status, code))
        })
    }

    fn serve(
        bucket: &str,
        objects: &[(&str, u64, u64)],
        refuse: impl Fn(&Incoming<'_>) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let path = format!("/{bucket}/");
        let objects: BTreeMap<String, Object> =
            objects.iter().map(|(key, seed, bytes)| ((*key).to_owned(), (*seed, *bytes))).collect();
        let objects = Arc::new(objects);
        let server = HttpServer::start(move |request| {
            let key = request.path.strip_prefix(&path).map(decoded);
            if let Some(refused) = refuse(request) {
                return Some(refused);
            }
            Some(match key {
                _ if request.method != "GET" => refused(405, "MethodNotAllowed"),
                None => refused(404, "NoSuchBucket"),
                Some(key) if key.is_empty() => {
                    list(&objects, &request.parameter("prefix").unwrap_or_default())
                }
                Some(key) => match objects.get(&key) {
                    Some(&object) => part(object, request),
                    None => refused(404, "NoSuchKey"),
                },
            })
        });
        Self { server }
    }

    /// The value of `AWS_ENDPOINT_URL_S3` and of `STORAGE_EMULATOR_HOST`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.host())
    }
}

fn refused(status: u16, code: &str) -> Reply {
    Reply::text(status, "application/xml", &format!("<Error><Code>{code}</Code></Error>"))
}

fn etag((seed, bytes): Object) -> String {
    format!("\"{seed:016x}{bytes:016x}-2\"")
}

fn list(objects: &BTreeMap<String, Object>, prefix: &str) -> Reply {
    let mut xml = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    for (key, &object) in objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let (key, etag, bytes) = (encoded(key), etag(object).replace('"', "&quot;"), object.1);
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>{etag}</ETag><Size>{bytes}</Size></Contents>"
        );
    }
    Reply::text(200, "application/xml", &format!("{xml}</ListBucketResult>"))
}

fn part(object: Object, request: &Incoming<'_>) -> Reply {
    let (seed, bytes) = object;
    if request.header("if-match").is_some_and(|expected| expected != etag(object)) {
        return refused(412, "PreconditionFailed");
    }
    let content = Generated::new(seed);
    let open = move |from, until| -> Box<dyn Read> { Box::new(content.range(from, until)) };
    ranged(request.header("range"), bytes, open).with("etag", etag(object))
}
