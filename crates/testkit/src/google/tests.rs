use std::time::UNIX_EPOCH;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

/// What curl gets, with the status after it.
fn curl(arguments: &[&str]) -> (Value, u16) {
    let output = run("curl", "curl", &[&["-sS", "-w", "\n%{http_code}"], arguments].concat());
    let (body, status) = output.rsplit_once('\n').unwrap();
    (serde_json::from_str(body).unwrap_or_else(|_| body.into()), status.parse().unwrap())
}

fn read(file: &PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

fn post(url: &str, fields: &[(&str, &str)]) -> (Value, u16) {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let arguments: Vec<&str> = fields.iter().flat_map(|field| ["--data-urlencode", field.as_str()]).collect();
    curl(&[&[url], &arguments[..]].concat())
}

fn refused(code: &str, text: &str) -> (Value, u16) {
    (json!({"error": code, "error_description": text}), 400)
}

#[test]
fn the_metadata_server_wants_its_header() {
    let google = GoogleEmulator::start();
    let url = google.url("/computeMetadata/v1/instance/service-accounts/default/token");
    assert_eq!(curl(&[&url]), ("Missing Metadata-Flavor:Google header.".into(), 403));
    let (answer, status) = curl(&[&url, "-H", "Metadata-Flavor: Google"]);
    let token = text(&answer, "access_token");
    assert!(status == 200 && google.accepts(&token) && google.secrets().contains(&token));
    google.expire_tokens();
    assert!(!google.accepts(&token));
    assert_eq!(google.requests().0.len(), 2);
}

#[test]
fn assertions_are_checked() {
    let google = GoogleEmulator::start();
    let account = read(&google.service_account_file());
    let url = text(&account, "token_uri");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let sign = |issuer: &str, expires: u64| {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": issuer, "scope": "s", "aud": url, "iat": now, "exp": expires});
        let signed = format!("{}.{}", encode(json!({"alg": "RS256"})), encode(claims));
        let (key, input) =
            (google.state.file("k", &text(&account, "private_key")), google.state.file("i", &signed));
        let output = google.state.path("o").display().to_string();
        let (key, input) = (key.display().to_string(), input.display().to_string());
        run("openssl", "openssl", &["dgst", "-sha256", "-sign", &key, "-out", &output, &input]);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fs::read(output).unwrap()))
    };
    let grant = |assertion: &str| {
        let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        post(&url, &[("grant_type", kind), ("assertion", assertion)])
    };
    let (answer, status) = grant(&sign(EMAIL, now + 3600));
    assert!(status == 200 && google.accepts(&text(&answer, "access_token")), "{answer}");
    let late = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.";
    for (assertion, expected) in [
        (sign("x@y", now + 3600), refused("invalid_grant", "Invalid grant: account not found")),
        (sign(EMAIL, now + 3601), refused("invalid_grant", late)),
        (sign(EMAIL, now - 3600), refused("invalid_grant", late)),
        (
            sign(EMAIL, now + 3600).rsplit_once('.').unwrap().0.to_owned() + ".AAAA",
            refused("invalid_grant", "Invalid JWT Signature."),
        ),
        ("nonsense".to_owned(), refused("invalid_grant", "Bad Request")),
    ] {
        assert_eq!(grant(&assertion), expected, "{assertion}");
    }
}

#[test]
fn users_and_federation() {
    let google = GoogleEmulator::start();
    let user = read(&google.authorized_user_file());
    let refresh = |token: &str| {
        let fields =
            [("grant_type", "refresh_token"), ("client_id", "1"), ("client_secret", "client-secret")];
        post(&text(&user, "token_uri"), &[&fields[..], &[("refresh_token", token)]].concat())
    };
    assert!(google.accepts(&text(&refresh(&text(&user, "refresh_token")).0, "access_token")));
    assert_eq!(refresh("x"), refused("invalid_grant", "Bad Request"));

    let external = read(&google.external_account_file(true));
    let subject = fs::read_to_string(external["credential_source"]["file"].as_str().unwrap()).unwrap();
    let exchange = |subject: &str| {
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("audience", AUDIENCE),
            ("subject_token", subject),
        ];
        post(&text(&external, "token_url"), &fields)
    };
    let rejected = "The given credential is rejected by the attribute condition.";
    assert_eq!(exchange("x"), refused("invalid_grant", rejected));
    let federated = text(&exchange(&subject).0, "access_token");
    let url = text(&external, "service_account_impersonation_url");
    let impersonate = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        curl(&[&url, "-H", &header, "-H", "Content-Type: application/json", "-d", r#"{"scope": ["s"]}"#])
    };
    assert!(google.accepts(&text(&impersonate(&federated).0, "accessToken")));
    assert_eq!(impersonate("x").1, 401);
}
