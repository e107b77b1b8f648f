//! STS, in the query protocol (STS API Reference).

use std::time::Duration;

use super::{
    AwsAction,
    account::{AccessKey, SESSION_LIFE, Trust},
    iam::denied,
    refusal::{REQUEST_ID, Refusal},
    sigv4::Signed,
    world::World,
};
use crate::http::{Incoming, Reply, iso, locked, pairs};

/// Longest form that an operation takes, tokens included.
const FORM_BYTES_MAX: u64 = 64 << 10;

/// Answers a call to STS, and says which action it was.
pub(super) fn answer(world: &World, request: &mut Incoming<'_>) -> (Option<AwsAction>, Option<Reply>) {
    let Ok(form) = request.read_all(FORM_BYTES_MAX) else { return (None, None) };
    let fields = pairs(&String::from_utf8_lossy(&form));
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let action = field("Action").and_then(|name| AwsAction::named(&format!("sts:{name}")));
    let call = Call { world, field: &field };
    let outcome = match action {
        Some(action) => world.misbehave(action, request).and_then(|()| match action {
            AwsAction::GetCallerIdentity => call.identity(&Signed::of(request, &form)),
            AwsAction::AssumeRole => call.assume(&Signed::of(request, &form)),
            AwsAction::AssumeRoleWithWebIdentity => call.assume_with_web_identity(),
            _ => Err(Refusal::unsupported(action.name())),
        }),
        None => Err(Refusal::signature("InvalidAction", "Could not find operation")),
    };
    let reply = outcome.unwrap_or_else(|refusal| refusal.sts());
    (action, Some(reply.with("x-amzn-requestid", REQUEST_ID)))
}

struct Call<'a> {
    world: &'a World,
    field: &'a dyn Fn(&str) -> Option<&'a str>,
}

impl Call<'_> {
    /// No permission is needed (GetCallerIdentity).
    fn identity(&self, signed: &Signed<'_>) -> Result<Reply, Refusal> {
        let options = &self.world.options;
        let caller =
            locked(&self.world.accounts).authenticate(signed, "sts", &options.region, self.world.now())?;
        let (arn, account) = (&caller.arn, &options.account);
        let result = format!("<Arn>{arn}</Arn><UserId>AIDAEMULATED</UserId><Account>{account}</Account>");
        Ok(xml("GetCallerIdentity", &result))
    }

    fn assume(&self, signed: &Signed<'_>) -> Result<Reply, Refusal> {
        let (role, session) = (self.text("RoleArn")?, self.text("RoleSessionName")?);
        let accounts = locked(&self.world.accounts);
        let caller = accounts.authenticate(signed, "sts", &self.world.options.region, self.world.now())?;
        accounts.authorize(&caller, AwsAction::AssumeRole.name(), role)?;
        if accounts.trust(role) != Some(&Trust::Account) {
            let text = denied(&caller.arn, "sts:AssumeRole", role, super::iam::Denial::Implicit);
            return Err(Refusal::denied(text));
        }
        drop(accounts);
        self.session("AssumeRole", role, session)
    }

    /// The request is not signed: the token proves who asks (AssumeRoleWithWebIdentity).
    fn assume_with_web_identity(&self) -> Result<Reply, Refusal> {
        let (role, session) = (self.text("RoleArn")?, self.text("RoleSessionName")?);
        let token = self.text("WebIdentityToken")?;
        match locked(&self.world.accounts).trust(role) {
            Some(Trust::WebIdentity(expected)) if expected == token => {}
            // A token that nobody of ours signed. (U) Text.
            Some(Trust::WebIdentity(_)) => {
                let text = "Couldn't retrieve verification key from your identity provider";
                return Err(Refusal::signature("InvalidIdentityToken", text));
            }
            // The text is the one that many reports of IRSA and GitHub's OIDC quote.
            _ => {
                let text = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
                return Err(Refusal::denied(text.to_owned()));
            }
        }
        self.session("AssumeRoleWithWebIdentity", role, session)
    }

    fn session(&self, operation: &str, role: &str, session: &str) -> Result<Reply, Refusal> {
        let life = match (self.field)("DurationSeconds").map(str::parse) {
            None => SESSION_LIFE,
            // The least and the most that AssumeRole takes.
            Some(Ok(seconds @ 900..=43_200)) => Duration::from_secs(seconds),
            Some(_) => return Err(invalid("DurationSeconds")),
        };
        let expires = self.world.now() + life;
        let key = locked(&self.world.accounts).start_session(role, session, expires);
        let AccessKey { id, secret, session_token, arn, .. } = &key;
        let (token, expires) = (session_token.as_deref().unwrap_or_default(), iso(expires));
        let result = format!(
            "<Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
             <AssumedRoleUser><AssumedRoleId>AROAEMULATED:{session}</AssumedRoleId><Arn>{arn}</Arn>\
             </AssumedRoleUser>"
        );
        Ok(xml(operation, &result))
    }

    fn text(&self, name: &str) -> Result<&str, Refusal> {
        (self.field)(name).filter(|text| !text.is_empty()).ok_or_else(|| invalid(name))
    }
}

fn invalid(name: &str) -> Refusal {
    Refusal::signature(
        "ValidationError",
        format!("1 validation error detected: Value at '{name}' is not valid"),
    )
}

fn xml(operation: &str, result: &str) -> Reply {
    let body = format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>{result}\
         </{operation}Result><ResponseMetadata><RequestId>{REQUEST_ID}</RequestId></ResponseMetadata>\
         </{operation}Response>"
    );
    Reply::text(200, "text/xml", &body)
}
