//! What all parts of the emulator share, and how a request gets in: faults, quota, identity, IAM, and
//! only then its arguments.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use ocib_image::Digest;

use super::{
    AwsAction, EcrCall, EcrFault, EcrOptions, EcrRepository, MissingRepository,
    account::{Accounts, Caller},
    fault::Faults,
    metadata::Metadata,
    quota::Quotas,
    refusal::Refusal,
    repository::Repository,
    upload::{SharedUpload, Upload, UploadSession},
};
use crate::http::{Break, Incoming, locked};

/// Locks are held for a moment each, but for an upload's, which lasts as long as its body arrives. No
/// two are held at once but for an upload's and another.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: EcrOptions,
    pub(super) accounts: Mutex<Accounts>,
    pub(super) repositories: Mutex<BTreeMap<String, Repository>>,
    pub(super) uploads: Mutex<BTreeMap<String, SharedUpload>>,
    /// What came of each upload, in the order of their beginning.
    pub(super) sessions: Mutex<Vec<Arc<Mutex<UploadSession>>>>,
    pub(super) downloads: Mutex<BTreeMap<String, (String, Digest)>>,
    pub(super) metadata: Mutex<Metadata>,
    pub(super) quotas: Mutex<Quotas>,
    pub(super) faults: Mutex<Faults>,
    pub(super) calls: Mutex<Vec<EcrCall>>,
}

impl World {
    pub(super) fn new(options: EcrOptions) -> Self {
        Self {
            accounts: Mutex::new(Accounts::new(&options.account, options.partition())),
            repositories: Mutex::default(),
            uploads: Mutex::default(),
            sessions: Mutex::default(),
            downloads: Mutex::default(),
            metadata: Mutex::default(),
            quotas: Mutex::new(Quotas::new(options.quotas.clone())),
            faults: Mutex::default(),
            calls: Mutex::default(),
            options,
        }
    }

    /// The emulator's time.
    pub(super) fn now(&self) -> SystemTime {
        let ahead = Duration::from_secs(self.options.clock_ahead_seconds.unsigned_abs());
        let now = SystemTime::now();
        if self.options.clock_ahead_seconds < 0 { now - ahead } else { now + ahead }
    }

    /// Lets happen what is planned for this request.
    pub(super) fn misbehave(&self, action: AwsAction, request: &mut Incoming<'_>) -> Result<(), Refusal> {
        let due = locked(&self.faults).due(action);
        for fault in due {
            match fault {
                EcrFault::Refuse { status, message } => return Err(refusal(status, &message)),
                EcrFault::ExpireTokens => locked(&self.accounts).expire_tokens(),
                EcrFault::DropUpload => self.forget_upload(&request.path),
                EcrFault::LoseAnswer => locked(&self.faults).lose(action),
                EcrFault::Rewind => return Err(Refusal::layer_part("", &self.options.account, "", 1, 0)),
                EcrFault::Reset { after_bytes } => break_off(request, after_bytes, Break::Cut)?,
                EcrFault::Stall { after_bytes } => break_off(request, after_bytes, Break::Stall)?,
            }
        }
        Ok(())
    }

    fn forget_upload(&self, path: &str) {
        let id = path.rsplit('/').next().unwrap_or_default();
        let upload = locked(&self.uploads).get(id).cloned();
        upload.inspect(|upload| locked(upload).forget());
    }

    /// Lets a request in whose caller is known: quota, then IAM. (U) In this order.
    pub(super) fn admit(&self, action: AwsAction, caller: &Caller, resource: &str) -> Result<(), Refusal> {
        if !locked(&self.quotas).take(action, Instant::now()) {
            return Err(Refusal::throttled());
        }
        match self.options.right(action) {
            Some(right) => locked(&self.accounts).authorize(caller, &right, resource),
            None => Ok(()),
        }
    }

    /// Works on a repository that must exist.
    pub(super) fn with_repository<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Repository) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut repositories = locked(&self.repositories);
        let missing = || Refusal::no_repository(name, &self.options.account);
        work(repositories.get_mut(name).ok_or_else(missing)?)
    }

    /// Makes sure that a repository exists that something is pushed into.
    pub(super) fn enter_repository(&self, name: &str, caller: &Caller) -> Result<(), Refusal> {
        if locked(&self.repositories).contains_key(name) {
            return Ok(());
        }
        if self.options.missing_repository != MissingRepository::Create {
            return Err(Refusal::no_repository(name, &self.options.account));
        }
        let resource = self.options.repository_arn(name);
        self.admit(AwsAction::CreateRepository, caller, &resource)?;
        let settings = EcrRepository { name: name.to_owned(), ..EcrRepository::default() };
        locked(&self.repositories).insert(name.to_owned(), Repository::new(settings, self.now()));
        Ok(())
    }

    /// Begins an upload into a repository that exists and returns its ID.
    pub(super) fn start_upload(&self, repository: &str) -> String {
        let digits = locked(&self.accounts).opaque("", 32);
        let ends = [8, 12, 16, 20, 32];
        let parts = ends.iter().scan(0, |from, to| Some(&digits[std::mem::replace(from, *to)..*to]));
        let id = parts.collect::<Vec<_>>().join("-");
        let upload = Upload::new(&id, repository, &self.options);
        locked(&self.sessions).push(upload.seen());
        locked(&self.uploads).insert(id.clone(), Arc::new(Mutex::new(upload)));
        id
    }

    /// An upload that was begun in this repository and still takes something.
    pub(super) fn upload(&self, id: &str, repository: &str) -> Result<SharedUpload, Refusal> {
        let upload = locked(&self.uploads).get(id).cloned();
        let upload = upload.ok_or_else(|| Refusal::no_upload(id, repository, &self.options.account))?;
        locked(&upload).check(repository, &self.options)?;
        Ok(upload)
    }

    /// A URL at the second origin that gives a blob of a repository.
    pub(super) fn presign(&self, layers: &str, repository: &str, digest: Digest) -> String {
        let signature = locked(&self.accounts).opaque("", 64);
        locked(&self.downloads).insert(signature.clone(), (repository.to_owned(), digest));
        format!(
            "http://{layers}/{}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature={signature}",
            digest.hex()
        )
    }
}

/// Breaks off at once what has no body to break off.
fn break_off(request: &mut Incoming<'_>, after_bytes: u64, how: Break) -> Result<(), Refusal> {
    if request.length() != Some(0) {
        request.break_body(after_bytes, how);
        return Ok(());
    }
    if how == Break::Stall {
        request.stall();
    }
    Err(Refusal::hang_up())
}

fn refusal(status: u16, message: &str) -> Refusal {
    let (code, exception) = match status {
        401 | 403 => ("DENIED", "AccessDeniedException"),
        405 => ("UNSUPPORTED", "UnsupportedCommandException"),
        429 => ("TOOMANYREQUESTS", "ThrottlingException"),
        _ => ("UNKNOWN", "ServerException"),
    };
    Refusal::injected(status, code, exception, message)
}
