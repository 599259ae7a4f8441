//! Settings: Flowcept's own files, programs and command line beside ours, and what is done by them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::host::{binary, library, need, root};
use harness::python::python;
use harness::redis::Server;
use harness::run::{Helper, said};
use harness::server::free_port;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &str = "tr0ub4dor-and-3";

/// A user with a home of their own.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("because tests may write temporary files") }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join(".flowcept/settings.yaml")
    }

    fn settings(self, text: &str) -> Self {
        fs::create_dir_all(self.home.path().join(".flowcept")).expect("because the home is ours");
        fs::write(self.path(), text).expect("because the folder was just made");
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).expect("because it is ours");
        self
    }

    /// A program in their home, without anything of our environment.
    fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("PATH", path);
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.program(binary(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("because the binary was just built")
    }

    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("because it is text")
    }

    /// `show-settings --json`, by key.
    fn shown(&self, more: &[&str]) -> BTreeMap<String, Value> {
        let text = self.told(&[more, &["show-settings", "--json"]].concat());
        let rows: Vec<Value> = serde_json::from_str(&text).expect("because it is JSON");
        rows.into_iter().map(|row| (row["key"].as_str().unwrap_or_default().to_string(), row)).collect()
    }

    /// What a script of Flowcept's prints: JSON.
    fn python(&self, script: &str, arguments: &[&str]) -> BTreeMap<String, Value> {
        let script = root().join("tests/programs").join(script).to_string_lossy().into_owned();
        let output = self.program(&python(), &[&[&*script], arguments].concat()).output();
        let output = output.expect("because the interpreter is there");
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", said(&output)))
    }
}

/// Flowcept's sample, as it is.
fn sample() -> PathBuf {
    let packages = python().with_file_name("../lib");
    let folders = fs::read_dir(packages).expect("because it has a library").flatten();
    let files = folders.map(|folder| folder.path().join("site-packages/resources/sample_settings.yaml"));
    files.into_iter().find(|file| file.exists()).expect("because Flowcept has a sample")
}

/// What the settings change here; all else is named as what it is not used for.
const USED: [&str; 41] = [
    "capture.ring_bytes",
    "capture.source",
    "databases.lmdb.enabled",
    "databases.lmdb.path",
    "databases.mongodb.db",
    "databases.mongodb.enabled",
    "databases.mongodb.host",
    "databases.mongodb.port",
    "databases.mongodb.uri",
    "db_buffer.buffer_size",
    "db_buffer.insertion_buffer_time_secs",
    "db_buffer.remove_empty_fields",
    "experiment.user",
    "extra_metadata",
    "kv_db.host",
    "kv_db.password",
    "kv_db.port",
    "kv_db.uri",
    "mq.channel",
    "mq.enabled",
    "mq.group_id",
    "mq.host",
    "mq.password",
    "mq.port",
    "mq.same_as_kvdb",
    "mq.stream",
    "mq.type",
    "mq.uri",
    "mq.username",
    "mq.vhost",
    "project.db_flush_mode",
    "project.dump_buffer.enabled",
    "project.dump_buffer.path",
    "sys_metadata.environment_id",
    "telemetry_capture.cpu",
    "telemetry_capture.disk",
    "telemetry_capture.enabled",
    "telemetry_capture.mem",
    "telemetry_capture.network",
    "telemetry_capture.per_cpu",
    "telemetry_capture.process_info",
];

/// Flowcept's sample is accepted as it is: each of its keys has its value and its line, and is used or says why not.
#[test]
fn flowcept_s_own_sample_is_accepted() {
    if !need(&["python"]) {
        return;
    }
    let (user, sample) = (User::new(), sample());
    let path = sample.to_string_lossy().into_owned();
    let theirs = user.python("flat_settings.py", &[&path]);
    let ours = user.shown(&["--settings", &path]);
    let text = fs::read_to_string(&sample).expect("because it is there");
    assert!(theirs.len() > 80, "{}", theirs.len());
    for (key, value) in &theirs {
        let row = ours.get(key).unwrap_or_else(|| panic!("{key} is not known"));
        // Passwords of adapters, and what stands for a key.
        let said = row["value"].to_string();
        if !said.contains("REDACTED") {
            let alike = *value == row["value"] || value.as_f64().is_some() && value.as_f64() == row["value"].as_f64();
            assert!(alike, "{key}: {value} is shown as {said}");
        }
        if !value.is_null() {
            let line = row["origin"]["line"].as_u64().unwrap_or_default() as usize;
            let written = text.lines().nth(line.wrapping_sub(1)).unwrap_or_default().trim_start();
            let last = key.rsplit('.').next().unwrap_or_default();
            assert!(written.starts_with(&format!("{last}:")), "{key} is not in line {line}: {written}");
        }
    }
    let secret: Vec<&str> =
        ours.iter().filter(|(_, row)| row.to_string().contains("REDACTED")).map(|(key, _)| &**key).collect();
    assert_eq!(secret, ["adapters", "agent.api_key"]);
    let used: Vec<&str> = ours.iter().filter(|(_, row)| row["unused"].is_null()).map(|(key, _)| &**key).collect();
    assert_eq!(used, USED);
    let text = user.told(&["--settings", &path, "show-settings"]);
    assert!(text.contains("instrumentation.torch.what"), "{text}");
    assert!(
        ours.values().all(|row| row["unused"].as_str().is_none_or(|why| text.contains(&format!("not used: {why}"))))
    );
}

/// A file of ours says to Flowcept's Python what it says to us, as a variable does.
#[test]
fn flowcept_reads_our_files() {
    if !need(&["python"]) {
        return;
    }
    for more in [&["init-settings"][..], &["init-settings", "--full"], &["--init-settings", "--full"]] {
        let user = User::new();
        user.told(more);
        let mode = fs::metadata(user.path()).expect("because it was written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (theirs, ours) = (user.python("read_settings.py", &[]), user.shown(&[]));
        for (key, value) in &theirs {
            assert_eq!(*value, ours[key]["value"], "{key}");
        }
        // What is there is not written over, and is kept where that is wanted.
        let again = user.run(more);
        assert_eq!(again.status.code(), Some(1));
        assert!(said(&again).contains("is there already: --yes"), "{}", said(&again));
        fs::write(user.path(), "mq:\n  host: mine\n").expect("because it is ours");
        user.told(&[more, &["-y"]].concat());
        let old = fs::read_to_string(user.path().with_extension("yaml.old"));
        assert_eq!(old.expect("because it is kept"), "mq:\n  host: mine\n");
    }
    let user = User::new().settings("mq:\n  host: of-file\n  channel: of-file\n");
    let variables = [
        ("MQ_HOST", "of-variable"),
        ("MQ_ENABLED", "no"),
        ("LMDB_ENABLED", "YES"),
        ("MONGO_ENABLED", "y"),
        ("MONGO_PORT", "1"),
    ];
    let script = root().join("tests/programs/read_settings.py").to_string_lossy().into_owned();
    let theirs = user.program(&python(), &[&script]).envs(variables).output().expect("because it is there");
    let theirs: BTreeMap<String, Value> = serde_json::from_slice(&theirs.stdout).expect("because it is JSON");
    let ours = user.command(&["show-settings", "--json"]).envs(variables).output().expect("because it was built");
    let ours: Vec<Value> = serde_json::from_slice(&ours.stdout).expect("because it is JSON");
    for row in ours.iter().filter(|row| row["origin"] != "default") {
        let key = row["key"].as_str().unwrap_or_default();
        assert_eq!(theirs[key], row["value"], "{key}");
    }
    let origin = |key: &str| ours.iter().find(|row| row["key"] == key).map(|row| row["origin"].clone());
    assert_eq!(origin("mq.host"), Some(json!({"variable": "MQ_HOST"})));
    assert_eq!(origin("mq.channel"), Some(json!({"file": user.path(), "line": 3})));
}

/// A profile changes in a file what Flowcept's own command changes, and nothing else.
#[test]
fn profiles_are_flowcept_s() {
    if !need(&["python"]) {
        return;
    }
    let text = fs::read_to_string(sample()).expect("because it is there");
    let theirs = python().with_file_name("flowcept");
    for name in ["full-online", "full-telemetry", "mq-only", "full-offline", "mq-only-no-flush"] {
        let (one, other) = (User::new().settings(&text), User::new().settings(&text));
        let output = one.program(&theirs, &["--config-profile", name, "-y"]).output().expect("because it is there");
        assert!(output.status.success(), "{}", said(&output));
        other.told(&["--config-profile", name, "-y"]);
        let flat = |user: &User| user.python("flat_settings.py", &[&user.path().to_string_lossy()]);
        assert_eq!(flat(&one), flat(&other), "{name}");
        let changed = fs::read_to_string(other.path()).expect("because it is there");
        let lines = text.lines().zip(changed.lines()).filter(|(before, after)| before != after);
        assert!(text.lines().count() == changed.lines().count() && lines.count() <= 8, "{name}: {changed}");
        assert!(other.told(&["config-profile", name]).contains("is so already"));
        let mode = fs::metadata(other.path()).expect("because it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let nobody = User::new().run(&["config-profile", "mq-only"]);
    assert!(said(&nobody).contains("nobody is there to be asked: give --yes"), "{}", said(&nobody));
    let unknown = User::new().run(&["config-profile", "fast"]);
    assert!(said(&unknown).contains("mq-only-no-flush"), "{}", said(&unknown));
}

/// What is wrong is named with file and line, by each command that uses settings; the others do not mind.
#[test]
fn what_is_wrong_is_named() {
    let user = User::new().settings("# mine\nmq:\n  hots: a\n  port: many\n");
    let path = user.path().display().to_string();
    let wanted = [
        format!("flowcept: {path}:3: there is no setting mq.hots; did you mean mq.host?"),
        format!("flowcept: {path}:4: mq.port wants a port, a whole number from 1 to 65535"),
    ];
    for command in
        [&["show-settings"][..], &["ship"], &["consume"], &["stream"], &["check-services"], &["run", "--", "true"]]
    {
        let output = user.run(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", said(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().collect::<Vec<_>>(), wanted, "{command:?}");
        assert!(output.stdout.is_empty());
    }
    user.told(&["workflows"]);
    let mut built_in = user.command(&["show-settings"]);
    assert!(built_in.env("FLOWCEPT_USE_DEFAULT", "true").status().is_ok_and(|status| status.success()));

    let said_of = |path: &Path| said(&User::new().run(&["--settings", &path.to_string_lossy(), "show-settings"]));
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    let [missing, pipe, latin, large] = ["missing", "pipe", "latin", "large"].map(|name| folder.path().join(name));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("because the folder is ours");
    fs::write(&latin, b"mq:\n  host: caf\xe9\n").expect("because the folder is ours");
    fs::write(&large, "#".repeat(200_000)).expect("because the folder is ours");
    let cases = [
        (&*missing, "there is no such file; `flowcept init-settings` writes one"),
        (folder.path(), "this is no file; name another"),
        (&*pipe, "this is no file; name another"),
        (&*latin, "line 2 is no UTF-8"),
        (&*large, "it has more than 128 kB"),
    ];
    for (path, wanted) in cases {
        let said = said_of(path);
        assert!(said.contains(&path.display().to_string()) && said.contains(wanted), "{wanted}: {said}");
    }
    let mut named = user.command(&["ship"]);
    let output = named.env("FLOWCEPT_SETTINGS_PATH", &missing).output().expect("because the binary was just built");
    assert!(said(&output).contains("there is no such file"), "{}", said(&output));

    let nothing = User::new();
    for (command, wanted) in [
        (&["ship"][..], "no place is named: give --to, set MQ_URI, or enable mq, a database or project.dump_buffer in"),
        (&["stream"], "no queue is named: give --from, set MQ_URI, or set mq.enabled to true in"),
        (
            &["consume", "--from", "redis://127.0.0.1:1"],
            "no database is named: give --into, or set databases.lmdb.enabled",
        ),
    ] {
        let output = nothing.run(command);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

/// With a file of settings and no option a run goes to the queue when it ends, and from there into the database; what a workflow
/// says of itself is in it.
#[test]
fn a_run_is_delivered_by_itself() {
    if !need(&["redis-cli", "python"]) {
        return;
    }
    let server = Server::start(&[]);
    let user = User::new().settings(&format!(
        "project:\n  db_flush_mode: online\nmq:\n  host: 127.0.0.1\n  port: {}\n  stream: runs\n  group_id: night\nexperiment:\n  user: ada\n\
         sys_metadata:\n  environment_id: frontier\nextra_metadata:\n  grant: DE-1\n  seeds: [1, 2]\n\
         databases:\n  lmdb:\n    enabled: true\n    path: kept\ncapture:\n  source: preload\ndb_buffer:\n  buffer_size: 2\n",
        server.port
    ));
    let state = user.home.path().join(".local/state/flowcept");
    let output = user.run(&["run", "--", "sh", "-c", "sort /etc/passwd > sorted; exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("delivered 1 workflows to redis://127.0.0.1:{}/0 stream runs", server.port))
    );
    assert!(state.exists());
    // Nothing waits any more, for this place.
    assert!(user.told(&["ship"]).starts_with("0 workflows in 0 documents"));
    let keeper = user.command(&["consume"]).stdout(Stdio::null()).spawn().expect("because the binary was just built");
    let keeper = Helper(keeper);
    let kept = || {
        let output = user
            .program(&python().with_file_name("flowcept"), &["--workflow-count", "--workflow-id", &id(&user)])
            .env("LMDB_ENABLED", "true")
            .env("LMDB_PATH", user.home.path().join("kept"))
            .env("FLOWCEPT_SETTINGS_PATH", "/nowhere")
            .output()
            .expect("because it is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let ours: Value =
        serde_json::from_str(&user.told(&["--workflow-count", "--workflow-id", &id(&user)])).expect("JSON");
    assert_eq!(ours["tasks"], 2);
    let begun = std::time::Instant::now();
    let mut theirs = String::new();
    while !theirs.contains("\"tasks\": 2") {
        assert!(begun.elapsed().as_secs() < 60, "{theirs}");
        theirs = kept();
    }
    let theirs: Value = serde_json::from_str(&theirs).expect("because it is JSON");
    assert_eq!([&theirs["workflows"], &theirs["workflow_id"]], [&ours["workflows"], &ours["workflow_id"]]);
    kill(Pid::from_raw(keeper.0.id() as i32), Signal::SIGTERM).expect("because it runs");
    drop(keeper);
    let shown: Value = serde_json::from_str(&user.told(&["show", "last", "--json"])).expect("because it is JSON");
    let workflow = &shown["workflow"];
    assert_eq!(workflow["custom_metadata"]["coverage"]["sources"], json!(["preload"]));
    assert!(server.ask(&["xinfo", "groups", "runs"]).contains("night"));
    assert_eq!(workflow["user"], "ada");
    assert_eq!(workflow["environment_id"], "frontier");
    assert_eq!(workflow["extra_metadata"], json!({"grant": "DE-1", "seeds": [1, 2]}));
    assert_ne!(workflow["login_name"], "ada");
    assert!(shown["tasks"].as_array().is_some_and(|tasks| tasks.iter().all(|task| task["user"] == "ada")));

    // Where the queue is away the command does not notice, and the run waits.
    drop(server);
    let begun = std::time::Instant::now();
    let output = user.run(&["run", "--", "true"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("Connection refused (os error 111); `flowcept ship` goes on there"),
        "{}",
        said(&output)
    );
    assert!(begun.elapsed().as_secs() < 10);
    // Offline it is not even tried.
    let offline = user.command(&["run", "--", "true"]).env("DB_FLUSH_MODE", "offline").output();
    assert!(!said(&offline.expect("because the binary was just built")).contains("ship"));
    let large = User::new().settings(&format!("extra_metadata:\n  a: {}\n", "x".repeat(5_000)));
    let output = large.run(&["run", "--", "true"]);
    assert!(said(&output).contains(":1: extra_metadata has 5"), "{}", said(&output));
}

fn id(user: &User) -> String {
    let rows: Value = serde_json::from_str(&user.told(&["workflows", "--json"])).expect("because it is JSON");
    rows[0]["workflow_id"].as_str().unwrap_or_default().to_string()
}

/// Several places, each by itself: one that is away keeps none of the others.
#[test]
fn several_places_at_once() {
    if !need(&["redis-cli"]) {
        return;
    }
    let server = Server::start(&[]);
    let user = User::new();
    user.told(&["run", "--source", "preload", "--", "true"]);
    let away = format!("redis://127.0.0.1:{}", free_port());
    let url = server.url();
    let output =
        user.run(&["ship", "--to", &away, "--to", &url, "--to", "jsonl:file", "--stream", "s", "--wait", "0s"]);
    assert!(said(&output).contains("jsonl has no streams"), "{}", said(&output));
    assert_eq!(server.ask(&["xlen", "s"]), "2");
    let output = user.run(&["ship", "--to", &away, "--to", "jsonl:file", "--to", "lmdb:kept", "--wait", "0s"]);
    assert_eq!(output.status.code(), Some(1));
    let place = user.home.path().display().to_string();
    let told = said(&output);
    for wanted in [
        "0 workflows delivered; 1 wait".to_string(),
        format!("1 workflows in 2 documents to jsonl:{place}/file"),
        format!("1 workflows in 2 documents to lmdb:{place}/kept"),
    ] {
        assert!(told.contains(&wanted), "{wanted}: {told}");
    }
    // By the settings both databases, and a file.
    let user = user.settings(
        "project:\n  dump_buffer:\n    enabled: true\n    path: file\ndatabases:\n  lmdb:\n    enabled: true\n    path: other\n",
    );
    let told = user.told(&["ship"]);
    assert_eq!(
        told,
        format!("1 workflows in 2 documents to lmdb:{place}/other\n0 workflows in 0 documents to jsonl:{place}/file\n")
    );
    // A keeper opens both before it looks for its queue.
    let mut keeper = user.command(&["consume", "--from", "nowhere"]);
    let output = keeper.env("MONGO_ENABLED", "true").env("MONGO_URI", "mongodb://h/?tsl=true").output();
    let output = output.expect("because the binary was just built");
    assert!(said(&output).contains("this URL of MongoDB is wrong"), "{}", said(&output));
}

/// Each service that is enabled is tried, and what to do is told where one does not work.
#[test]
fn services_are_checked() {
    if !need(&["redis-cli"]) {
        return;
    }
    let server = Server::start(&["--requirepass", SECRET]);
    let away = free_port();
    let user = User::new().settings(&format!(
        "mq:\n  host: 127.0.0.1\n  port: {}\n  password: {SECRET}\ndatabases:\n  lmdb:\n    enabled: true\n    path: kept\n  \
         mongodb:\n    enabled: false\n    uri: mongodb://ada:{SECRET}@127.0.0.1:{away}/?serverSelectionTimeoutMS=500\n",
        server.port
    ));
    let place = user.home.path().display();
    let told = user.told(&["check-services"]);
    let wanted = format!(
        "Redis     works          redis://127.0.0.1:{}/0 interception\nLMDB      works          lmdb:{place}/kept\n",
        server.port
    );
    assert_eq!(told, wanted);
    assert_eq!(user.told(&["--check-services"]), wanted);
    let output = user.command(&["check-services"]).envs([("MQ_PORT", "1"), ("MONGO_ENABLED", "1")]).output();
    let output = output.expect("because the binary was just built");
    assert_eq!(output.status.code(), Some(1));
    let lines = [
        "Redis     does not work  redis://127.0.0.1:1/0 interception: Connection refused".to_string(),
        format!(
            "it is named by mq.host ({place}/.flowcept/settings.yaml:2) and mq.port (MQ_PORT); deployment/compose/redis.yaml"
        ),
        format!("MongoDB   does not work  mongodb://127.0.0.1:{away}/flowcept"),
        format!(
            "it is named by databases.mongodb.uri ({place}/.flowcept/settings.yaml:11); deployment/compose/mongodb.yaml"
        ),
    ];
    for line in lines {
        assert!(said(&output).contains(&line), "{line}: {}", said(&output));
    }
    assert!(!said(&output).contains(SECRET), "{}", said(&output));
    let json = user.command(&["check-services", "--json"]).env("MQ_PORT", "1").output().expect("because it was built");
    let rows: Value = serde_json::from_slice(&json.stdout).expect("because it is JSON");
    assert_eq!([&rows[0]["works"], &rows[1]["works"]], [&json!(false), &json!(true)]);
    assert_eq!(User::new().told(&["check-services"]).lines().count(), 1);
}

/// A secret of the settings or of the environment is in nothing that is said or kept.
#[test]
fn secrets_of_settings_stay_secret() {
    if !need(&["redis-cli"]) {
        return;
    }
    let server = Server::start(&["--requirepass", SECRET]);
    let text = format!(
        "project:\n  db_flush_mode: online\nmq:\n  host: 127.0.0.1\n  port: {}\n  password: {SECRET}\n  stream: runs\n\
         kv_db:\n  password: {SECRET}\n  uri: redis://:{SECRET}@kv\nagent:\n  api_key: {SECRET}\n  model_kwargs:\n    \
         token: {SECRET}\n    base: https://ada:{SECRET}@models\nadapters:\n  broker_mqtt:\n    password: {SECRET}\n",
        server.port
    );
    let user = User::new().settings(&text);
    let variables = [
        ("MONGO_URI", format!("mongodb://ada:{SECRET}@127.0.0.1:1/?serverSelectionTimeoutMS=200")),
        ("MONGO_ENABLED", "true".to_string()),
        ("AGENT_API_KEY", SECRET.to_string()),
        ("FLOWCEPT_TEST_SECRET", SECRET.to_string()),
    ];
    let commands: [&[&str]; 9] = [
        &["run", "--source", "preload", "--", "env"],
        &["show-settings"],
        &["show-settings", "--json"],
        &["check-services"],
        &["ship"],
        &["ship", "--to", "redis:"],
        &["consume", "--into", "mongodb://127.0.0.1:1/?x"],
        &["show", "last", "--json"],
        &["config-profile", "mq-only", "-y"],
    ];
    for command in commands {
        let output = user.command(command).envs(variables.clone()).output().expect("because the binary was just built");
        // What the program itself writes is its own.
        let is_ours = command[0] != "run";
        let text = if is_ours { said(&output) } else { String::from_utf8_lossy(&output.stderr).into_owned() };
        assert!(!text.is_empty() && !text.contains(SECRET), "{command:?}: {text}");
    }
    assert_eq!(server.ask(&["-a", SECRET, "--no-auth-warning", "xlen", "runs"]), "2");
    let sent = server.ask(&["-a", SECRET, "--no-auth-warning", "xrange", "runs", "-", "+"]);
    assert!(sent.contains("workflow_id") && !sent.contains(SECRET));
    for entry in walk(user.home.path()) {
        let mode = fs::metadata(&entry).expect("because it was listed").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.display());
        let bytes = fs::read(&entry).expect("because it is ours");
        let has = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert_eq!(has, entry == user.path(), "{}", entry.display());
    }
    // Who opened the file to others is told so.
    fs::set_permissions(user.path(), fs::Permissions::from_mode(0o644)).expect("because it is ours");
    let output = user.run(&["show-settings"]);
    let wanted = format!("others can read {0}, which has mq.password: chmod 600 {0}", user.path().display());
    assert!(said(&output).contains(&wanted), "{}", said(&output));
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("because it is ours").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Fields that are null or empty text are left out where the settings say so, in maps too, as Flowcept leaves them.
#[test]
fn empty_fields_are_left_out() {
    if !need(&["redis-cli", "python"]) {
        return;
    }
    // {"type": "workflow", "workflow_id": "w", "name": "", "used": {"a": null, "b": 1}} as msgpack.
    let message = b"\x84\xa4type\xa8workflow\xabworkflow_id\xa1w\xa4name\xa0\xa4used\x82\xa1a\xc0\xa1b\x01";
    let server = Server::start(&[]);
    let kept = |removes: &str| {
        let user = User::new().settings(&format!("db_buffer:\n  remove_empty_fields: {removes}\n"));
        let mut keeper = user.command(&["consume", "--from", &server.url(), "--into", "lmdb:kept"]);
        let mut keeper = Helper(keeper.stdout(Stdio::null()).spawn().expect("because the binary was just built"));
        server.wait_for_subscribers(1);
        assert_eq!(server.publish("interception", message), ":1\r\n");
        // It has it, and keeps it before it ends.
        kill(Pid::from_raw(keeper.0.id() as i32), Signal::SIGTERM).expect("because it runs");
        keeper.0.wait().expect("because it is ours");
        server.wait_for_subscribers(0);
        user.rows("workflows", &user.home.path().join("kept"))
    };
    let all = json!({"type": "workflow", "workflow_id": "w", "name": "", "used": {"a": null, "b": 1}});
    assert_eq!(kept("false"), [all]);
    assert_eq!(kept("true"), [json!({"type": "workflow", "workflow_id": "w", "used": {"b": 1}})]);
}

/// A keeper writes once it has as many messages as the settings say, or after as long a time, however long that is.
#[test]
fn a_keeper_waits_for_its_buffer() {
    if !need(&["redis-cli", "python"]) {
        return;
    }
    let server = Server::start(&[]);
    let user = User::new().settings("db_buffer:\n  insertion_buffer_time_secs: 1e300\n  buffer_size: 2\n");
    let mut keeper = user.command(&["consume", "--from", &server.url(), "--into", "lmdb:kept"]);
    let _keeper = Helper(keeper.stdout(Stdio::null()).spawn().expect("because the binary was just built"));
    server.wait_for_subscribers(1);
    let kept = || user.rows("workflows", &user.home.path().join("kept")).len();
    // {"type": "workflow", "workflow_id": "a"} as msgpack, and another.
    server.publish("interception", b"\x82\xa4type\xa8workflow\xabworkflow_id\xa1a");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(kept(), 0);
    server.publish("interception", b"\x82\xa4type\xa8workflow\xabworkflow_id\xa1b");
    let begun = std::time::Instant::now();
    while kept() < 2 {
        assert!(begun.elapsed().as_secs() < 60, "it writes nothing");
    }
}

impl User {
    /// The documents of a table of a database of Flowcept's.
    fn rows(&self, table: &str, database: &Path) -> Vec<Value> {
        let script = "import json, lmdb, sys\nenv = lmdb.open(sys.argv[1], max_dbs=4, readonly=True, lock=False)\n\
                      with env.begin(db=env.open_db(sys.argv[2].encode(), create=False)) as txn:\n    \
                      print(json.dumps([json.loads(v) for _, v in txn.cursor()]))";
        let arguments = ["-c", script, &database.to_string_lossy(), table];
        let output = self.program(&python(), &arguments).output().expect("because the interpreter is there");
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).expect("because it is JSON")
    }
}

/// `doctor` names another flowcept that comes first on PATH, and does not take itself for one.
#[test]
fn doctor_names_another_flowcept() {
    let user = User::new();
    let folder = user.home.path().join("bin");
    fs::create_dir(&folder).expect("because the home is ours");
    let other = folder.join("flowcept");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let doctor = || {
        let output = user.command(&["doctor"]).env("PATH", &path).output().expect("because the binary was just built");
        said(&output)
    };
    symlink(binary(), &other).expect("because the folder is ours");
    assert!(!doctor().contains("first on PATH"), "{}", doctor());
    fs::remove_file(&other).expect("because it is ours");
    fs::write(&other, "#!/usr/bin/env python3\n").expect("because the folder is ours");
    assert!(!doctor().contains("first on PATH"), "it cannot be started");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).expect("because it is ours");
    let wanted = format!("first on PATH         {}, which is another flowcept", other.display());
    assert!(doctor().contains(&wanted), "{}", doctor());
    assert!(library().exists());
}
