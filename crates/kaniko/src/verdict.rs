//! What a pod's end was: the digest of what it pushed, or an [`End`]. The pod's status decides; what the
//! executor said only tells ends apart that have one exit code.

use ocib_image::{Digest, RunError};

use crate::{
    ends::End,
    state::{Ended, Observed, State},
};

/// The digest that the executor left behind, if it ended well.
pub(crate) fn verdict(observed: &Observed, log: &[String]) -> Result<Digest, RunError> {
    let ended = match &observed.state {
        State::Ended(ended) => ended,
        State::Replaced => return Err(End::Replaced.error("")),
        _ => return Err(disrupted(observed).unwrap_or_else(|| End::PodDeleted.error(""))),
    };
    // The digest is written before the push, and once for each layer of a cache: only a good end makes it
    // worth anything.
    if ended.exit_code == Some(0) {
        return match ended.message.trim().parse::<Digest>() {
            Ok(digest) if ended.message.trim().starts_with("sha256:") => Ok(digest),
            _ => Err(End::NoDigest.error(printed(&ended.message))),
        };
    }
    let error = by_pod(ended)
        .or_else(|| disrupted(observed))
        .or_else(|| by_container(ended))
        .or_else(|| observed.is_deleted.then(|| End::PodDeleted.error("")))
        .unwrap_or_else(|| by_executor(ended, log));
    Err(error)
}

/// Ends that the cluster names in the pod's own status.
fn by_pod(ended: &Ended) -> Option<RunError> {
    let end = match ended.pod_reason.as_str() {
        "" => return None,
        "Evicted" => End::Evicted,
        "DeadlineExceeded" => End::Deadline,
        "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated" => End::NodeLost,
        "Preempting" | "Preempted" => End::Preempted,
        // OutOfcpu, NodeAffinity, UnexpectedAdmissionError …: the node's own refusals, before any container.
        _ if ended.exit_code.is_none() => End::NotAdmitted,
        _ => return None,
    };
    let said = match ended.pod_message.as_str() {
        "" => &ended.pod_reason,
        message => message,
    };
    Some(end.error(said))
}

/// Ends that the cluster announces (Kubernetes 1.26 and later).
fn disrupted(observed: &Observed) -> Option<RunError> {
    let (reason, message) = observed.disruption.as_ref()?;
    let end = match reason.as_str() {
        "PreemptionByScheduler" | "PreemptionByKubeScheduler" => End::Preempted,
        "DeletionByTaintManager" | "DeletionByPodGC" | "TerminationByKubelet" => End::NodeLost,
        _ => End::PodDeleted,
    };
    Some(end.error(if message.is_empty() { reason } else { message }))
}

fn by_container(ended: &Ended) -> Option<RunError> {
    let end = match ended.reason.as_str() {
        // A RUN's own child that was killed gives 255, not 137: the reason counts. The message is the log's
        // tail, of whatever was said before.
        "OOMKilled" => return Some(End::OomKilled.error("")),
        "StartError" | "ContainerCannotRun" if ended.message.contains("exec format error") => {
            End::Architecture
        }
        "StartError" | "ContainerCannotRun" => End::StartFailed,
        "ContainerStatusUnknown" => End::NodeLost,
        _ => return None,
    };
    Some(end.error(printed(&ended.message)))
}

/// Signs in what the executor says last, in the order in which they are looked for.
const SIGNS: [(&[&str], End); 14] = [
    (&["error pushing image"], End::Push),
    (&["error checking push permissions"], End::Push),
    (&["checking push permission for"], End::Push),
    (&["exec format error"], End::Architecture),
    (&["no space left on device"], End::DiskFull),
    (&["gzip: invalid header"], End::ContextCut),
    (&["unexpected EOF", "context"], End::ContextCut),
    (&["error resolving source context"], End::ContextRead),
    (&["waiting for process to exit: exit status"], End::Command),
    (&["waiting for process to exit: signal"], End::CommandKilled),
    (&["operation not permitted"], End::Capability),
    (&["MANIFEST_UNKNOWN"], End::Base),
    (&["UNAUTHORIZED"], End::Base),
    (&["retrieving image"], End::Base),
];

/// Ends of the executor itself: what a RUN exits with is passed on, 255 stands for a signal, and 1 for
/// everything else.
fn by_executor(ended: &Ended, log: &[String]) -> RunError {
    let last = last_words(log).or_else(|| last_words(&lines(&ended.message))).unwrap_or_default();
    let signs = SIGNS.iter().find(|(signs, _)| signs.iter().all(|sign| last.contains(sign)));
    let end = match (signs, ended.exit_code) {
        (Some((_, end)), _) => *end,
        (None, Some(137 | 143)) => End::Killed,
        (None, Some(255)) => End::CommandKilled,
        (None, Some(1) | None) => End::Executor,
        (None, Some(_)) => End::Command,
    };
    match (end, ended.exit_code) {
        (End::Command, Some(code)) => End::Command.error(format!("it exited with {code}")),
        (End::CommandKilled, _) => end.error(""),
        (_, Some(code)) if last.is_empty() => end.error(format!("it exited with {code}")),
        _ => end.error(last),
    }
}

/// The line in which the executor says why it gave up: after flags that it does not know comes its whole
/// usage, after anything else nothing.
fn last_words(log: &[String]) -> Option<String> {
    const STARTS: [&str; 3] =
        ["error building image:", "error pushing image:", "error checking push permissions"];
    let said = |line: &&String| STARTS.iter().any(|start| line.contains(start));
    let found =
        log.iter().rev().find(said).or_else(|| log.iter().rev().find(|line| line.starts_with("Error:")));
    found.map(|line| line.trim().to_owned())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// A message of a container, cut to what fits an error.
fn printed(message: &str) -> String {
    const LONGEST: usize = 500;
    message.trim().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32, message: &str) -> Observed {
        let ended = Ended {
            exit_code: Some(exit_code),
            reason: "Error".to_owned(),
            message: message.to_owned(),
            is_final: true,
            ..Ended::default()
        };
        Observed { state: State::Ended(ended), disruption: None, is_deleted: false }
    }

    #[test]
    fn a_digest_counts_only_after_a_good_end() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(verdict(&ended(0, &digest), &[]).unwrap().to_string(), digest);
        assert_eq!(verdict(&ended(1, &digest), &[]).unwrap_err().cause, "run-executor");
        assert_eq!(verdict(&ended(0, ""), &[]).unwrap_err().cause, "run-no-digest");
        assert_eq!(verdict(&ended(0, "sha256:abc"), &[]).unwrap_err().cause, "run-no-digest");
    }

    #[test]
    fn running_out_of_memory_is_not_explained_by_what_was_said_before() {
        let mut observed = ended(1, "time=\"…\" level=info msg=\"RUN make\"\nerror building image: …\n");
        let State::Ended(ended) = &mut observed.state else { unreachable!("it ended") };
        ended.reason = "OOMKilled".to_owned();
        let error = verdict(&observed, &[]).unwrap_err();
        assert_eq!((error.cause, &*error.message), ("run-oom-killed", "the container ran out of memory"));
    }

    #[test]
    fn what_the_executor_says_tells_ends_apart() {
        for (code, line, cause) in [
            (42, "", "run-command"),
            (
                1,
                "error building image: error building stage: failed to execute command: waiting for process to exit: exit status 1",
                "run-command",
            ),
            (255, "", "run-command-killed"),
            (
                1,
                "error building image: getting stage builder for stage 0: MANIFEST_UNKNOWN: manifest unknown",
                "run-base",
            ),
            (1, "error pushing image: failed to push to destination r/a:t: DENIED", "run-push"),
            (1, "error checking push permissions -- make sure you entered the correct tag name", "run-push"),
            (1, "error building image: write /kaniko/1: no space left on device", "run-disk-full"),
            (1, "error building image: chown /a: operation not permitted", "run-capability"),
            (1, "error building image: fork/exec /bin/sh: exec format error", "run-exec-format"),
            (1, "Error: error resolving source context: unexpected EOF", "run-context-cut"),
            (1, "Error: error resolving source context: operation error S3: GetObject", "run-context-read"),
            (1, "Error: unknown flag: --compressed-caching", "run-executor"),
            (137, "", "run-killed"),
        ] {
            let log = [line.to_owned()];
            assert_eq!(verdict(&ended(code, ""), &log).unwrap_err().cause, cause, "{code} {line}");
            // The same without a log, as the container's own message.
            assert_eq!(verdict(&ended(code, line), &[]).unwrap_err().cause, cause, "{code} {line}");
        }
    }
}
