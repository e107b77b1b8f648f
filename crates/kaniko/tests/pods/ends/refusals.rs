//! Refusals of the server, and connections that fail.

use ocib_kaniko::End;
use ocib_testkit::{KubeFault, KubeOptions, KubeRequest, KubeStep, Stdin};
use serde_json::json;

use super::Case;

pub(super) fn refusals() -> Vec<Case> {
    use End::{
        Admission, AttachRefused, ContextCut, ContextStalled, DockerfileTooLarge, Forbidden, LimitRange,
        NameTaken, NamespaceEnding, NamespaceMissing, Patch, PodInvalid, PodSecurity, Quota,
        ServiceAccountMissing, Unreachable,
    };
    let denied = |denied| KubeOptions { denied, ..KubeOptions::default() };
    vec![
        Case::new("no right to create", Forbidden, "cannot create resource \"pods\"", []).on(denied(&[("create", "pods")])),
        Case::new("no right at all", Forbidden, "cannot create resource \"pods\"", []).on(denied(&[("create", "pods"), ("get", "pods")])),
        Case::new("no right to watch", Forbidden, "cannot watch resource \"pods\"", []).on(denied(&[("watch", "pods")])),
        Case::new("no right to list", Forbidden, "cannot list resource \"pods\"", []).on(denied(&[("list", "pods")])),
        Case::new("no pod is left", Quota, "exceeded quota: few", []).on(KubeOptions { pods_max: Some(0), ..KubeOptions::default() }),
        Case::new("a restricted namespace", PodSecurity, "violates PodSecurity \"restricted", [])
            .on(KubeOptions { pod_security: Some("restricted"), ..KubeOptions::default() }),
        Case::new("no such namespace", NamespaceMissing, "\"elsewhere\" not found", []).with(|options| options.namespace = Some("elsewhere".to_owned())),
        Case::new("no such account", ServiceAccountMissing, "\"nobody\" not found", []).with(|options| options.service_account = Some("nobody".to_owned())),
        Case::new("a wrong label", PodInvalid, "metadata.labels", []).with(|options| {
            options.labels.insert("team".to_owned(), "not a label!".to_owned());
        }),
        Case::new("a field that nobody knows", PodInvalid, "unknown field", []).with(|options| options.patch = Some(json!({ "spec": { "nodename": "n" } }))),
        Case::new("a patch that does not fit", Patch, "/spec: expected an object", []).with(|options| options.patch = Some(json!({ "spec": [] }))),
        Case::new("a patch of the name", Patch, "it changes /metadata/name", [])
            .with(|options| options.patch = Some(json!({ "metadata": { "name": "mine" } }))),
        Case::new("too large", DockerfileTooLarge, "expected 262144 at most", []).with(|options| options.ca_bundle = Some("x".repeat(300_000))),
        Case::new("a webhook", Admission, "denied the request: no root", [])
            .faulty(|request| answer(request, 403, "admission webhook \"policy.example\" denied the request: no root")),
        Case::new("a range", LimitRange, "maximum memory usage per Container is 1Gi", [])
            .faulty(|request| answer(request, 403, "pods \"p\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi")),
        Case::new("a namespace that ends", NamespaceEnding, "being terminated", [])
            .faulty(|request| answer(request, 403, "pods \"p\" is forbidden: unable to create new content in namespace builds because it is being terminated")),
        Case::new("a name that is taken", NameTaken, "ocib-", []).faulty(|request| match request.method.as_str() {
            "POST" => answer(request, 409, "pods \"p\" already exists"),
            "GET" => Some(KubeFault::Answer(200, json!({ "metadata": { "name": "p", "uid": "other" } }).to_string())),
            _ => None,
        }),
        Case::new("nobody answers", Unreachable, "", [])
        .waiting(|patience| &mut patience.api).faulty(|_| Some(KubeFault::HangUp)),
        Case::ran("the server goes while the pod runs", Unreachable, "", [])
        .waiting(|patience| &mut patience.api)
            .faulty(|request| (request.method == "GET" && !request.path.contains("/pods/") && request.before > 1).then_some(KubeFault::HangUp)),
        Case::ran("no protocol in common", AttachRefused, "403", []).sending(1000).on(KubeOptions { attach: &["v9"], ..KubeOptions::default() }),
        Case::ran("a proxy that knows no WebSocket", AttachRefused, "switch protocol", [])
        .waiting(|patience| &mut patience.retry).sending(1000).faulty(|request| {
            request.path.ends_with("/attach").then(|| KubeFault::Answer(200, "hello".to_owned()))
        }),
        Case::ran("no right to attach", Forbidden, "cannot get resource \"pods/attach\"", []).sending(1000).on(denied(&[("get", "pods/attach")])),
        Case::ran("half a right to attach", Forbidden, "verbs get and create of pods/attach", []).sending(1000).on(denied(&[("create", "pods/attach")])),
        Case::ran("cut in the midst", ContextCut, "after", [KubeStep::Read(Stdin::All)]).sending(8 << 20).faulty(cut),
        Case::ran("cut in the midst on 1.20", ContextCut, "after", [KubeStep::Read(Stdin::All)])
            .sending(8 << 20)
            .on(KubeOptions::v1_20())
            .faulty(cut),
        Case::ran("nobody reads", ContextStalled, "nothing was taken for 5 s", [KubeStep::Read(Stdin::Bytes(1000)), KubeStep::Pause(30_000)])
        .waiting(|patience| &mut patience.stall).sending(64 << 20),
        Case::ran("it ends without reading", End::Executor, "disk quota", [
            KubeStep::Read(Stdin::Bytes(100_000)),
            KubeStep::Log("error building image: disk quota exceeded".to_owned()),
            KubeStep::Exit(1, "Error", String::new()),
        ])
        .sending(64 << 20),
        Case::ran("it ends without reading on 1.20", End::Executor, "disk quota", [
            KubeStep::Read(Stdin::Bytes(100_000)),
            KubeStep::Log("error building image: disk quota exceeded".to_owned()),
            KubeStep::Exit(1, "Error", String::new()),
        ])
        .sending(64 << 20)
        .on(KubeOptions::v1_20()),
    ]
}

fn is_create(request: &KubeRequest) -> bool {
    request.method == "POST" && request.path.ends_with("/pods")
}

fn answer(request: &KubeRequest, code: u16, message: &str) -> Option<KubeFault> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": "Forbidden",
        "code": code,
    });
    is_create(request).then(|| KubeFault::Answer(code, status.to_string()))
}

fn cut(request: &KubeRequest) -> Option<KubeFault> {
    request.path.ends_with("/attach").then_some(KubeFault::CutAfter(1 << 20))
}
