//! The registry's access log, in Apache's combined format.

/// One request that a registry answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, `POST`, `PATCH`, `PUT` or `DELETE`.
    pub method: String,
    /// Path without query, e.g. `/v2/a/blobs/uploads/`.
    pub path: String,
    /// What follows the question mark, or nothing.
    pub query: String,
    /// Status of the answer.
    pub status: u16,
    /// Length of the answer's body in bytes.
    pub bytes: u64,
}

/// The requests that a registry answered, and the questions that tests ask about them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served(pub Vec<Request>);

impl Served {
    /// What came after the requests of an `earlier` look at the same registry.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0[earlier.0.len()..].to_vec())
    }

    /// Requests with this method whose path contains `part`.
    pub fn with(&self, method: &str, part: &str) -> Vec<&Request> {
        self.0.iter().filter(|request| request.method == method && request.path.contains(part)).collect()
    }

    /// Digests of blobs whose bytes were fetched, in order.
    pub fn fetched(&self) -> Vec<&str> {
        let gets = self.0.iter().filter(|request| request.method == "GET" && request.status < 300);
        gets.filter_map(|request| request.path.split_once("/blobs/sha256:")).map(|(_, hex)| hex).collect()
    }

    /// Requests that carried bytes of a blob to the registry, whether they succeeded or not.
    pub fn uploads(&self) -> Vec<&Request> {
        let carries = |request: &&Request| match request.method.as_str() {
            "PATCH" => true,
            // Ends an upload (the bytes may have come by PATCH) or is all of one.
            "PUT" | "POST" => request.query.contains("digest="),
            _ => false,
        };
        let uploads = self.0.iter().filter(|request| request.path.contains("/blobs/uploads/"));
        uploads.filter(carries).collect()
    }

    /// Digests of the blobs that uploads completed, as often as they did, in order.
    pub fn completed(&self) -> Vec<&str> {
        let uploads = self.uploads().into_iter();
        let completed = uploads.filter(|request| request.method == "PUT" && request.status == 201);
        let mut digests: Vec<&str> =
            completed.filter_map(|request| Some(request.query.rsplit_once("digest=")?.1)).collect();
        digests.sort_unstable();
        digests
    }
}

/// Lines that are not an access are skipped: the registry's own log may stand between them.
pub(super) fn parse(log: &str) -> Vec<Request> {
    log.lines().filter_map(parse_line).collect()
}

/// `127.0.0.1 - user [10/Oct/2000:13:55:36 -0700] "GET /v2/ HTTP/1.1" 200 2 "" "agent"`
fn parse_line(line: &str) -> Option<Request> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut numbers = rest.split(' ');
    Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        status: numbers.next()?.parse().ok()?,
        bytes: numbers.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_accesses_and_skips_the_rest() {
        let log = "time=\"x\" level=warning msg=\"[a] \\\"b\"\n\
                   127.0.0.1 - - [20/Nov/2026:14:00:00 +0000] \"PUT /v2/a/blobs/uploads/1?digest=sha256%3Aab HTTP/1.1\" 201 0 \"\" \"x\"\n";
        let expected = Request {
            method: "PUT".to_owned(),
            path: "/v2/a/blobs/uploads/1".to_owned(),
            query: "digest=sha256%3Aab".to_owned(),
            status: 201,
            bytes: 0,
        };
        let served = Served(parse(log));
        assert_eq!(served, Served(vec![expected.clone()]));
        assert_eq!(served.uploads(), [&expected]);
        assert_eq!(served.fetched(), Vec::<&str>::new());
    }
}
