//! A real program as a pod's container: what is mounted lies in a directory, what was attached is its input,
//! what it says is the pod's log.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Stdio,
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Executor;

use super::{
    life::{container, exit, log},
    world::{NAP, World},
};

/// Kubelets keep so much of a termination message.
const MESSAGE_BYTES_MAX: usize = 4096;
/// And so many lines, where the log stands in for it.
const MESSAGE_LINES: usize = 80;
/// How long a secret that a pod mounts may take to appear: kubelets would wait for ever.
const SECRET_WAITS: u32 = 200;

/// Runs the program to its end. Whether the pod is still there then.
pub(super) fn run(world: &World, name: &str, uid: &str) -> bool {
    let root = TempDir::with_prefix("ocib-pod-").expect("a temporary directory");
    let Some(pod) = world.lock().pods.get(name).map(|pod| pod.json.clone()) else { return false };
    if !mount(world, &pod, root.path()) {
        return container(
            world,
            name,
            uid,
            "Pending",
            &json!({ "waiting": { "reason": "ContainerCreating" } }),
        );
    }
    let termination = root.path().join("dev/termination-log");
    fs::create_dir_all(root.path().join("dev"))
        .and_then(|()| fs::write(&termination, ""))
        .expect("files of ours");
    let spec = &pod["spec"]["containers"][0];
    let arguments = spec["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let has_input = spec["stdin"] == true;
    let mut command = Executor::new().command(root.path());
    command.args(arguments).process_group(0);
    for variable in spec["env"].as_array().into_iter().flatten() {
        let text = |field: &str| variable[field].as_str().unwrap_or_default().to_owned();
        command.env(text("name"), text("value"));
    }
    command.stdin(if has_input { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if !container(world, name, uid, "Running", &json!({ "running": {} })) {
        let _ = child.kill();
        let _ = child.wait();
        return false;
    }
    let output = {
        let mut state = world.lock();
        let Some(pod) = state.pods.get_mut(name) else {
            let _ = child.kill();
            let _ = child.wait();
            return false;
        };
        pod.process = Some(child);
        pod.output.take()
    };
    thread::scope(|scope| {
        if let (Some(mut input), Some(output)) = (input, output) {
            // Ends when whoever attached has ended, or the program takes no more.
            scope.spawn(move || {
                while let Ok(piece) = next(world, name, &output) {
                    if input.write_all(&piece).is_err() {
                        return;
                    }
                }
            });
        }
        for stream in
            [out.map(|out| Box::new(out) as Box<dyn Read + Send>), err.map(|err| Box::new(err) as _)]
        {
            let stream = stream.expect("both were asked for");
            scope.spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    log(world, name, &String::from_utf8_lossy(&line));
                }
            });
        }
    });
    let child = world.lock().pods.get_mut(name).and_then(|pod| pod.process.take());
    let Some(mut child) = child else { return false };
    let status = child.wait().expect("a child of ours can be waited for");
    let code = status.code().unwrap_or(137);
    let message = message(world, name, &termination, code);
    exit(world, name, uid, code, if code == 0 { "Completed" } else { "Error" }, &message)
}

fn next(world: &World, name: &str, output: &std::sync::mpsc::Receiver<Vec<u8>>) -> Result<Vec<u8>, ()> {
    use std::sync::mpsc::RecvTimeoutError;
    loop {
        match output.recv_timeout(NAP) {
            Ok(piece) => return Ok(piece),
            Err(RecvTimeoutError::Disconnected) => return Err(()),
            Err(RecvTimeoutError::Timeout) => {
                let mut state = world.lock();
                let process = state.pods.get_mut(name).and_then(|pod| pod.process.as_mut());
                // A program that has ended, or is not there any more, takes nothing.
                if state_is_over(process) || state.is_stopped {
                    return Err(());
                }
            }
        }
    }
}

fn state_is_over(process: Option<&mut std::process::Child>) -> bool {
    process.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
}

/// The termination message, or the end of the log where there is none and the end was bad.
fn message(world: &World, name: &str, file: &Path, code: i32) -> String {
    let said = fs::read_to_string(file).unwrap_or_default();
    if !said.is_empty() || code == 0 {
        return said.chars().take(MESSAGE_BYTES_MAX).collect();
    }
    let state = world.lock();
    let lines = state.pods.get(name).map(|pod| pod.log.as_slice()).unwrap_or_default();
    let last = &lines[lines.len().saturating_sub(MESSAGE_LINES)..];
    last.iter().map(|(_, line)| format!("{line}\n")).collect()
}

/// Puts what the container mounts below `root`. Whether all of it is there.
fn mount(world: &World, pod: &Value, root: &Path) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
    mounts.iter().all(|mount| {
        let volume =
            volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("validated at creation");
        let target = root.join(mount["mountPath"].as_str().unwrap_or_default().trim_start_matches('/'));
        if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            let directory = world.volumes.join(claim).join(mount["subPath"].as_str().unwrap_or_default());
            fs::create_dir_all(target.parent().expect("below the root")).expect("a directory of ours");
            // Kubelets wait for a volume that is not there.
            return directory.is_dir() && std::os::unix::fs::symlink(directory, target).is_ok();
        }
        let Some(files) = files(world, pod, volume) else { return false };
        for (path, content) in files {
            let file = match mount["subPath"].as_str() {
                Some(sub) if sub == path => target.clone(),
                Some(_) => continue,
                None => target.join(&path),
            };
            fs::create_dir_all(file.parent().expect("below the root")).expect("a directory of ours");
            fs::write(file, content).expect("a file of ours");
        }
        true
    })
}

/// Names and contents of a volume's files.
fn files(world: &World, pod: &Value, volume: &Value) -> Option<Vec<(String, Vec<u8>)>> {
    let items = |items: &Value| items.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(secret) = volume["secret"]["secretName"].as_str() {
        for _ in 0..SECRET_WAITS {
            if let Some(secret) = world.lock().secrets.get(secret) {
                let file = |item: &Value| {
                    let data = secret["data"][text(&item["key"])].as_str().unwrap_or_default();
                    (text(&item["path"]), STANDARD.decode(data).expect("data of secrets is base64"))
                };
                return Some(items(&volume["secret"]["items"]).iter().map(file).collect());
            }
            thread::sleep(Duration::from_millis(20));
        }
        return None;
    }
    let field = |item: &Value| {
        let path = text(&item["fieldRef"]["fieldPath"]);
        let key = path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"));
        let key = key.expect("only annotations are asked for");
        (text(&item["path"]), text(&pod["metadata"]["annotations"][key]).into_bytes())
    };
    Some(items(&volume["downwardAPI"]["items"]).iter().map(field).collect())
}
