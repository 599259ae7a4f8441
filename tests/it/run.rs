//! `flowcept run` as a command: exit codes, streams, users, many at once, stragglers, the README's example.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::{binary, need, root};
use harness::run::{Captured, until};

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().expect("because tests may write temporary files")
}

#[test]
fn the_exit_code_and_the_streams_are_the_commands() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = empty();
    let captured = Captured::of(&["sh", "-c", "echo out; echo err >&2; exit 7"], dir.path(), &[]);
    assert_eq!(captured.output.status.code(), Some(7));
    assert_eq!(captured.output.stdout, b"out\n");
    let stderr = captured.stderr();
    assert!(stderr.starts_with("err\n") && stderr.lines().count() <= 7, "{stderr}");
    assert_eq!(Captured::of(&["sh", "-c", "kill -TERM $$"], dir.path(), &[]).output.status.code(), Some(143));
    assert_eq!(Captured::of(&["no-such-program"], dir.path(), &[]).output.status.code(), Some(127));
    fs::write(dir.path().join("data"), "no program").expect("because the folder is ours");
    assert_eq!(Captured::of(&["./data"], dir.path(), &[]).output.status.code(), Some(126));
}

#[test]
fn signals_are_forwarded() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    let mut tracer = Command::new(binary())
        .args(["--store".as_ref(), store.path().as_os_str(), "run".as_ref(), "-q".as_ref(), "--".as_ref()])
        .args(["sh", "-c", "trap 'echo got > got; exit 5' TERM; : > ready; while :; do sleep 0.05; done"])
        .current_dir(dir.path())
        .spawn()
        .expect("because the binary was just built");
    until("the command to start", || dir.path().join("ready").exists());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(tracer.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .expect("because it runs");
    assert_eq!(tracer.wait().expect("because it ends").code(), Some(5));
    assert!(dir.path().join("got").exists());
}

#[test]
fn without_rights_the_error_names_the_way() {
    if !need(&["bpf"]) {
        return;
    }
    let copy = empty();
    let program = copy.path().join("flowcept");
    fs::copy(binary(), &program).expect("because there is room");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(copy.path(), open).expect("because it is ours");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--store", "/tmp/flowcept-nobody", "run", "--source", "ebpf", "--", "true"])
        .output()
        .expect("because util-linux is on every machine");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("sudo flowcept run --user"), "{stderr}");
    let _ = fs::remove_dir_all("/tmp/flowcept-nobody");
}

/// Without rights the library watches, and says what was not seen.
#[test]
fn without_rights_the_library_watches() {
    let copy = empty();
    let open: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(copy.path(), open).expect("because it is ours");
    for file in [binary().to_path_buf(), harness::host::library()] {
        let name = file.file_name().expect("because it was built");
        fs::copy(&file, copy.path().join(name)).expect("because there is room");
    }
    let store = copy.path().join("store");
    let ask = |words: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(copy.path().join("flowcept"))
            .arg("--store")
            .arg(&store)
            .args(words)
            .current_dir(copy.path())
            .output()
            .expect("because util-linux is on every machine");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let words = ["run", "--name", "inside", "--param", "a=b", "--", "sh", "-c", "sort /etc/hostname > out; exit 3"];
    let (code, _, summary) = ask(&words);
    assert_eq!(code, Some(3), "{summary}");
    assert!(summary.contains("(inside)") && summary.contains("lost:library"), "{summary}");
    assert!(summary.lines().count() <= 6, "{summary}");
    let (_, lineage, _) = ask(&["lineage", "out"]);
    assert!(lineage.contains("sort  [sort /etc/hostname]"), "{lineage}");
    let (_, exported, _) = ask(&["export", "last"]);
    let workflow: serde_json::Value = exported.lines().next().and_then(|l| serde_json::from_str(l).ok()).expect("JSON");
    assert_eq!((&workflow["used"]["params"]["a"], &workflow["status"]), (&"b".into(), &"ERROR".into()));
    assert_eq!(ask(&["run", "--", "/no/such/program"]).0, Some(127));
}

#[test]
fn as_another_user() {
    if !need(&["bpf"]) {
        return;
    }
    let store = empty();
    let output = Command::new(binary())
        .args(["--store".as_ref(), store.path().as_os_str()])
        .args(["run", "-q", "--user", "nobody", "--", "id", "-un"])
        .output()
        .expect("because the binary was just built");
    assert_eq!(output.stdout, b"nobody\n");
    let unknown = Command::new(binary()).args(["run", "--user", "no-such-user", "--", "true"]).output();
    let unknown = unknown.expect("because the binary was just built");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no user 'no-such-user'"));
}

/// The run returns when its root ends; a descendant is followed on, in the background.
#[test]
fn stragglers_are_followed() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = empty();
    let begun = Instant::now();
    let captured = Captured::of(&["sh", "-c", "(sleep 3; echo late > late) > /dev/null 2>&1 &"], dir.path(), &[]);
    assert!(begun.elapsed() < Duration::from_millis(2500), "the run waited for a descendant");
    let told = loop {
        let found = captured.library().find("last");
        if let Ok(run) = found {
            break run;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the background never ended");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(harness::run::generated(&told).iter().any(|p| p.ends_with("/late")));
    assert!(told.told.gaps.is_empty(), "{:?}", told.told.gaps);
}

/// A tracer that follows in the background ends when it is told to, and says what goes on without it; so does one whose
/// --detach-after has passed, and one whose descendants ended before says nothing.
#[test]
fn followers_can_be_stopped() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = empty();
    let gaps = |captured: &Captured| {
        let run = captured.told();
        let kinds: Vec<String> = run.told.gaps.iter().map(|g| g.kind.to_string()).collect();
        (kinds, run.told.books.living)
    };
    let script = "(exec sleep 20.5) > /dev/null 2>&1 & echo $! > pid";
    let captured = Captured::of(&["sh", "-c", script], dir.path(), &[]);
    let store = captured.store.path().to_string_lossy().into_owned();
    let stopped = Command::new("pkill").args(["-TERM", "-f", &store]).status();
    assert!(stopped.is_ok_and(|s| s.success()), "nobody follows");
    assert_eq!(gaps(&captured), (vec!["cut".to_string()], 1));
    let pid = fs::read_to_string(dir.path().join("pid")).expect("because the shell wrote it");
    let _ = Command::new("kill").arg(pid.trim()).status();
    let short = "(sleep 0.3) > /dev/null 2>&1 &";
    let store = tempfile::tempdir().expect("because tests may write temporary files");
    let run = |seconds: &str, script: &str| {
        let run = Command::new(binary())
            .args(["--store".as_ref(), store.path().as_os_str()])
            .args(["run", "-q", "--detach-after", seconds, "--", "sh", "-c", script])
            .current_dir(dir.path())
            .output();
        assert!(run.is_ok_and(|o| o.status.success()));
    };
    run("10", short);
    let captured = Captured { store, output: captured.output };
    assert_eq!(gaps(&captured), (vec![], 0));
}

#[test]
fn many_runs_at_once() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    let runs: Vec<_> = (0..50)
        .map(|i| {
            Command::new(binary())
                .args(["--store".as_ref(), store.path().as_os_str()])
                .args([
                    "run",
                    "-q",
                    "--ring-bytes",
                    "1048576",
                    "--name",
                    &format!("r{i}"),
                    "--",
                    "sh",
                    "-c",
                    &format!("echo {i} | cat > o{i}"),
                ])
                .current_dir(dir.path())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("because the binary was just built")
        })
        .collect();
    for run in runs {
        let output = run.wait_with_output().expect("because it was started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let store = flowcept_agent::store::Store::open(store.path().to_path_buf()).expect("because the runs made it");
    let mut library = flowcept_agent::query::Library::open(&store).expect("because the runs made it");
    for i in 0..50 {
        let run = library.find(&format!("r{i}")).expect("because it ended well");
        assert_eq!(run.told.activities.len(), 3, "run {i}: {:?}", run.told.gaps);
        assert!(harness::run::generated(&run).iter().any(|p| p.ends_with(&format!("/o{i}"))));
        assert!(run.told.gaps.is_empty(), "run {i}: {:?}", run.told.gaps);
    }
}

/// What the index answers besides lineage: runs by activity and by time, a task by its id.
#[test]
fn runs_by_activity_and_time_and_tasks_by_id() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = empty();
    let first = Captured::of(&["sh", "-c", "sort /etc/hostname > a; true"], dir.path(), &[]);
    let second = Captured::into(first.store, &["sh", "-c", "uniq /etc/hostname > b; true"], dir.path(), &[]);
    let names = |words: &[&str]| {
        let rows: serde_json::Value = serde_json::from_str(&second.ask(words)).expect("because --json prints JSON");
        rows.as_array().expect("because it is a list").iter().map(|r| r["command"].to_string()).collect::<Vec<_>>()
    };
    let with_sort = names(&["workflows", "--json", "--activity", "sort"]);
    assert!(with_sort.len() == 1 && with_sort[0].contains("sort"), "{with_sort:?}");
    assert_eq!(names(&["workflows", "--json", "--activity", "sor"]).len(), 0);
    assert_eq!(names(&["workflows", "--json", "--since", "1h"]).len(), 2);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(names(&["workflows", "--json", "--since", "1ms"]).len(), 0);
    let run = second.told();
    let task = run.told.activities.iter().find(|a| &*a.name == "uniq").expect("because it ran");
    let shown = second.ask(&["show", &task.process.task_id().to_string()]);
    assert!(shown.contains("\nuniq /etc/hostname\n") && !shown.contains("\nsh -c"), "{shown}");
}

/// A store on a network filesystem (here: FUSE) has its index on this node, says so, and answers all the same.
#[test]
fn a_store_on_a_network_filesystem() {
    if !need(&["bpf", "bindfs"]) {
        return;
    }
    let dir = empty();
    let (real, shown) = (dir.path().join("real"), dir.path().join("shown"));
    for folder in [&real, &shown] {
        fs::create_dir(folder).expect("because the folder is ours");
    }
    let mounted = Command::new("bindfs").arg(&real).arg(&shown).status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("skipped: no FUSE here");
        return;
    }
    let ask = |words: &[&str]| {
        let output = Command::new(binary()).arg("--store").arg(&shown).args(words).current_dir(dir.path()).output();
        let output = output.expect("because the binary was just built");
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (_, summary) = ask(&["run", "--", "sh", "-c", "cat /etc/hostname > out; :"]);
    let (lineage, trouble) = ask(&["lineage", "out"]);
    let (_, rebuilt) = ask(&["store", "rebuild"]);
    let _ = Command::new("umount").arg(&shown).status();
    assert!(summary.contains("on a network filesystem: its index lies in /var/tmp/flowcept-"), "{summary}");
    assert!(summary.lines().count() <= 6, "{summary}");
    assert!(lineage.contains("/etc/hostname"), "{lineage}{trouble}");
    let place = rebuilt.trim_end().rsplit_once(" lies in ").expect("because it says where").1.to_string();
    assert!(fs::metadata(format!("{place}/index-2/data.mdb")).is_ok(), "{rebuilt}");
    let in_store: Vec<_> = fs::read_dir(&real).expect("because it is ours").flatten().map(|e| e.file_name()).collect();
    assert_eq!(in_store, ["logs"]);
    let _ = fs::remove_dir_all(place);
}

/// A file that many have appended to: a tree as deep as that.
#[test]
fn a_deep_lineage() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = empty();
    let script = "i=0; while [ $i -lt 1500 ]; do /bin/echo $i >> log; i=$((i+1)); done";
    let captured = Captured::of(&["sh", "-c", script], dir.path(), &[]);
    let file = dir.path().join("log").to_string_lossy().into_owned();
    let tree = captured.ask(&["lineage", &file]);
    assert_eq!(tree.lines().filter(|l| l.contains("echo")).count(), 1500);
    // Up from the last version, and down from the first, by their entity ids.
    let entities = &captured.told().told.entities;
    let first = entities.iter().find(|e| e.names.iter().any(|n| *n.path == *file)).expect("because it was made");
    let down = captured.ask(&["lineage", "--down", &format!("{}@0", first.file)]);
    assert_eq!(down.lines().count(), 1500);
}

/// The lineage in the README, and what changes when one input is renamed, one step removed, one file appended to.
#[test]
fn the_example_prints_the_readmes_lineage() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let work = empty();
    let output = Command::new(root().join("deployment/example.sh"))
        .arg(work.path())
        .env("FLOWCEPT", binary())
        .output()
        .expect("because it is executable");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = work.path().to_string_lossy().into_owned();
    let text =
        String::from_utf8_lossy(&output.stdout).replace(&folder, "$WORK").replace(&*root().to_string_lossy(), ".");
    let readme = fs::read_to_string(root().join("README.md")).expect("because it is there");
    let block = readme.split("<!-- lineage -->\n```text\n").nth(1).and_then(|r| r.split("```").next());
    assert_eq!(text, block.expect("because the README shows it"));
}

/// The same example with one input renamed, one step removed, one file appended to: the tree changes just there.
#[test]
fn the_example_changed() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let work = empty();
    let licences = work.path().join("licences");
    fs::create_dir(&licences).expect("because the folder is ours");
    for name in ["GPL-2", "GPL-3", "Apache-2.0"] {
        fs::copy(format!("/usr/share/common-licenses/{name}"), licences.join(name)).expect("because Debian has them");
    }
    fs::rename(licences.join("GPL-3"), licences.join("GPL-three")).expect("because it is there");
    let source = fs::read_to_string(root().join("tests/programs/wordcount.sh")).expect("because it is there");
    let changed = source
        .replace("GPL-3", "GPL-three")
        .replace("cat n.tmp >> summary.txt\n", "")
        .replace("# 5. The result.\n", "tail -n 1 counts.txt >> ranked.txt\n");
    fs::write(work.path().join("wordcount.sh"), changed).expect("because the folder is ours");
    fs::copy(root().join("tests/programs/rank.py"), work.path().join("rank.py")).expect("because it is there");
    let captured = Captured::of(&["sh", "wordcount.sh", "data", "licences"], work.path(), &[]);
    assert!(captured.output.status.success(), "{}", captured.stderr());
    let report = work.path().join("data/report.txt").to_string_lossy().into_owned();
    let folder = fs::canonicalize(work.path()).expect("because it is there").to_string_lossy().into_owned();
    let expected = "\
$WORK/data/report.txt
└── rank.py  [python3 $WORK/rank.py --merge ranked.txt summary.txt report.txt]
    ├── $WORK/data/ranked.txt
    │   ├── rank.py  [python3 $WORK/rank.py counts.txt ranked.txt]
    │   │   └── $WORK/data/counts.txt
    │   │       └── uniq  [uniq -c]
    │   │           └── sort (pipe)
    │   │               └── tr  [tr -cs a-z \\n] (pipe)
    │   │                   └── tr  [tr A-Z a-z] (pipe)
    │   │                       └── cat  [cat $WORK/licences/GPL-2 $WORK/licences/GPL-three $WORK/licences/Apache-2.0] (pipe)
    │   │                           ├── $WORK/licences/GPL-2
    │   │                           ├── $WORK/licences/GPL-three
    │   │                           └── $WORK/licences/Apache-2.0
    │   └── tail  [tail -n 1 counts.txt]
    │       └── $WORK/data/counts.txt (see above)
    └── $WORK/data/summary.txt
        ├── head  [head -n 5]
        │   └── sort  [sort -rn counts.txt] (pipe)
        │       └── $WORK/data/counts.txt (see above)
        └── wc  [wc -l]
            └── $WORK/data/counts.txt (see above)
";
    assert_eq!(captured.ask(&["lineage", &report]).replace(&folder, "$WORK"), expected);
}

/// What a run was given is in its document; `-o` writes one file and keeps nothing.
#[test]
fn lists_parameters_and_files() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    let campaign = "11111111-2222-4333-8444-555555555555";
    let given = ["run", "-q", "--name", "n", "--campaign", campaign, "--param", "lr=0.1", "--tag", "t"];
    let run = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("--store").arg(store.path()).args(given).args(more).args(["--", "sh", "-c", "ls /no/such; exit 3"]);
        command.current_dir(dir.path()).output().expect("because the binary was just built")
    };
    assert_eq!(run(&[]).status.code(), Some(3));
    let ask = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("--store").arg(store.path()).args(arguments).output();
        String::from_utf8_lossy(&output.expect("because the binary was just built").stdout).into_owned()
    };
    let list: serde_json::Value = serde_json::from_str(&ask(&["workflows", "--json"])).expect("because it is JSON");
    assert_eq!((&list[0]["name"], &list[0]["status"]), (&"n".into(), &"ERROR".into()));
    assert_eq!(list[0]["campaign_id"], campaign);
    assert!(ask(&["workflows"]).contains("ERROR     n"), "{}", ask(&["workflows"]));
    let failed = ask(&["show", "n", "--failed"]);
    assert!(failed.contains("exit 3  sh -c") && failed.contains("exit 2  ls /no/such"), "{failed}");
    let shown: serde_json::Value = serde_json::from_str(&ask(&["show", "--json"])).expect("because it is JSON");
    assert_eq!(shown["workflow"]["tags"][0], "t");
    assert!(shown["workflow"]["used"].to_string().contains("\"lr\":\"0.1\""), "{}", shown["workflow"]["used"]);
    let lineage = ask(&["lineage", "/bin/ls", "--down", "--depth", "1", "--json"]);
    assert!(lineage.contains("\"activity_id\":\"ls\""), "{lineage}");
    assert_eq!(run(&["-o", "run.jsonl"]).status.code(), Some(3));
    let text = fs::read_to_string(dir.path().join("run.jsonl")).expect("because -o names it");
    assert!(text.lines().count() == 3 && text.contains("\"activity_id\":\"ls\""), "{text}");
    assert_eq!(fs::read_dir(dir.path()).expect("because it is ours").count(), 1, "nothing else stays");
    let list: serde_json::Value = serde_json::from_str(&ask(&["workflows", "--json"])).expect("because it is JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(1));
}

#[test]
fn the_doctor_tries() {
    if !need(&["bpf"]) {
        return;
    }
    let output = Command::new(binary()).args(["doctor", "--json"]).output().expect("because the binary was just built");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("because it is JSON");
    assert_eq!((&found["works"], &found["btf"]), (&true.into(), &true.into()));
    assert_eq!(found["library_works"], true, "{found}");
    // Without the library beside it, it says what is missing.
    let copy = empty();
    let alone = copy.path().join("flowcept");
    fs::copy(binary(), &alone).expect("because there is room");
    let output = Command::new(alone).arg("doctor").output().expect("because it was just copied");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("library               does not work: there is no "), "{text}");
}

/// The tracer knows what it has told: a second mark would say that the log was read back and entered as one that waits.
#[test]
fn a_run_is_entered_once() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = empty();
    let captured = Captured::of(&["true"], dir.path(), &[]);
    let log = fs::read_dir(captured.store.path().join("logs")).expect("because the run made it").next();
    let log = log.expect("because there was a run").expect("because nobody removes it").path();
    let bytes = fs::read(log).expect("because it is ours");
    // Length, checksum, kind and number.
    let mut marks = bytes.rchunks_exact(17);
    let last = marks.next().expect("because a log is longer");
    assert_eq!((last[0], last[8]), (9, 4), "the log ends with no mark");
    assert_ne!(marks.next(), Some(last), "the log is marked twice");
}

/// An argument of several lines, or with a terminal's control characters, is one line of harmless text.
#[test]
fn a_command_is_one_line() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = empty();
    let captured = Captured::of(&["sh", "-c", "true\n: \u{1b}[31m"], dir.path(), &[]);
    assert_eq!(captured.ask(&["workflows"]).lines().count(), 1);
    let shown = captured.ask(&["show", "last"]);
    assert!(shown.contains("sh -c true\\n: \\u{1b}[31m") && !shown.contains('\u{1b}'), "{shown}");
}
