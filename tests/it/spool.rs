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
