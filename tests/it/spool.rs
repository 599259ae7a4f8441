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
const NEEDED: [&str; 15] = [
    "__errno_location",
    "__fpending",
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
