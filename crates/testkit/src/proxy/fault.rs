//! What a proxy can do to a request or its answer.

use crate::http::reason;

/// What goes wrong, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The connection is cut as soon as the registry got so many bytes of one request's body. Framing
    /// is not counted.
    RequestBody {
        /// Bytes of the body that still pass.
        after_bytes: u64,
    },
    /// The connection is cut as soon as the client got so many bytes on it since the fault was
    /// injected, heads of answers included.
    Response {
        /// Bytes that still pass.
        after_bytes: u64,
    },
    /// The connection is cut in the body of an answer.
    ResponseBody {
        /// Bytes of the body that still pass.
        after_bytes: u64,
    },
    /// The proxy answers instead of the registry, which gets no more of the request than the bytes
    /// before: nothing at all if there are none. The connection ends after it.
    Answer {
        /// Such as 401, 429, 500 or 502.
        status: u16,
        /// Seconds of a `Retry-After`.
        retry_after: Option<u32>,
        /// Bytes of the request's body that still pass.
        after_bytes: u64,
    },
    /// Nothing more of the request passes, until the proxy ends.
    RequestStall {
        /// Bytes of the body that still pass.
        after_bytes: u64,
    },
    /// Nothing more of the answer passes, until the proxy ends.
    ResponseStall {
        /// Bytes of the body that still pass; with none, the head passes all the same.
        after_bytes: u64,
    },
    /// A byte of the request's body is another one.
    RequestByte {
        /// Which one, from 0.
        at: u64,
    },
    /// A byte of the answer's body is another one: content does not fit its digest.
    ResponseByte {
        /// Which one, from 0.
        at: u64,
    },
    /// The body of an answer drips ("slow loris").
    ResponseDrip {
        /// At least 1.
        bytes_per_second: u32,
    },
}

/// What a request asks a registry for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RequestKind {
    /// `GET` of a manifest or index.
    ManifestGet,
    /// `HEAD` of a manifest or index.
    ManifestHead,
    /// `PUT` of a manifest or index.
    ManifestPut,
    /// `GET` of a blob.
    BlobGet,
    /// `HEAD` of a blob.
    BlobHead,
    /// `POST` of an upload, or of a mount.
    UploadPost,
    /// `PATCH` of an upload.
    UploadPatch,
    /// `PUT` of an upload.
    UploadPut,
    /// Anything else, such as `GET /v2/`.
    Other,
}

impl RequestKind {
    const ALL: [Self; 9] = [
        Self::ManifestGet,
        Self::ManifestHead,
        Self::ManifestPut,
        Self::BlobGet,
        Self::BlobHead,
        Self::UploadPost,
        Self::UploadPatch,
        Self::UploadPut,
        Self::Other,
    ];

    /// Of a request line in lower case.
    pub(super) fn of(line: &str) -> Self {
        let (method, path) = line.split_once(' ').unwrap_or_default();
        let is = |part: &str| path.contains(part);
        match (method, is("/blobs/uploads/"), is("/blobs/"), is("/manifests/")) {
            ("post", true, ..) => Self::UploadPost,
            ("patch", true, ..) => Self::UploadPatch,
            ("put", true, ..) => Self::UploadPut,
            ("get", false, true, _) => Self::BlobGet,
            ("head", false, true, _) => Self::BlobHead,
            ("get", false, false, true) => Self::ManifestGet,
            ("head", false, false, true) => Self::ManifestHead,
            ("put", false, false, true) => Self::ManifestPut,
            _ => Self::Other,
        }
    }
}

/// What a fault waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// A request's head is there and has not been passed on.
    Head,
    /// So many bytes of a request's body have passed, and not all.
    RequestBody(u64),
    /// This byte of a request's body has come.
    RequestByte(u64),
    /// So many bytes of an answer's body have passed, and not all.
    AnswerBody(u64),
    /// This byte of an answer's body has come.
    AnswerByte(u64),
    /// So many bytes of answers have passed, heads included.
    Answers(u64),
}

impl Fault {
    /// A fault and the kind of request that it befalls, the same for the same seed: together, seeds from
    /// 0 on befall every kind with everything that can befall it. Positions are within the first
    /// `body_bytes` bytes of a body, and what would need longer than a test has is left out.
    pub fn seeded(seed: u64, body_bytes: u64) -> (RequestKind, Self) {
        // SplitMix64 (Steele, Lea, Flood): neighbouring seeds have nothing in common.
        let mixed = (seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let at = (mixed ^ (mixed >> 31)) % body_bytes.max(1);
        let kind = RequestKind::ALL[(seed % RequestKind::ALL.len() as u64) as usize];
        let answer = |status, retry_after, after_bytes| Self::Answer { status, retry_after, after_bytes };
        let mut faults = vec![
            answer(429, Some(1), 0),
            answer(429, None, 0),
            answer(500, None, 0),
            answer(502, None, 0),
            answer(503, Some(0), 0),
            answer(401, None, 0),
            Self::Response { after_bytes: at % 100 },
        ];
        if kind.has_request_body() {
            faults.extend([
                Self::RequestBody { after_bytes: at },
                Self::RequestByte { at },
                answer(401, None, at),
                answer(500, None, at),
            ]);
        }
        if kind.has_answer_body() {
            faults.extend([Self::ResponseBody { after_bytes: at }, Self::ResponseByte { at }]);
        }
        let turn = seed / RequestKind::ALL.len() as u64;
        (kind, faults[(turn % faults.len() as u64) as usize])
    }

    pub(super) fn moment(self) -> Moment {
        match self {
            Self::RequestStall { after_bytes: 0 } | Self::Answer { after_bytes: 0, .. } => Moment::Head,
            Self::RequestBody { after_bytes }
            | Self::RequestStall { after_bytes }
            | Self::Answer { after_bytes, .. } => Moment::RequestBody(after_bytes),
            Self::RequestByte { at } => Moment::RequestByte(at),
            Self::Response { after_bytes } => Moment::Answers(after_bytes),
            Self::ResponseBody { after_bytes } | Self::ResponseStall { after_bytes } => {
                Moment::AnswerBody(after_bytes)
            }
            Self::ResponseByte { at } => Moment::AnswerByte(at),
            Self::ResponseDrip { .. } => Moment::AnswerBody(0),
        }
    }

    /// What the proxy says itself.
    pub(super) fn answer(self) -> Option<String> {
        let Self::Answer { status, retry_after, .. } = self else { return None };
        let (code, challenge) = match status {
            401 => ("UNAUTHORIZED", "www-authenticate: Basic realm=\"fault\"\r\n"),
            429 => ("TOOMANYREQUESTS", ""),
            _ => ("UNKNOWN", ""),
        };
        let retry = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"injected"}}]}}"#);
        Some(format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\n{challenge}{retry}\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            reason(status),
            body.len()
        ))
    }
}

impl Moment {
    /// How many bytes of a request's body may pass until then, after `body_bytes` have.
    pub(super) fn request_limit(self, body_bytes: u64) -> u64 {
        match self {
            Self::RequestBody(bytes) => bytes,
            Self::RequestByte(at) if at >= body_bytes => at + 1,
            _ => u64::MAX,
        }
    }

    /// The same of an answer's body.
    pub(super) fn answer_limit(self, body_bytes: u64) -> u64 {
        match self {
            Self::AnswerBody(bytes) => bytes,
            Self::AnswerByte(at) if at >= body_bytes => at + 1,
            _ => u64::MAX,
        }
    }

    /// Whether it has come in a body of which so many bytes had passed, and now have. A body that is
    /// complete cannot be broken off any more.
    pub(super) fn has_come(self, before: u64, now: u64, is_complete: bool) -> bool {
        match self {
            Self::RequestBody(bytes) | Self::AnswerBody(bytes) => now >= bytes && !is_complete,
            Self::RequestByte(at) | Self::AnswerByte(at) => before <= at && now == at + 1,
            Self::Head | Self::Answers(_) => false,
        }
    }
}

impl RequestKind {
    fn has_request_body(self) -> bool {
        matches!(self, Self::UploadPatch | Self::ManifestPut)
    }

    fn has_answer_body(self) -> bool {
        matches!(self, Self::ManifestGet | Self::BlobGet)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds() {
        for (line, expected) in [
            ("get /v2/ http/1.1", RequestKind::Other),
            ("post /v2/a/blobs/uploads/?mount=x http/1.1", RequestKind::UploadPost),
            ("patch /v2/a/blobs/uploads/1 http/1.1", RequestKind::UploadPatch),
            ("put /v2/a/blobs/uploads/1?digest=x http/1.1", RequestKind::UploadPut),
            ("head /v2/a/blobs/sha256:x http/1.1", RequestKind::BlobHead),
            ("get /v2/a/manifests/1 http/1.1", RequestKind::ManifestGet),
        ] {
            assert_eq!(RequestKind::of(line), expected, "{line}");
        }
    }

    #[test]
    fn seeds_repeat_and_differ() {
        let all = || (0..99).map(|seed| format!("{:?}", Fault::seeded(seed, 1000)));
        assert!(all().eq(all()));
        // 7 for each of 9 kinds, 4 more for two of them and 2 more for two others.
        let different: BTreeSet<String> = all().map(|fault| without_positions(&fault)).collect();
        assert!(different.len() >= 63, "{}", different.len());
    }

    fn without_positions(fault: &str) -> String {
        fault.split("bytes: ").next().unwrap_or_default().to_owned()
    }
}
