//! What `deployment/` has for others to start: as its specification wants it, and with the servers that it starts.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError::Timeout, channel};
use std::thread::scope;
use std::time::{Duration, Instant};

use harness::flowcept::Flowcept;
use harness::host::{need, root};
use harness::kafka;
use harness::python::python;
use harness::run::{Captured, until};
use harness::server::{Process, free_port};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::sinks::{Keeper, example, shipped};

const PASSWORD: &str = "c0rrect-h0rse-battery-staple";

/// The services of all compose files, by their names.
fn services() -> BTreeMap<String, Value> {
    let files = fs::read_dir(root().join("deployment/compose")).expect("because it is there").flatten();
    let files = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let script = root().join("tests/programs/check_compose.py");
    let output = Command::new(python()).arg(script).args(files).output().expect("because the interpreter is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("because it prints JSON")
}

/// As the shell of a container has it: compose writes $$ for $.
fn plain(text: &Value) -> String {
    text.as_str()
        .expect("because it is text")
        .replace("$$", "$")
        .replace("${KAFKA_PASSWORD:?choose a password}", PASSWORD)
}

#[test]
fn compose_files_are_valid_and_have_what_a_server_needs() {
    if !need(&["python"]) {
        return;
    }
    let services = services();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["kafka", "mongodb", "rabbitmq", "redis"]);
    // Users are made by what the harness starts the real server with, too.
    let rabbitmq = services["rabbitmq"]["environment"].as_object().expect("because it has some");
    assert!(["RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"].iter().all(|name| rabbitmq.contains_key(*name)));
}

/// The real Redis, by the command and the settings of its compose file: it keeps a stream when it is killed, and says no password.
#[test]
fn redis_of_the_compose_file() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let redis = services().remove("redis").expect("because it is there");
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    let has = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(|p| p.join(name)).find(|p| p.exists())
    };
    let program = has("redis-check-rdb").expect("because redis-tools are there");
    std::os::unix::fs::symlink(program, folder.path().join("redis-server")).expect("because the folder is ours");
    let settings = root().join("deployment/compose/redis.conf").display().to_string();
    let port = free_port();
    let here =
        format!("{} --port {port} --bind 127.0.0.1 --dir {}", plain(&redis["command"][2]), folder.path().display());
    let mut command = Command::new("sh");
    command.args(["-c", &here.replace("/etc/redis.conf", &settings)]).env("REDIS_PASSWORD", PASSWORD);
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default()));
    let health =
        plain(&redis["healthcheck"]["test"][1]).replace("redis-cli ping", &format!("redis-cli -p {port} ping"));
    let healthy = move || {
        let checked = Command::new("sh").args(["-c", &health]).env("REDIS_PASSWORD", PASSWORD).output();
        checked.is_ok_and(|output| output.status.success())
    };
    let mut process = Process::start(command, healthy);
    let shown = fs::read_to_string(format!("/proc/{}/cmdline", process.id())).expect("because it runs");
    assert!(shown.starts_with("redis-server") && !shown.contains(PASSWORD), "{shown}");
    let (_work, captured) = example();
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{port}");
    shipped(&captured, &["--to", &url, "--stream", "runs"]);
    // What it writes within a second.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    process.kill();
    process.restart();
    let ours = Flowcept::new(None);
    let keeper = Keeper::of(&url, &ours.database(), &["--stream", "runs"]);
    let cli = |arguments: &[&str]| {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &port.to_string()]).args(arguments).env("REDISCLI_AUTH", PASSWORD);
        String::from_utf8_lossy(&cli.output().expect("because it is there").stdout).into_owned()
    };
    let count = captured.ask(&["export", "last"]).lines().count();
    let all = format!("\"entries-read\",{count},\"lag\",0");
    until("the group to read all", || cli(&["--csv", "xinfo", "groups", "runs"]).contains(&all));
    until("the group to settle all", || cli(&["xpending", "runs", "flowcept"]).starts_with('0'));
    keeper.stop(Signal::SIGTERM);
    assert_eq!(keeper.counts()["kept"].as_u64(), Some(ours.has(&captured) as u64));
    let limit = cli(&["config", "get", "client-output-buffer-limit"]);
    assert!(limit.contains("pubsub 0 0 0"), "{limit}");
}

/// The real Kafka, by the environment of its compose file: its image makes `some.setting` of `KAFKA_SOME_SETTING`.
#[test]
fn kafka_of_the_compose_file() {
    if !need(&["python", "java", "mvn"]) {
        return;
    }
    let kafka = services().remove("kafka").expect("because it is there");
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    let [door, inside, controller] = [(); 3].map(|()| free_port());
    let data = folder.path().join("data").display().to_string();
    let mut settings = String::new();
    for (name, value) in kafka["environment"].as_object().expect("because it has some") {
        let name = name.strip_prefix("KAFKA_").expect("because all are the image's").to_lowercase().replace('_', ".");
        let value = value.as_str().map_or_else(|| value.to_string(), |_| plain(value));
        let value = value.replace("${KAFKA_HOST:-127.0.0.1}", "127.0.0.1").replace("CLIENT://:", "CLIENT://127.0.0.1:");
        let value = value.replace(":9092", &format!(":{door}")).replace(":9093", &format!(":{inside}"));
        let value = value.replace(":9094", &format!(":{controller}")).replace("/var/lib/kafka/data", &data);
        settings.push_str(&format!("{name}={value}\n"));
    }
    let _broker = kafka::run(&folder, inside, &settings);
    let (_work, captured) = example();
    let url = format!("kafka://flowcept:{PASSWORD}@127.0.0.1:{door}");
    shipped(&captured, &["--to", &url, "--channel", "runs"]);
    let ours = Flowcept::new(None);
    let keeper = Keeper::of(&url, &ours.database(), &["--channel", "runs"]);
    until("the group to settle all", || {
        let (all, settled) = kafka::counts(inside, 12, "runs", "flowcept");
        all > 0 && settled == all
    });
    keeper.stop(Signal::SIGTERM);
    assert_eq!(keeper.counts()["kept"].as_u64(), Some(ours.has(&captured) as u64));
}

/// systemd takes the unit as it is.
#[test]
fn the_unit_is_valid() {
    if !need(&["systemd-analyze"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    let unit = folder.path().join("flowcept-keeper.service");
    let text = fs::read_to_string(root().join("deployment/flowcept-keeper.service")).expect("because it is there");
    // It looks whether the program is there.
    fs::write(&unit, text.replace("/usr/local/bin/flowcept", "/bin/true")).expect("because the folder is ours");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output().expect("because it is there");
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// logrotate, by our file for it, while workflows come to a file: each document is in one of them, as it was sent.
#[test]
fn a_file_is_rotated_while_it_grows() {
    if !need(&["logrotate", "zcat"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    let at = |name: &str| folder.path().join(name);
    let ours = fs::read_to_string(root().join("deployment/flowcept-jsonl.logrotate")).expect("because it is there");
    let here = ours.replace("/var/lib/flowcept/", &format!("{}/", folder.path().display()));
    fs::write(at("logrotate.conf"), here).expect("because the folder is ours");
    let rotate = || {
        let mut logrotate = Command::new("logrotate");
        let output = logrotate.arg("--force").arg("--state").arg(at("state")).arg(at("logrotate.conf")).output();
        assert!(output.as_ref().is_ok_and(|output| output.status.success()), "{output:?}");
    };
    let to = format!("jsonl:{}", at("buffer.jsonl").display());
    let (mut sent, work) = (Vec::new(), tempfile::tempdir().expect("because tests may write temporary files"));
    let captured = scope(|scope| {
        let (done, goes_on) = channel::<()>();
        // Names are by the second.
        scope.spawn(move || {
            while goes_on.recv_timeout(Duration::from_millis(1100)).is_err_and(|e| e == Timeout) {
                rotate()
            }
        });
        let mut store = tempfile::tempdir().expect("because tests may write temporary files");
        let begun = Instant::now();
        loop {
            let captured = Captured::into(store, &["true"], work.path(), &[]);
            shipped(&captured, &["--to", &to]);
            sent.push(captured.ask(&["export", "last"]));
            if begun.elapsed() > Duration::from_secs(5) {
                drop(done);
                return captured;
            }
            store = captured.store;
        }
    });
    drop(captured);
    let mut files: Vec<_> =
        fs::read_dir(folder.path()).expect("because it is there").flatten().map(|f| f.path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("buffer.")));
    let packed = files.iter().filter(|path| path.extension().is_some_and(|e| e == "gz")).count();
    assert!(packed >= 2, "{files:?}");
    let output = Command::new("zcat").arg("--force").args(&files).output().expect("because it is there");
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&found), sorted(&sent.concat()));
}
