//! Whom to ask for a bucket, as whom, and what refusals mean.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
#[cfg(feature = "gcs")]
use ocib_net::header::AUTHORIZATION;
use ocib_net::{
    Backoff, Method, Redacted, Response, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    retry,
};

use super::{
    BucketLocation, BucketOptions, BucketProblem, Provider,
    list::{Listing, Page, decoded, element},
};
use crate::{Error, client::Client, userinfo::percent_encoded, web::failure};

/// A bucket, as somebody sees it.
pub(super) struct Access {
    client: Arc<Client>,
    options: Arc<BucketOptions>,
    location: BucketLocation,
    /// The bucket's region, as far as it is known.
    region: Mutex<String>,
}

/// Where buckets are whose region nobody has named.
const DEFAULT_REGION: &str = "us-east-1";
const GOOGLE: &str = "https://storage.googleapis.com";
/// 1,000 keys of 1,024 bytes, each of which may be written as `%XX`, and what is around them.
const PAGE_BYTES_MAX: usize = 6 << 20;
const OBJECTS_MAX: usize = 200_000;
/// Pages may be short, or even empty, as Google's are where much was removed.
const PAGES_MAX: usize = 20_000;

impl Access {
    pub(super) fn new(
        client: Arc<Client>,
        options: Arc<BucketOptions>,
        location: &BucketLocation,
    ) -> Result<Self, Error> {
        let feature = match location.provider {
            Provider::S3 if !cfg!(feature = "s3") => Some("s3"),
            Provider::Gcs if !cfg!(feature = "gcs") => Some("gcs"),
            _ => None,
        };
        let region = Mutex::new(DEFAULT_REGION.to_owned());
        let access = Self { client, options, location: location.clone(), region };
        match feature {
            Some(feature) => Err(access.error(BucketProblem::LeftOut { feature })),
            None => Ok(access),
        }
    }

    pub(super) fn error(&self, problem: BucketProblem) -> Error {
        Error::Bucket { name: self.location.to_string(), problem: Box::new(problem) }
    }

    pub(super) fn region(&self) -> String {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store that was named instead of Amazon's or Google's own.
    pub(super) fn endpoint(&self) -> Option<Url> {
        match self.location.provider {
            Provider::S3 => self.options.s3_endpoint.clone(),
            Provider::Gcs => self.options.gcs_endpoint.clone(),
        }
    }

    /// The URL of an object, or of the bucket for an empty key.
    pub(super) fn url(&self, key: &str) -> Url {
        let bucket = &self.location.bucket;
        let endpoint = match self.location.provider {
            Provider::S3 => self.endpoint(),
            Provider::Gcs => Some(self.endpoint().unwrap_or_else(|| constant(GOOGLE))),
        };
        let (mut url, in_path) = match endpoint {
            Some(endpoint) => (endpoint, true),
            None => {
                let region = self.region();
                let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                // A certificate's star stands for one label.
                let in_path = bucket.contains(['.', '_']) || bucket.bytes().any(|b| b.is_ascii_uppercase());
                let host = if in_path { String::new() } else { format!("{bucket}.") };
                let url = format!("https://{host}s3.{region}.{domain}").parse();
                (url.unwrap_or_else(|_| constant("https://s3.us-east-1.amazonaws.com")), in_path)
            }
        };
        let base = url.path().trim_end_matches('/').to_owned();
        let bucket = if in_path { format!("/{}", encoded(bucket)) } else { String::new() };
        url.set_path(&format!("{base}{bucket}/{}", encoded(key)));
        url
    }

    /// The answer to a request, whatever its status.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response, Error> {
        self.send(method, url, headers, Bytes::new()).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, Error> {
        let mut all = headers.clone();
        all.extend(self.payer());
        all.extend(self.proof(&method, url, &all, &body).await?);
        self.client.send(method, url, all, body).await
    }

    /// The answer to a request for an object, or for the bucket if the key is empty, whatever its status. A
    /// bucket of another region says so, and is asked there.
    pub(super) async fn ask_for(
        &self,
        method: Method,
        key: &str,
        query: &str,
        body: Bytes,
    ) -> Result<Response, Error> {
        let url = || {
            let mut url = self.url(key);
            url.set_query(Some(query).filter(|query| !query.is_empty()));
            url
        };
        let mut response = self.send(method.clone(), &url(), &HeaderMap::new(), body.clone()).await?;
        let other = match response.status().is_success() {
            true => None,
            false => other_region(&mut response).await,
        };
        match other.filter(|region| *region != self.region()) {
            Some(region) => {
                *self.region.lock().unwrap_or_else(PoisonError::into_inner) = region;
                self.send(method, &url(), &HeaderMap::new(), body).await
            }
            None => Ok(response),
        }
    }

    /// The header that says who pays, if not the bucket's owner does (Amazon S3 API and Google's XML API, "Requester
    /// pays"). Owners need not send it and may.
    fn payer(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self.location.provider {
            Provider::S3 => {
                let is_meant = self.options.s3_requester_pays;
                ("x-amz-request-payer", is_meant.then(|| HeaderValue::from_static("requester")))
            }
            Provider::Gcs => ("x-goog-user-project", self.options.gcs_user_project.clone()),
        };
        Some((HeaderName::from_static(name), value?))
    }

    /// Headers that say who asks; none for nobody.
    async fn proof(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<HeaderMap, Error> {
        let _ = (method, url, headers, body);
        match self.location.provider {
            #[cfg(feature = "s3")]
            Provider::S3 => {
                use ocib_net::aws::{S3Request, sign_s3};
                let Some(aws) = &self.options.aws else { return Ok(HeaderMap::new()) };
                let region = self.region();
                match aws.session(&region).await {
                    Ok(session) => {
                        let request = S3Request { method, url, headers, region: &region, body };
                        Ok(sign_s3(request, &session, std::time::SystemTime::now())?)
                    }
                    Err(error) if error.is_absence() => Ok(HeaderMap::new()),
                    Err(error) => Err(error.into()),
                }
            }
            #[cfg(feature = "gcs")]
            Provider::Gcs => {
                let Some(google) = &self.options.google else { return Ok(HeaderMap::new()) };
                let token = match google.token().await {
                    Ok(token) => token.token,
                    Err(error) if error.is_absence() => return Ok(HeaderMap::new()),
                    Err(error) => return Err(error.into()),
                };
                let mut headers = HeaderMap::new();
                if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
                    value.set_sensitive(true);
                    headers.insert(AUTHORIZATION, value);
                }
                Ok(headers)
            }
            #[cfg(not(all(feature = "s3", feature = "gcs")))]
            _ => Ok(HeaderMap::new()),
        }
    }

    /// Objects whose keys begin with `prefix`: `most` of them at least, if there are so many.
    pub(super) async fn list(
        &self,
        prefix: &str,
        most: usize,
        backoff: Backoff,
    ) -> Result<Vec<Listing>, Error> {
        self.choose_region().await;
        let (mut objects, mut next) = (Vec::new(), None::<String>);
        let mut tokens = BTreeSet::new();
        loop {
            let page = retry(backoff, async || self.page(prefix, most, next.as_deref()).await).await;
            let page = page.map_err(|error| self.throttled(error))?;
            objects.extend(page.objects);
            if objects.len() > OBJECTS_MAX {
                let why = format!("a list of more than {OBJECTS_MAX} objects, expected a longer prefix");
                return Err(self.error(BucketProblem::NotS3 { why }));
            }
            let Some(token) = page.next.filter(|_| objects.len() < most) else { return Ok(objects) };
            if !tokens.insert(token.clone()) || tokens.len() > PAGES_MAX {
                let why = "its list of objects has no end".to_owned();
                return Err(self.error(BucketProblem::NotS3 { why }));
            }
            next = Some(token);
        }
    }

    async fn page(&self, prefix: &str, most: usize, token: Option<&str>) -> Result<Page, Error> {
        let query = page_query(prefix, most, token);
        let response = self.ask_for(Method::GET, "", &query, Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = response.bytes(PAGE_BYTES_MAX).await?;
        let xml = String::from_utf8_lossy(&bytes);
        Page::parse(&xml).map_err(|why| self.error(BucketProblem::NotS3 { why }))
    }

    /// The region that the environment or the profile names, if they name one.
    pub(super) async fn choose_region(&self) {
        #[cfg(feature = "s3")]
        if self.location.provider == Provider::S3
            && self.options.aws.is_some()
            && let Some(region) = ocib_net::aws::Aws::configured_region().await
        {
            *self.region.lock().unwrap_or_else(PoisonError::into_inner) = region;
        }
    }

    /// What an answer means that is no success.
    pub(super) async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let region =
            response.header("x-amz-bucket-region").map(|text| ocib_net::printable(text.as_bytes(), 50));
        let mut failed = failure(response).await;
        let ocib_net::Error::Status { said, .. } = &mut failed else { return failed.into() };
        let code = element(said, "Code").unwrap_or_default().to_owned();
        if let Some(message) = element(said, "Message") {
            *said = format!("{code}: {}", decoded(message));
        }
        let said = said.clone();
        self.error(match (&*code.clone(), status) {
            ("NoSuchBucket", _) => BucketProblem::NoBucket,
            (
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
                _,
            )
            | (_, StatusCode::MOVED_PERMANENTLY) => BucketProblem::OtherRegion { region, said },
            ("InvalidObjectState", _) => BucketProblem::Archived { said },
            // As status 400.
            ("ExpiredToken" | "InvalidToken" | "UserProjectMissing", _)
            | (_, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) => {
                BucketProblem::Denied { who: self.who().await, code, said }
            }
            (_, StatusCode::NOT_FOUND) => BucketProblem::Nothing,
            _ => return failed.into(),
        })
    }

    /// What a refusal means that waiting did not help.
    fn throttled(&self, failed: Error) -> Error {
        match failed {
            Error::Http(ocib_net::Error::Status { status, said, .. })
                if status == StatusCode::TOO_MANY_REQUESTS || said.starts_with("SlowDown") =>
            {
                self.error(BucketProblem::Throttled { said })
            }
            failed => failed,
        }
    }

    /// Who asks, for messages.
    async fn who(&self) -> String {
        match self.location.provider {
            #[cfg(feature = "s3")]
            Provider::S3 => {
                if let Some(aws) = &self.options.aws
                    && let Ok(session) = aws.session(&self.region()).await
                {
                    let key = session.credentials.access_key_id();
                    return format!("the access key {key} ({})", session.provider);
                }
            }
            #[cfg(feature = "gcs")]
            Provider::Gcs => {
                if let Some(google) = &self.options.google
                    && let Ok(token) = google.token().await
                {
                    return token.identity.name.unwrap_or(token.identity.provider);
                }
            }
            #[cfg(not(all(feature = "s3", feature = "gcs")))]
            _ => {}
        }
        "nobody (no credentials were found)".to_owned()
    }
}

/// The region that a refusal names: in a header, or in the text alone, as `AuthorizationHeaderMalformed` does. It
/// becomes a part of the host that is asked next, so it must not be able to name another one.
async fn other_region(response: &mut Response) -> Option<String> {
    let region = match response.header("x-amz-bucket-region") {
        Some(region) => region.to_owned(),
        None => element(&String::from_utf8_lossy(response.peek().await), "Region")?.to_owned(),
    };
    let is_region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    Some(region).filter(|region| !region.is_empty() && region.bytes().all(is_region))
}

fn page_query(prefix: &str, most: usize, token: Option<&str>) -> String {
    let mut query = "list-type=2&encoding-type=url".to_owned();
    let mut add = |name: &str, value: &str| query.push_str(&format!("&{name}={}", percent_encoded(value)));
    add("prefix", prefix);
    if most < 1000 {
        add("max-keys", &most.to_string());
    }
    if let Some(token) = token {
        add("continuation-token", token);
    }
    query
}

fn constant(url: &str) -> Url {
    url.parse().expect("it is a URL")
}

/// A key as a path: all but unreserved characters and slashes as `%XX`, which is how it is signed.
fn encoded(key: &str) -> String {
    key.split('/').map(percent_encoded).collect::<Vec<_>>().join("/")
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({}, {})", self.location, Redacted::of(&self.url("")))
    }
}
