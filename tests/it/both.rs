//! Kernel and library watch together: each fact is told once, by the names that either of them would give; and where the tracer
//! goes, the library goes on.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use flowcept_agent::session::lease::Lease;
use flowcept_agent::store::Store;
use flowcept_agent::store::log;
use flowcept_provenance::activity::{Activity, Outcome, Subtype};
use flowcept_provenance::lineage::{Lineage, Provenance};
use flowcept_provenance::observation::Observation;
use flowcept_provenance::relation::Manner;
use harness::host::{binary, need, root};
use harness::run::{Captured, Run, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

use crate::oracle::difference;
use crate::workloads::{self, Least};

fn folder() -> TempDir {
    tempfile::tempdir().expect("because tests may write temporary files")
}

fn id(activity: &Activity) -> String {
    activity.process.task_id().to_string()
}

/// What a run would be had the library not been in it: what it did itself, the other probes have seen.
fn without_the_library(run: &Captured) -> Provenance {
    let store = Store::open(run.store.path().to_path_buf()).expect("because the run made it");
    let log = log::read(&store.log_path(run.told().workflow.id)).expect("because it was just written");
    let mut of_library = HashSet::new();
    let mut lineage = Lineage::default();
    for observation in log.observations {
        let own = match &observation {
            Observation::Touched(o) => {
                let path = o.path.as_deref().unwrap_or_default();
                let own = path.ends_with("/libflowcept.so") || path.contains("/spool/w-");
                if own {
                    of_library.insert(o.file);
                }
                own
            }
            Observation::Summed(o) => of_library.contains(&o.file),
            _ => false,
        };
        if !own {
            lineage.apply(observation);
        }
    }
    lineage.tell()
}

/// What was told of these tasks, each fact a line.
fn facts(told: &Provenance, of: &HashSet<String>) -> String {
    let name = |a| format!("{} {}", id(told.activity(a)), told.activity(a).command_line());
    let asked = |a| of.contains(&id(told.activity(a)));
    let mut list: Vec<String> = Vec::new();
    let activities = told.activities.iter().filter(|a| of.contains(&id(a)));
    list.extend(activities.map(|a| format!("{} {} {:?} {:?}", id(a), a.command_line(), a.subtype, a.outcome)));
    let uses = told.used.iter().filter(|u| asked(u.activity));
    list.extend(uses.map(|u| {
        let entity = told.entity(u.entity);
        format!(
            "{} used {} {}@{} {:?} {:?} {:?}",
            name(u.activity),
            u.path,
            entity.file,
            entity.version,
            u.manner,
            u.role,
            u.bytes
        )
    }));
    let made = told.generated.iter().filter(|g| asked(g.activity));
    list.extend(made.map(|g| {
        let entity = told.entity(g.entity);
        format!(
            "{} generated {} {}@{} {:?} {:?}",
            name(g.activity),
            g.path,
            entity.file,
            entity.version,
            g.role,
            g.bytes
        )
    }));
    let informed = told.informed.iter().filter(|i| asked(i.informed) && asked(i.informant));
    list.extend(informed.map(|i| format!("{} informed by {} {:?}", name(i.informed), name(i.informant), i.via)));
    let gaps = told.gaps.iter().filter(|g| g.activity.is_none_or(asked));
    list.extend(gaps.map(|g| format!("{} gap {} {}", g.activity.map(name).unwrap_or_default(), g.kind, g.why)));
    list.sort();
    list.join("\n")
}

/// What is told of the tasks of a run, and what the kernel's probes alone tell of the same processes in the same moments.
struct Twice {
    both: Rc<Run>,
    alone: Provenance,
}

impl Twice {
    /// Runs a command under both, and the whole under other probes.
    fn of(command: &[&str], dir: &Path, environment: &[(&str, &str)]) -> (Self, Captured) {
        let inner = folder();
        let binary = binary().to_string_lossy().into_owned();
        let store = inner.path().to_string_lossy().into_owned();
        let around = [&binary, "--store", &store, "run", "-q", "--source", "both", "--"];
        let outer = Captured::of(&[&around, command].concat(), dir, environment);
        let inner = Captured { store: inner, output: outer.output.clone() };
        (Self { both: inner.told(), alone: without_the_library(&outer) }, inner)
    }

    fn tasks(&self) -> HashSet<String> {
        self.both.told.activities.iter().map(id).collect()
    }

    /// The tasks that the command started, by the other probes: what has the tracer as its parent is its root.
    fn expected(&self) -> HashSet<String> {
        let told = &self.alone;
        let mut below = HashSet::new();
        for (i, a) in told.activities.iter().enumerate() {
            let above = a.previous.or(a.parent).map(|p| p.0 as usize);
            let root = self.both.told.activities.first().is_some_and(|r| id(r) == id(a));
            if root || above.is_some_and(|p| below.contains(&p)) {
                below.insert(i);
            }
        }
        below.into_iter().map(|i| id(&told.activities[i])).collect()
    }
}

fn spool(store: &Path) -> Vec<PathBuf> {
    fs::read_dir(store.join("spool")).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// Each fact once, and by the same names.
fn compare(prepare: &dyn Fn(&Path), command: &[&str], least: Least) {
    if !need(&["bpf"]) {
        return;
    }
    let dir = folder();
    prepare(dir.path());
    let environment = [("LC_ALL", "C"), ("PYTHONDONTWRITEBYTECODE", "1")];
    let (twice, inner) = Twice::of(command, dir.path(), &environment);
    assert_eq!(twice.both.workflow.sources, ["ebpf:tracepoint", "preload"]);
    let (tasks, expected) = (twice.tasks(), twice.expected());
    assert_eq!(tasks.len(), twice.both.told.activities.len(), "a task is told twice");
    assert!(tasks.len() >= least.0, "only {} tasks: {}", tasks.len(), inner.stderr());
    let (ours, theirs) = (facts(&twice.both.told, &tasks), facts(&twice.alone, &expected));
    let diff = difference(&theirs, &ours);
    assert!(diff.is_empty(), "the kernel (-) and both (+) differ:\n{diff}");
    assert!(ours.lines().count() >= least.0 + least.1 + least.2, "only {} facts", ours.lines().count());
    assert!(!ours.contains("libflowcept.so"), "the library is told");
    assert!(spool(inner.store.path()).is_empty());
}

workloads::each! { compare }

/// A shell that does something, waits for a word (from us, whom nobody traces), does something else and ends with 3. What it
/// does after the word includes a program, a pipeline, a fork that only writes, a child that it kills, and a file that was opened
/// before.
const IN_TWO_PARTS: &str = "cat a > before; exec 7< a; sleep 99 & echo $$ > pid; read word < go; kill -9 $!; wait $!; cat b > after; sort after | tr a-z A-Z > sorted; (: > fork-only; echo x) > sub; read line <&7; echo $line > line; exit 3";

/// A run of it that waits.
struct Waiting {
    dir: TempDir,
    store: TempDir,
    /// The tracer.
    tracer: Child,
    shell: Shell,
}

/// Its pid. Where a test has failed it waits for a word that will not come.
struct Shell(i32);

impl Drop for Shell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
        }
    }
}

impl Waiting {
    fn start(tracer: &Path) -> Self {
        let (dir, store) = (folder(), folder());
        for name in ["a", "b"] {
            fs::write(dir.path().join(name), "some words\nand others\n").expect("because the folder is ours");
        }
        mkfifo(&dir.path().join("go"), nix::sys::stat::Mode::S_IRWXU).expect("because the folder is ours");
        let tracer = Command::new(tracer)
            .args(["--store".as_ref(), store.path().as_os_str()])
            .args(["run", "-q", "--source", "both", "--", "sh", "-c", IN_TWO_PARTS])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("because the binary was just built");
        let written = dir.path().join("pid");
        until("the shell said its pid", || fs::read_to_string(&written).is_ok_and(|p| p.ends_with('\n')));
        let pid = fs::read_to_string(&written).ok().and_then(|p| p.trim().parse().ok());
        let shell = Shell(pid.expect("because it says its pid"));
        // What was seen is in the log a moment later.
        std::thread::sleep(Duration::from_millis(400));
        Self { dir, store, tracer, shell }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.tracer.id() as i32), signal).expect("because nobody has waited for it");
    }

    /// The second part, when nobody has renewed the lease for longer than it lasts.
    fn go_on(&self) {
        std::thread::sleep(Lease::LENGTH + Duration::from_millis(300));
        fs::write(self.dir.path().join("go"), "word\n").expect("because the shell reads it");
        let there = || fs::read_to_string(format!("/proc/{}/stat", self.shell.0)).is_ok_and(|s| !s.contains(") Z"));
        until("the shell ended", || !there());
    }

    fn captured(self) -> (TempDir, Captured) {
        let output = self.tracer.wait_with_output().expect("because it was started");
        (self.dir, Captured { store: self.store, output })
    }
}

/// Uses of files in this folder and generations, by task; each with how often it was told.
fn by_command(run: &Run, dir: &Path) -> BTreeMap<String, usize> {
    let told = &run.told;
    let dir = dir.canonicalize().expect("because it is there");
    let name = |path: &str| Path::new(path).strip_prefix(&dir).ok().map(|p| p.to_string_lossy().into_owned());
    let command = |a| match told.activity(a) {
        a if a.subtype == Subtype::Fork => "fork".to_string(),
        a => a.arguments.first().map_or_else(String::new, |w| w.to_string()),
    };
    let mut list = BTreeMap::new();
    for u in told.used.iter().filter(|u| u.manner == Manner::Read) {
        if let Some(name) = name(&u.path) {
            *list.entry(format!("{} < {name}", command(u.activity))).or_default() += 1;
        }
    }
    for g in &told.generated {
        if let Some(name) = name(&g.path) {
            *list.entry(format!("{} > {name}", command(g.activity))).or_default() += 1;
        }
    }
    list
}

/// What the script does, as one reads it: the redirections of a program are the program's.
const WHOLE: [&str; 12] = [
    "cat < a",
    "cat < b",
    "cat > after",
    "cat > before",
    "fork > fork-only",
    "fork > sub",
    "sh < a",
    "sh > line",
    "sh > pid",
    "sort < after",
    "tr > sorted",
    "sh < go",
];

fn assert_whole(run: &Run, dir: &Path) {
    let found = by_command(run, dir);
    let mut expected = WHOLE.map(String::from).to_vec();
    expected.sort();
    // A FIFO is no file in either.
    expected.retain(|e| e != "sh < go");
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), expected);
    assert!(found.values().all(|n| *n == 1), "{found:?}");
    let mut seen = HashSet::new();
    let twice = run.told.used.iter().find(|u| !seen.insert((u.activity, u.entity, u.manner)));
    assert!(twice.is_none(), "{twice:?}");
}

/// The tracer is killed: the library goes on, and what both have seen is one run, in which each fact is told once and the tasks
/// have the names that the kernel's probes give them.
#[test]
fn the_tracer_is_killed() {
    if !need(&["bpf"]) {
        return;
    }
    let waiting = Waiting::start(binary());
    waiting.signal(Signal::SIGKILL);
    let store = waiting.store.path().to_path_buf();
    let ask = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("--store").arg(&store).args(arguments).output();
        String::from_utf8_lossy(&output.expect("because the binary was just built").stdout).into_owned()
    };
    // While it goes on it is not taken in, and nothing of it is thrown away.
    std::thread::sleep(Lease::LENGTH);
    assert_eq!(ask(&["workflows", "--json"]).trim(), "[]");
    assert_eq!(ask(&["spool", "prune"]), "");
    assert!(ask(&["spool"]).contains("RUNNING"), "{}", ask(&["spool"]));
    waiting.go_on();
    let (dir, captured) = waiting.captured();
    let run = captured.told();
    assert_whole(&run, dir.path());
    let ids: HashSet<_> = run.told.activities.iter().map(id).collect();
    assert_eq!(ids.len(), run.told.activities.len(), "a task is told twice");
    let root = &run.told.activities[0];
    assert_eq!((root.outcome, run.workflow.exit_code), (Outcome::Exited(3), Some(3 << 8)), "{root:?}");
    // It has done nothing since, and its parent has waited for it.
    let sleep = run.told.activities.iter().find(|a| &*a.name == "sleep").expect("because it was started");
    assert_eq!(sleep.outcome, Outcome::Signalled(9, false));
    // All of its processes are its children, also those that the kernel has not seen.
    let shells = run.told.activities.iter().filter(|a| a.parent.is_none() && a.previous.is_none()).count();
    assert_eq!(shells, 1, "{:?}", run.told.activities);
    let gaps: Vec<_> = run.told.gaps.iter().map(|g| (&*g.kind, &*g.why)).collect();
    assert!(gaps.iter().any(|(kind, why)| *kind == "cut" && why.contains("the library went on")), "{gaps:?}");
    let expected = ["cut", "lost:library", "untraced_writer"];
    assert!(gaps.iter().all(|(kind, _)| expected.contains(kind)) && gaps.len() == 3, "{gaps:?}");
    let books = &run.told.books;
    assert_eq!((books.forked, books.living), (books.ended, 0), "{books:?}");
    assert!(spool(captured.store.path()).is_empty());
    assert!(captured.ask(&["workflows"]).contains("ERROR"));
    // The log holds all of it.
    captured.ask(&["store", "rebuild"]);
    assert_whole(&captured.told(), dir.path());
}

/// The same, and other probes watch all the time: they name each task alike.
#[test]
fn the_tracer_is_killed_and_names_stay() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, inner) = (folder(), folder());
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), "some words\n").expect("because the folder is ours");
    }
    let script = format!(
        "{} --store {} run -q --source both -- sh -c 'cat a > before; read word < go; cat b > after; (: > fork-only)' & tracer=$!; while [ ! -s before ]; do sleep 0.05; done; sleep 0.4; kill -9 $tracer; sleep 1.3; timeout 9 sh -c 'echo word > go'; i=0; while [ ! -e fork-only -a $i -lt 99 ]; do sleep 0.05; i=$((i+1)); done",
        binary().display(),
        inner.path().display()
    );
    mkfifo(&dir.path().join("go"), nix::sys::stat::Mode::S_IRWXU).expect("because the folder is ours");
    let alone = Captured::of(&["sh", "-c", &script], dir.path(), &[]);
    let both = Captured { store: inner, output: alone.output.clone() };
    let (theirs, ours) = (alone.told(), both.told());
    let theirs: HashSet<_> = theirs.told.activities.iter().map(|a| (id(a), a.command_line())).collect();
    let ours: Vec<_> = ours.told.activities.iter().map(|a| (id(a), a.command_line())).collect();
    assert_eq!(ours.len(), 4, "{ours:?}");
    for task in &ours {
        assert!(theirs.contains(task), "{task:?} has another name: {theirs:?}");
    }
}

/// The tracer is stopped for longer than the lease lasts: the library speaks, but the kernel has missed nothing.
#[test]
fn the_tracer_is_stopped_for_a_while() {
    if !need(&["bpf"]) {
        return;
    }
    let waiting = Waiting::start(binary());
    let folder = spool(waiting.store.path()).pop().expect("because the run has its folder");
    assert_eq!(fs::read_dir(&folder).expect("because it is there").count(), 1, "the control word alone");
    waiting.signal(Signal::SIGSTOP);
    waiting.go_on();
    let segments = fs::read_dir(&folder).expect("because it is there").count() - 1;
    assert!(segments >= 4, "the library left {segments} segments: the lease did not run out");
    waiting.signal(Signal::SIGCONT);
    let (dir, captured) = waiting.captured();
    assert_eq!(captured.output.status.code(), Some(3));
    let run = captured.told();
    assert_whole(&run, dir.path());
    let gaps: Vec<_> = run.told.gaps.iter().map(|g| &*g.kind).collect();
    assert_eq!(gaps, ["untraced_writer"]);
    assert!(spool(captured.store.path()).is_empty());
}

/// The library with another version of the records, and a tracer beside it that has ours.
fn of_another_version() -> TempDir {
    let sources = folder();
    let copy = |path: &str| {
        let to = sources.path().join(path);
        fs::create_dir_all(to.parent().expect("because it is in the folder")).expect("because the folder is ours");
        let status = Command::new("cp").arg("-r").arg(root().join(path)).arg(&to).status();
        assert!(status.is_ok_and(|s| s.success()), "cp {path} failed");
    };
    ["Cargo.toml", "Cargo.lock", "probes/wire", "preload"].iter().for_each(|path| copy(path));
    let replace = |path: &str, old: &str, new: &str| {
        let path = sources.path().join(path);
        let text = fs::read_to_string(&path).expect("because it was just copied");
        let line = text.lines().find(|l| l.starts_with(old)).expect("because that line is there");
        fs::write(&path, text.replace(line, new)).expect("because the folder is ours");
    };
    replace("Cargo.toml", "members = ", "members = [\"probes/wire\", \"preload\"]");
    replace("Cargo.toml", "default-members = ", "");
    replace("probes/wire/src/header.rs", "pub const VERSION", "pub const VERSION: u16 = 4711;");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--offline", "-p", "flowcept-preload"]).current_dir(sources.path());
    let output = build.env("CARGO_TARGET_DIR", sources.path().join("target")).output();
    let output = output.expect("because cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::copy(binary(), sources.path().join("target/debug/flowcept")).expect("because there is room");
    sources
}

/// A library of another version takes no notice of the tracer's word, nor the tracer of its records: that is said, and what
/// the kernel has seen is whole.
#[test]
fn a_library_of_another_version() {
    if !need(&["bpf"]) {
        return;
    }
    let sources = of_another_version();
    let tracer = sources.path().join("target/debug/flowcept");
    let waiting = Waiting::start(&tracer);
    waiting.go_on();
    let (dir, captured) = waiting.captured();
    let run = captured.told();
    let gaps = run.told.gaps.iter().filter(|g| &*g.kind != "untraced_writer");
    let gaps: Vec<_> = gaps.map(|g| (&*g.kind, &*g.why, g.count)).collect();
    // The shell, the five programs and two forks.
    let why = "segments that another version of the library has written";
    assert_eq!(gaps, [("lost:library", why, 8)]);
    assert_whole(&run, dir.path());
    assert!(spool(captured.store.path()).is_empty());
    let store = folder();
    let output = Command::new(&tracer)
        .args(["--store".as_ref(), store.path().as_os_str()])
        .args(["run", "--source", "preload", "--", "true"])
        .output();
    let said = String::from_utf8_lossy(&output.expect("because it was just copied").stderr).into_owned();
    assert!(said.contains("has version 4711 of the records, and this flowcept 1"), "{said}");
}

/// Descendants that outlive the root are followed, and the library stays silent in them.
#[test]
fn descendants_that_outlive_the_root() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (folder(), folder());
    fs::write(dir.path().join("a"), "words\n").expect("because the folder is ours");
    let output = Command::new(binary())
        .args(["--store".as_ref(), store.path().as_os_str()])
        .args(["run", "--source", "both", "--", "sh", "-c", "(sleep 1.5; cat a > late) > /dev/null & :"])
        .current_dir(dir.path())
        .output()
        .expect("because the binary was just built");
    let captured = Captured { store, output };
    assert!(captured.stderr().contains("followed in the background"), "{}", captured.stderr());
    captured.wait();
    let run = captured.told();
    assert!(by_command(&run, dir.path()).contains_key("cat > late"));
    assert!(run.told.gaps.is_empty(), "{:?}", run.told.gaps);
    assert!(spool(captured.store.path()).is_empty());
}

/// A run that lasts longer than a lease: the library says nothing in all that time.
#[test]
fn the_lease_is_renewed() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (folder(), folder());
    fs::write(dir.path().join("a"), "words\n").expect("because the folder is ours");
    let script = "for i in 1 2 3 4 5 6 7 8 9; do cat a > b; sleep 0.2; done; ls ${FLOWCEPT_SPOOL%/*} > list";
    let status = Command::new(binary())
        .args(["--store".as_ref(), store.path().as_os_str()])
        .args(["run", "-q", "--source", "both", "--", "sh", "-c", script])
        .current_dir(dir.path())
        .status();
    assert!(status.is_ok_and(|s| s.success()));
    assert_eq!(fs::read_to_string(dir.path().join("list")).expect("because ls made it"), "control\n");
}

#[test]
fn as_another_user_is_refused() {
    let output = harness::host::flowcept(&["run", "--source", "both", "--user", "root", "--", "true"]);
    let output = output.expect("because the binary was just built");
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("or use --source ebpf"));
}
