//! The spool between library and taker: what a killed program has said is there, a full or closed disk is nobody's trouble,
//! nothing in it is trusted, each workflow is taken in once.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use flowcept_agent::intake;
use flowcept_agent::query::Library;
use flowcept_agent::store::Store;
use harness::host::{binary, library, need, root};
use harness::random::Random;
use harness::run::until;
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("because tests may write temporary files")
}

/// A program that will run with the library in it.
fn preloaded(program: &str, arguments: &[&str], dir: &Path, store: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).stdin(Stdio::null());
    command.env("LD_PRELOAD", library()).env("FLOWCEPT_STORE", store).env_remove("FLOWCEPT_SPOOL");
    command
}

/// The workflows in a store's spool.
fn spool(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join("spool")).into_iter().flatten().flatten();
    entries.map(|e| e.path()).collect()
}

/// The spool of a workflow that wrote `out` and has ended; nobody has taken it in.
fn finished(dir: &Path, store: &Path) -> PathBuf {
    let before: BTreeSet<PathBuf> = spool(store).into_iter().collect();
    let output = preloaded("sh", &["-c", "echo some > out; cat out"], dir, store).output();
    assert_eq!(output.expect("because sh is on every machine").stdout, b"some\n");
    let made = spool(store).into_iter().find(|f| !before.contains(f));
    made.expect("because the library leaves a folder")
}

fn flowcept(store: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(binary()).arg("--store").arg(store).args(arguments).output();
    output.expect("because the binary was just built")
}

fn json(store: &Path, arguments: &[&str]) -> Value {
    let output = flowcept(store, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("because --json was asked for")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The ids of a list's rows.
fn ids(list: &Value) -> Vec<String> {
    let rows = list.as_array().expect("because it is a list");
    rows.iter().map(|r| r["workflow_id"].as_str().expect("because each has one").to_string()).collect()
}

fn id(folder: &Path) -> String {
    let name = folder.file_name().expect("because it has one").to_string_lossy().into_owned();
    name.strip_prefix("w-").expect("because that is how they are named").to_string()
}

/// Makes a folder as old as one that no program has only just begun.
fn age(folder: &Path) {
    let file = fs::File::open(folder).expect("because it is there");
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("because it is ours");
}

/// `programs/steady.c`, compiled.
fn steady() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("steady-{}", std::process::id()));
    let source = root().join("tests/programs/steady.c");
    let status = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).status();
    assert!(status.is_ok_and(|s| s.success()), "cc failed");
    program
}

/// The program is killed at random moments: all that had returned is told, and nothing else.
#[test]
fn a_killed_program() {
    if !need(&["cc"]) {
        return;
    }
    let program = steady();
    let mut random = Random::seeded();
    let mut moment = || match random.below(4) {
        0 => (0, Duration::from_micros(random.below(30_000))),
        _ => (1 + random.below(250) as usize, Duration::from_micros(random.below(1000))),
    };
    let moments: Vec<(usize, Duration)> = (0..200).map(|_| moment()).collect();
    let around: Vec<usize> = std::thread::scope(|scope| {
        let parts: Vec<_> = moments
            .chunks(50)
            .map(|part| {
                let program = &program;
                scope.spawn(move || part.iter().map(|m| killed_at(program, *m)).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|p| p.join().expect("because it has not failed")).collect()
    });
    let _ = fs::remove_file(&program);
    eprintln!("killed 200 times after {} times around", around.iter().sum::<usize>());
}

/// One moment: so long after it has said so often that it has been around. How often it had been.
fn killed_at(program: &Path, (times, delay): (usize, Duration)) -> usize {
    let (dir, store) = (folder(), folder());
    fs::write(dir.path().join("in"), [b'i'; 100]).expect("because the folder is ours");
    for i in 0..64 {
        fs::write(dir.path().join(format!("r{i}")), "read\n").expect("because the folder is ours");
    }
    let mut child = preloaded(&program.to_string_lossy(), &[], dir.path(), store.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("because cc has made it");
    let mut said = child.stdout.take().expect("because it is piped");
    said.read_exact(&mut vec![0; times]).expect("because the program goes on until it is killed");
    std::thread::sleep(delay);
    child.kill().expect("because nobody has waited for it");
    child.wait().expect("because it was killed");
    let mut rest = Vec::new();
    said.read_to_end(&mut rest).expect("because the writer has gone");
    let around = times + rest.len();
    let opened = Store::open(store.path().to_path_buf()).expect("because the folder is ours");
    let trouble = intake::take_in(&opened);
    assert!(trouble.is_empty(), "{trouble:?}");
    let runs = json(store.path(), &["workflows", "--json"]);
    if runs.as_array().is_some_and(Vec::is_empty) {
        assert_eq!(around, 0, "killed after {delay:?}, and nothing is told");
        return 0;
    }
    assert!(spool(store.path()).is_empty(), "{:?}", spool(store.path()));
    let run = Library::open(&opened).and_then(|mut l| l.find("last")).expect("because it was taken in");
    let base = dir.path().canonicalize().expect("because it is there");
    let within = |path: &str| Path::new(path).strip_prefix(&base).ok().map(|p| p.to_string_lossy().into_owned());
    let generated: BTreeSet<String> = run.told.generated.iter().filter_map(|g| within(&g.path)).collect();
    let used: BTreeSet<String> =
        run.told.used.iter().filter_map(|u| within(&u.path)).filter(|p| p != "steady").collect();
    // What had returned, and what may have been going on.
    let names = |letter: char, end: usize| (0..end).map(|i| format!("{letter}{i}")).collect::<BTreeSet<_>>();
    let context = format!("killed after {delay:?}, {around} times around");
    assert!(generated.is_superset(&names('f', around)), "{context}: {generated:?}");
    assert!(generated.is_subset(&names('f', around + 1)), "{context}: {generated:?}");
    let mut least = names('r', around.min(64));
    least.extend((around > 0).then(|| "in".to_string()));
    assert!(used.is_superset(&least), "{context}: {used:?}");
    let mut most = names('r', (around + 1).min(64));
    most.insert("in".into());
    assert!(used.is_subset(&most), "{context}: {used:?}");
    for g in run.told.generated.iter().filter(|g| within(&g.path).is_some_and(|p| names('f', around).contains(&p))) {
        assert_eq!(g.bytes.0, 11, "{context}: {}", g.path);
    }
    let of_in: u64 = run.told.used.iter().filter(|u| within(&u.path).as_deref() == Some("in")).map(|u| u.bytes.0).sum();
    assert!((around as u64 * 10..=around as u64 * 10 + 10).contains(&of_in), "{context}: {of_in} bytes of `in`");
    around
}

/// A filesystem of its own at a folder, until it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn of(options: &str, at: &'a Path) -> Option<Self> {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status();
        let mounted = status.is_ok_and(|s| s.success());
        if !mounted {
            eprintln!("skipped: no mount here");
        }
        mounted.then_some(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

const WRITES: &str = "i=0; while [ $i -lt 500 ]; do echo $i > f$i; i=$((i+1)); done; cat f499; exit 3";

/// A full disk under the spool costs records, which is told, and not the program.
#[test]
fn a_full_disk() {
    let (dir, store) = (folder(), folder());
    let place = store.path().join("spool");
    fs::create_dir(&place).expect("because the folder is ours");
    // Room for some of the first segment, and then for nothing.
    let Some(_mounted) = Mounted::of("size=60k", &place) else { return };
    let output = preloaded("sh", &["-c", WRITES], dir.path(), store.path()).output();
    let output = output.expect("because sh is on every machine");
    assert_eq!((output.status.code(), &*output.stdout, &*output.stderr), (Some(3), &b"499\n"[..], &b""[..]));
    let opened = Store::open(store.path().to_path_buf()).expect("because the folder is ours");
    let trouble = intake::take_in(&opened);
    assert!(trouble.is_empty(), "{trouble:?}");
    let run = Library::open(&opened).and_then(|mut l| l.find("last")).expect("because it was taken in");
    let told = run.told.generated.len();
    assert!((20..500).contains(&told), "{told} files");
    let count = |why: &str| {
        run.told.gaps.iter().filter(|g| g.kind.contains(why) || g.why.contains(why)).map(|g| g.count).sum::<u64>()
    };
    assert!(count("records for which a segment had no room") as usize >= 500 - told, "{:?}", run.told.gaps);
    assert_eq!(count("segments for which there was no room"), 1, "{:?}", run.told.gaps);
    // How it ended is told all the same.
    assert_eq!(run.workflow.exit_code, Some(3 << 8));
}

/// Where no spool can be, the program runs as ever.
#[test]
fn no_place_for_a_spool() {
    let (dir, store) = (folder(), folder());
    let closed = store.path().join("closed");
    fs::create_dir(&closed).expect("because the folder is ours");
    let _mounted = Mounted::of("ro", &closed);
    let long = format!("/tmp/{}", "long/".repeat(120));
    let full = store.path().join("full");
    fs::create_dir(&full).expect("because the folder is ours");
    let _full = Mounted::of("size=16k", &full);
    for place in [closed.as_path(), &full, Path::new("/dev/null/store"), Path::new("/proc/store"), Path::new(&long)] {
        for variable in ["FLOWCEPT_STORE", "FLOWCEPT_SPOOL"] {
            let mut command = preloaded("sh", &["-c", WRITES], dir.path(), place);
            let output = command.env_remove("FLOWCEPT_STORE").env(variable, place).output();
            let output = output.expect("because sh is on every machine");
            let seen = (output.status.code(), text(&output.stdout), text(&output.stderr));
            assert_eq!(seen, (Some(3), "499\n".into(), String::new()), "{variable}={}", place.display());
        }
    }
    let mut homeless = preloaded("sh", &["-c", WRITES], dir.path(), store.path());
    let output = homeless.env_remove("FLOWCEPT_STORE").env_remove("HOME").env_remove("XDG_STATE_HOME").output();
    assert_eq!(output.expect("because sh is on every machine").status.code(), Some(3));
}

/// What the library makes is its user's alone.
#[test]
fn modes() {
    let (dir, base) = (folder(), folder());
    let store = base.path().join("store");
    let mut command = preloaded("sh", &["-c", "umask 0; echo x > out; (umask 0; echo x > out2)"], dir.path(), &store);
    assert!(command.status().is_ok_and(|s| s.success()));
    let mode = |path: &Path| fs::symlink_metadata(path).expect("because it was made").permissions().mode() & 0o7777;
    let folder = spool(&store).pop().expect("because the library leaves a folder");
    assert_eq!((mode(&store), mode(&store.join("spool")), mode(&folder)), (0o700, 0o700, 0o700));
    let segments: Vec<PathBuf> =
        fs::read_dir(&folder).expect("because it is ours").flatten().map(|e| e.path()).collect();
    assert!(segments.len() >= 2 && segments.iter().all(|s| mode(s) == 0o600), "{segments:?}");
}

/// Nobody makes the taker read what it should not, wait, or fill its memory; what is good is taken in all the same.
#[test]
fn traps() {
    let (dir, store, elsewhere) = (folder(), folder(), folder());
    let good = finished(dir.path(), store.path());
    let plain = finished(dir.path(), store.path());
    let away = finished(dir.path(), elsewhere.path());
    let seg = |folder: &Path| {
        fs::read_dir(folder).expect("because it is ours").flatten().next().expect("because it has one").path()
    };
    // A workflow that is a link to one elsewhere.
    let link = store.path().join("spool/w-00000000-0000-4000-8000-000000000001");
    symlink(&away, &link).expect("because the folder is ours");
    // In a good one: a link to a segment elsewhere, a FIFO, a folder, a huge file with a hole, another's file.
    symlink(seg(&away), good.join("1-1.seg")).expect("because the folder is ours");
    nix::unistd::mkfifo(&good.join("2-2.seg"), nix::sys::stat::Mode::S_IRWXU).expect("because the folder is ours");
    fs::create_dir(good.join("3-3.seg")).expect("because the folder is ours");
    symlink(away.as_path(), good.join("3-3.seg/away")).expect("because the folder is ours");
    let huge = fs::File::create(good.join("4-4.seg")).expect("because the folder is ours");
    huge.set_len(10 << 30).expect("because a hole takes no room");
    if nix::unistd::geteuid().is_root() {
        fs::copy(seg(&away), good.join("5-5.seg")).expect("because the folder is ours");
        std::os::unix::fs::chown(good.join("5-5.seg"), Some(65534), None).expect("because root may");
    }
    let begun = Instant::now();
    let output = flowcept(store.path(), &["workflows", "--json"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited, or read {:?}", begun.elapsed());
    assert_eq!(text(&output.stderr), "");
    let list: Value = serde_json::from_slice(&output.stdout).expect("because --json was asked for");
    let told: BTreeSet<String> = ids(&list).into_iter().collect();
    assert_eq!(told, BTreeSet::from([id(&good), id(&plain)]));
    assert_eq!(spool(store.path()), [link]);
    assert!(seg(&away).is_file(), "what a link leads to stays");
    let show = flowcept(store.path(), &["show", &id(&good)]);
    let show = text(&show.stdout);
    assert!(show.contains("files in the spool that are no segments"), "{show}");
    let library = Library::open(&Store::open(store.path().to_path_buf()).expect("because it is there"));
    let run = library.and_then(|mut l| l.find(&id(&good))).expect("because it was taken in");
    assert_eq!(run.told.activities.len(), 2, "sh and cat");
}

/// A folder of another user's is his to take in.
#[test]
fn another_users_folder() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let (dir, store) = (folder(), folder());
    let own = finished(dir.path(), store.path());
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("because it is ours");
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).expect("because the folder is ours");
    for entry in fs::read_dir(&own).expect("because it is ours").flatten() {
        let to = copy.join(entry.file_name());
        fs::copy(entry.path(), &to).expect("because there is room");
        open(&to);
    }
    [dir.path(), store.path(), &store.path().join("spool"), &copy].into_iter().for_each(open);
    let theirs = store.path().join("spool/w-00000000-0000-4000-8000-000000000002");
    let script = "mkdir \"$1\" && cp \"$0\"/* \"$1\" && chmod 777 \"$1\" && ln -s /etc \"$1\"/etc";
    let status = Command::new("sh").args(["-c", script]).arg(&copy).arg(&theirs).uid(65534).gid(65534).status();
    assert!(status.is_ok_and(|s| s.success()), "nobody cannot write here");
    assert_eq!(fs::symlink_metadata(&theirs).expect("because he made it").uid(), 65534);
    // He can neither look into ours nor put something there.
    let look = Command::new("ls").arg(&own).uid(65534).gid(65534).stderr(Stdio::null()).status();
    assert!(look.is_ok_and(|s| !s.success()), "nobody can read a spool");
    assert_eq!(ids(&json(store.path(), &["spool", "--json"])), [id(&own)]);
    assert_eq!(ids(&json(store.path(), &["workflows", "--json"])), [id(&own)]);
    assert_eq!(spool(store.path()), [theirs]);
}

/// Two takers at once, five workflows: each is there once.
#[test]
fn two_takers() {
    let (dir, store) = (folder(), folder());
    for _ in 0..4 {
        let mut made: Vec<String> = (0..5).map(|_| id(&finished(dir.path(), store.path()))).collect();
        let outputs = std::thread::scope(|scope| {
            let both = [0, 1].map(|_| scope.spawn(|| flowcept(store.path(), &["workflows", "--json"])));
            both.map(|t| t.join().expect("because it has not failed"))
        });
        for output in outputs {
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        }
        let mut told = ids(&json(store.path(), &["workflows", "--json"]));
        told.sort();
        let count = told.len();
        told.dedup();
        assert_eq!(told.len(), count, "one is there twice");
        made.retain(|id| !told.contains(id));
        assert!(made.is_empty(), "{made:?} were not taken in");
        assert!(spool(store.path()).is_empty());
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|s| s.success()), "cp failed");
}

/// A taker that is killed half way: the next one finishes, and the workflow is there once and whole.
#[test]
fn a_killed_taker() {
    let (dir, store) = (folder(), folder());
    let one = finished(dir.path(), store.path());
    let kept = dir.path().join("kept");
    copy(&one, &kept);
    let whole = json(store.path(), &["show", "--json", "last"]);
    assert_eq!(whole["tasks"].as_array().map(Vec::len), Some(2));
    let log = store.path().join("logs").join(format!("{}.log", id(&one)));
    let bytes = fs::read(&log).expect("because the taker wrote it");
    let fresh = |keep: &dyn Fn(&Path)| {
        let store = folder();
        fs::create_dir_all(store.path().join("logs")).expect("because the folder is ours");
        fs::create_dir_all(store.path().join("spool")).expect("because the folder is ours");
        copy(&kept, &store.path().join("spool").join(one.file_name().expect("because it has one")));
        keep(&store.path().join("logs").join(log.file_name().expect("because it has one")));
        let told = json(store.path(), &["show", "--json", "last"]);
        assert_eq!(told["tasks"].as_array().map(Vec::len), Some(2), "{told}");
        assert_eq!(ids(&json(store.path(), &["workflows", "--json"])), [id(&one)]);
        assert!(spool(store.path()).is_empty());
        assert_eq!(fs::read_dir(store.path().join("logs")).expect("because it is there").count(), 1);
        let text = flowcept(store.path(), &["show"]).stdout;
        assert!(!self::text(&text).contains("cut ×"), "{}", self::text(&text));
    };
    // After the log, before the index; within the log, under either name; before it had its first byte.
    fresh(&|log| fs::write(log, &bytes).expect("because the folder is ours"));
    fresh(&|log| fs::write(log, &bytes[..bytes.len() * 2 / 3]).expect("because the folder is ours"));
    fresh(&|log| {
        fs::write(log.with_extension("taking"), &bytes[..bytes.len() / 2]).expect("because the folder is ours")
    });
    fresh(&|log| fs::write(log.with_extension("taking"), "").expect("because the folder is ours"));
}

/// A damaged workflow is reported and is in nobody's way; `spool` lists it and `spool prune` removes it.
#[test]
fn a_damaged_workflow() {
    let (dir, store) = (folder(), folder());
    let good = finished(dir.path(), store.path());
    let spooled = store.path().join("spool");
    let garbage = spooled.join("w-00000000-0000-4000-8000-000000000003");
    let empty = spooled.join("w-00000000-0000-4000-8000-000000000004");
    let begins = spooled.join("w-00000000-0000-4000-8000-000000000005");
    for folder in [&garbage, &empty, &begins] {
        fs::create_dir(folder).expect("because the folder is ours");
    }
    fs::write(garbage.join("1-1.seg"), "no segment").expect("because the folder is ours");
    age(&empty);
    let list = json(store.path(), &["spool", "--json"]);
    let statuses = list.as_array().expect("because it is a list").iter();
    let mut statuses: Vec<_> = statuses.map(|r| (r["workflow_id"].to_string(), r["status"].to_string())).collect();
    statuses.sort();
    let expected = [(&garbage, "DAMAGED"), (&empty, "DAMAGED"), (&begins, "RUNNING"), (&good, "FINISHED")];
    let mut expected = expected.map(|(f, s)| (format!("\"{}\"", id(f)), format!("\"{s}\"")));
    expected.sort();
    assert_eq!(statuses, expected);
    let output = flowcept(store.path(), &["workflows", "--json"]);
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(0), 2), "{stderr}");
    assert!(
        stderr.contains(&id(&garbage)) && stderr.contains(&id(&empty)) && stderr.contains("spool prune"),
        "{stderr}"
    );
    assert_eq!(ids(&serde_json::from_slice(&output.stdout).expect("because --json was asked for")), [id(&good)]);
    let table = flowcept(store.path(), &["spool"]);
    let table = text(&table.stdout);
    assert!(table.lines().count() == 3 && table.contains("DAMAGED") && table.contains("0 segments"), "{table}");
    let removed = json(store.path(), &["spool", "prune", "--json"]);
    assert_eq!(removed["removed"].as_array().map(Vec::len), Some(2), "{removed}");
    assert_eq!(spool(store.path()), [begins]);
    let again = flowcept(store.path(), &["spool", "prune"]);
    assert_eq!((again.status.code(), text(&again.stdout)), (Some(0), String::new()));
    for arguments in [&["spool", "--help"][..], &["spool", "prune", "--help"]] {
        let help = text(&flowcept(store.path(), arguments).stdout);
        assert!(help.contains("Example") && help.contains("flowcept spool"), "{help}");
    }
}

/// What a library of another version has written is neither misread nor thrown away: it waits for who can read it.
#[test]
fn a_library_of_another_version() {
    let (dir, store) = (folder(), folder());
    let good = finished(dir.path(), store.path());
    let set_version = |difference: u64| {
        for entry in fs::read_dir(&good).expect("because it was just written").flatten() {
            let mut bytes = fs::read(entry.path()).expect("because it was just written");
            let version = u64::from_ne_bytes(bytes[8..16].try_into().expect("because these are eight"));
            bytes[8..16].copy_from_slice(&version.wrapping_add(difference).to_ne_bytes());
            fs::write(entry.path(), bytes).expect("because the folder is ours");
        }
    };
    set_version(41);
    let output = flowcept(store.path(), &["workflows", "--json"]);
    let (none, said) =
        (ids(&serde_json::from_slice(&output.stdout).expect("because it is JSON")), text(&output.stderr));
    assert!(none.is_empty() && said.contains(&id(&good)) && said.contains("version 42 of the records"), "{said}");
    assert_eq!(json(store.path(), &["spool", "--json"])[0]["status"], "OTHER VERSION");
    assert_eq!(json(store.path(), &["spool", "prune", "--json"])["removed"].as_array().map(Vec::len), Some(0));
    set_version(0_u64.wrapping_sub(41));
    assert_eq!(ids(&json(store.path(), &["workflows", "--json"])), [id(&good)]);
}

/// Waits for a file, then tells what it says.
fn once_there(path: &Path) -> String {
    until(&path.display().to_string(), || fs::read_to_string(path).is_ok_and(|text| !text.is_empty()));
    fs::read_to_string(path).expect("because it is there")
}

/// A workflow is taken in when the last of its processes has ended, and not before: also where the first has gone and the one
/// that is left has done nothing so far.
#[test]
fn a_running_program() {
    let scripts = ["echo $$ > pid; read x < go; echo done > out", "(read x < go; echo done > out) & echo $! > pid"];
    for script in scripts {
        let (dir, store) = (folder(), folder());
        let go = dir.path().join("go");
        nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).expect("because the folder is ours");
        let mut child = preloaded("sh", &["-c", script], dir.path(), store.path()).spawn();
        let child = child.as_mut().expect("because sh is on every machine");
        let pid = once_there(&dir.path().join("pid"));
        if script.starts_with('(') {
            assert!(child.wait().is_ok_and(|s| s.success()));
        }
        assert_eq!(ids(&json(store.path(), &["workflows", "--json"])).len(), 0, "{script}: it still runs");
        let list = json(store.path(), &["spool", "--json"]);
        let row = &list[0];
        assert!(row["running"] == true && row["status"] == "RUNNING" && row["segments"] == 1, "{list}");
        assert!(row["bytes"].as_u64().is_some_and(|b| b >= 4 << 10), "{list}");
        let removed = json(store.path(), &["spool", "prune", "--json"]);
        assert_eq!(removed["removed"].as_array().map(Vec::len), Some(0));
        fs::write(&go, "go\n").expect("because it has a reader");
        let _ = child.wait();
        once_there(&dir.path().join("out"));
        let process = PathBuf::from(format!("/proc/{}", pid.trim()));
        until(script, || fs::read_to_string(process.join("stat")).map_or(true, |stat| stat.contains(") Z")));
        assert_eq!(ids(&json(store.path(), &["workflows", "--json"])).len(), 1, "{script}");
        let generated = json(store.path(), &["show", "--json"]).to_string();
        assert!(generated.contains("/out"), "{script}: {generated}");
        assert!(spool(store.path()).is_empty());
    }
}

/// A library is found where the program's own path for libraries leads, and is told.
#[test]
fn the_programs_own_path_for_libraries() {
    if !need(&["cc"]) {
        return;
    }
    let (dir, store) = (folder(), folder());
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("because the folder is ours");
    put("part.c", "int part(void) { return 7; }");
    put("main.c", "#include <dlfcn.h>\nint main(void) { return dlopen(\"libpart.so\", RTLD_NOW) ? 7 : 1; }");
    fs::create_dir(dir.path().join("parts")).expect("because the folder is ours");
    let path = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/parts";
    for arguments in
        [&["-shared", "-fPIC", "-o", "parts/libpart.so", "part.c"][..], &["-o", "main", "main.c", path, "-ldl"]]
    {
        let status = Command::new("cc").args(arguments).current_dir(dir.path()).status();
        assert!(status.is_ok_and(|s| s.success()), "cc failed");
    }
    let program = dir.path().join("main");
    let output = preloaded(&program.to_string_lossy(), &[], dir.path(), store.path()).output();
    assert_eq!(output.expect("because cc has made it").status.code(), Some(7));
    let opened = Store::open(store.path().to_path_buf()).expect("because the library made it");
    let trouble = intake::take_in(&opened);
    assert!(trouble.is_empty(), "{trouble:?}");
    let run = Library::open(&opened).and_then(|mut l| l.find("last")).expect("because it was taken in");
    let used: Vec<&str> = run.told.used.iter().map(|u| &*u.path).collect();
    assert!(used.iter().any(|p| p.ends_with("/parts/libpart.so")), "{used:?}");
}

/// The library as it is shipped, without its debug information.
fn shipped() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--quiet", "--release", "-p", "flowcept-preload"];
    let status = Command::new(cargo).current_dir(root()).args(arguments).status();
    assert!(status.is_ok_and(|s| s.success()), "cargo build failed");
    let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let stripped = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libflowcept-{}.so", std::process::id()));
    let status = Command::new("strip").arg("-o").args([&stripped, &built.join("release/libflowcept.so")]).status();
    assert!(status.is_ok_and(|s| s.success()), "strip failed");
    stripped
}

fn printed(program: &str, arguments: &[&str], of: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(of).output().expect("because binutils are there");
    assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// All that the library asks of others; what is not in this list would be one more thing that a program can lack.
const NEEDED: [&str; 16] = [
    "__errno_location",
    "__fpending",
    "__register_atfork",
    "bcmp",
    "clock_gettime",
    "dl_iterate_phdr",
    "environ",
    "fileno",
    "getauxval",
    "memcmp",
    "memcpy",
    "memset",
    "on_exit",
    "stdin",
    "stdout",
    "strlen",
];
/// What every shared object may name and none has to find.
const WEAK: [&str; 4] =
    ["__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"];

/// The library needs few symbols, all of them old, and is small.
#[test]
fn the_library_asks_for_little() {
    if !need(&["nm", "objdump", "strip"]) {
        return;
    }
    let shipped = shipped();
    for file in [&library(), &shipped] {
        let list = printed("nm", &["-D", "--undefined-only"], file);
        let names = list.lines().filter_map(|l| l.split_whitespace().last()?.split('@').next());
        let more: Vec<_> = names.filter(|n| !NEEDED.contains(n) && !WEAK.contains(n)).collect();
        assert!(more.is_empty(), "{}: {more:?}", file.display());
        let versions = printed("objdump", &["-T"], file);
        let parts = versions.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
        for version in parts.filter_map(|p| p.strip_prefix("GLIBC_")) {
            let numbers: Vec<u32> = version.split('.').filter_map(|n| n.parse().ok()).collect();
            assert!(numbers.as_slice() <= &[2, 17][..], "{} needs GLIBC_{version}:\n{versions}", file.display());
        }
    }
    let size = fs::metadata(&shipped).expect("because strip made it").len();
    eprintln!("libflowcept.so takes {size} bytes");
    assert!(size <= 64_000, "{size} bytes");
    let _ = fs::remove_file(&shipped);
}
