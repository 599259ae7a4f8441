//! The ways in which programs open files, start others and end, each by itself (`programs/inside.c`): with the library in it a
//! program does what it does without, and what it did is told, or that it cannot be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::sync::OnceLock;

use flowcept_agent::query::Run;
use flowcept_provenance::activity::{Outcome, Subtype};
use harness::host::{library, need, root};
use harness::run::Captured;
use tempfile::TempDir;

/// The gap of a run in which a process was without the library.
const WITHOUT: &str = "processes that the library was not in";
/// The gap of each run with the library.
const RAW: &str = "system calls that a program makes itself";
/// The gap of a run whose segments had no room.
const LOST: &str = "records for which a segment had no room";

/// A program, compiled with such options at the first use.
pub(crate) fn compiled(name: &str, source: &str, compiler: &str, options: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (fresh, program) = (folder.join(format!("{name}-{}", std::process::id())), folder.join(name));
    let source = root().join("tests/programs").join(source);
    let output = Command::new(compiler).args(options).arg("-o").arg(&fresh).arg(source).output();
    let output = output.expect("because the compiler is there");
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    // Another test run may have the old one open.
    fs::rename(&fresh, &program).expect("because the compiler wrote it");
    program
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compiled("inside", "inside.c", "cc", &["-O1", "-pthread"]))
}

pub(crate) fn opened_by_dlopen() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| compiled("inside-look.so", "inside.c", "cc", &["-O1", "-DLOOK", "-shared", "-fPIC"]))
}

fn static_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compiled("inside-static", "inside.c", "cc", &["-O1", "-static", "-pthread"]))
}

/// A folder with the file a.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("because tests may write temporary files"));
        folder.renew();
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("w")
    }

    fn renew(&self) {
        let _ = fs::remove_dir_all(self.path());
        fs::create_dir(self.path()).expect("because its parent is there");
        fs::write(self.path().join("a"), "alpha\n").expect("because the folder is ours");
    }
}

fn plain(command: &[&str], dir: &Path) -> Output {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(dir).stdin(Stdio::null()).output();
    output.expect("because the command is there")
}

/// What was told of a run with the library.
struct Told(Rc<Run>);

impl Told {
    fn used(&self, name: &str) -> bool {
        self.0.told.used.iter().any(|u| Path::new(&*u.path).file_name().is_some_and(|n| n == name))
    }

    fn generated(&self, name: &str) -> bool {
        self.0.told.generated.iter().any(|g| Path::new(&*g.path).file_name().is_some_and(|n| n == name))
    }

    /// How often.
    fn gap(&self, why: &str) -> u64 {
        self.0.told.gaps.iter().filter(|g| g.why.starts_with(why)).map(|g| g.count).sum()
    }

    fn failed_execs(&self) -> usize {
        self.0.told.activities.iter().map(|a| a.failed_execs.len()).sum()
    }
}

/// The code of a shell for an end.
fn code(output: &Output) -> Option<i32> {
    output.status.code().or_else(|| output.status.signal().map(|s| 128 + s))
}

/// What a case must tell.
#[derive(Clone, Copy, PartialEq)]
enum Tells {
    /// The library tells that the file a was used.
    Used,
    /// And that the file made was generated.
    Made,
    /// Nobody can see it from inside.
    Raw,
    /// So many processes were without the library.
    Without(u64),
    /// Only that the program is the same.
    Nothing,
}

/// Runs a case untraced, under the kernel's probes and with the library.
fn case(name: &str, other: &Path, tells: Tells) -> Option<Told> {
    if !need(&["bpf", "cc"]) {
        return None;
    }
    let folder = Folder::new();
    let (program, other) = (program().to_string_lossy(), other.to_string_lossy());
    let command = [&*program, "clean", &*program, name, &*other];
    let untraced = plain(&command, &folder.path());
    assert_ne!(code(&untraced), Some(9), "{name}: {}", String::from_utf8_lossy(&untraced.stderr));
    if code(&untraced) == Some(77) {
        eprintln!("skipped: this kernel refuses {name}");
        return None;
    }
    folder.renew();
    let kernel = Captured::of(&command, &folder.path(), &[]);
    folder.renew();
    let inside = Captured::preloaded(&command, &folder.path(), &[]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(inside.output.status, untraced.status, "{name}: {}", inside.stderr());
    assert_eq!(text(&inside.output.stdout), text(&untraced.stdout), "{name}");
    assert_eq!(text(&inside.output.stderr), text(&untraced.stderr), "{name}");
    assert_eq!(code(&kernel.output), code(&untraced), "{name}: {}", kernel.stderr());
    assert_eq!(text(&kernel.output.stdout), text(&untraced.stdout), "{name}");
    assert!(kernel.stderr().contains(&text(&untraced.stderr)), "{name}: {}", kernel.stderr());
    let (kernel, inside) = (Told(kernel.told()), Told(inside.told()));
    if tells != Tells::Nothing && name != "io_uring" {
        assert!(kernel.used("a"), "{name}: the kernel tells no use");
    }
    let told = &inside.0.told;
    let all = || format!("{name}\nused: {:?}\ngenerated: {:?}\ngaps: {:?}", told.used, told.generated, told.gaps);
    match tells {
        Tells::Used | Tells::Made => assert!(inside.used("a"), "{}", all()),
        Tells::Raw => assert!(!inside.used("a") && inside.gap(RAW) == 1, "{}", all()),
        Tells::Without(_) | Tells::Nothing => {}
    }
    if tells == Tells::Made {
        assert!(inside.generated("made") && kernel.generated("made"), "{}", all());
    }
    let without = if let Tells::Without(count) = tells { count } else { 0 };
    assert_eq!(inside.gap(WITHOUT), without, "{}", all());
    assert_eq!(inside.gap(LOST), 0, "{}", all());
    Some(inside)
}

/// Cases of one kind; no other program is needed.
fn cases(names: &[&str], tells: Tells) {
    for name in names {
        case(name, Path::new(""), tells);
    }
}

#[test]
fn opens() {
    cases(&["open", "openat-here", "openat", "freopen", "mmap", "close_range", "closefrom"], Tells::Used);
    cases(&["fopen", "sendfile"], Tells::Made);
}

#[test]
fn raw_calls_are_a_gap() {
    // By its number, through syscall(2): that it was made can be seen, and by whom.
    for (name, kind, tells) in [
        ("raw-openat", "numbered_call", Tells::Raw),
        // The descriptor that it made is read by read(3).
        ("raw-openat2", "numbered_call", Tells::Used),
        ("io_uring", "io_uring", Tells::Raw),
    ] {
        let Some(told) = case(name, Path::new(""), tells) else { continue };
        let gaps = &told.0.told.gaps;
        assert!(gaps.iter().any(|g| &*g.kind == kind && g.activity.is_some()), "{name}: {gaps:?}");
    }
    let Some(told) = case("inline-openat", Path::new(""), Tells::Raw) else { return };
    assert!(told.0.told.gaps.iter().all(|g| &*g.kind != "numbered_call"));
}

#[test]
fn threads() {
    cases(&["pthread", "detached", "small-stack", "300-threads", "cancel"], Tells::Used);
}

#[test]
fn forks() {
    for name in ["fork-exit", "fork-_exit", "raw-fork", "_Fork", "forkpty", "clone-fork", "daemon"] {
        let Some(told) = case(name, Path::new(""), Tells::Used) else { return };
        let told = &told.0.told;
        let who = told.used.iter().find(|u| u.path.ends_with("/w/a")).map(|u| told.activity(u.activity));
        assert!(who.is_some_and(|a| a.subtype == Subtype::Fork), "{name}: the child is not told apart: {who:?}");
    }
    for name in ["fork-kill", "waitid"] {
        let Some(told) = case(name, Path::new(""), Tells::Used) else { return };
        let ends: Vec<_> = told.0.told.activities.iter().map(|a| a.outcome).collect();
        assert!(ends.contains(&Outcome::Signalled(9, false)), "{name}: {ends:?}");
    }
}

/// A fork tells what it did that cannot be followed, though its parent has told the same.
#[test]
fn a_gap_is_each_process_own() {
    let Some(told) = case("fork-gap", Path::new(""), Tells::Used) else { return };
    let of = |kind: &str| told.0.told.gaps.iter().filter(|g| &*g.kind == kind).count();
    assert_eq!(of("shared_memory"), 2, "{:?}", told.0.told.gaps);
}

#[test]
fn children_that_exec() {
    cases(&["posix_spawn", "posix_spawn-empty", "popen", "clone-exec"], Tells::Used);
    cases(&["system"], Tells::Made);
}

#[test]
fn vfork_leaves_the_parent_alone() {
    let Some(told) = case("vfork-exec", Path::new(""), Tells::Made) else { return };
    assert_eq!(told.failed_execs(), 1, "{:?}", told.0.told.activities);
    // What the child did to its descriptors, the parent's did not undergo: it wrote to stdout, not to the file.
    let made = told.0.told.generated.iter().find(|g| g.path.ends_with("/made")).map(|g| g.bytes.0);
    assert_eq!(made, Some(0), "{:?}", told.0.told.generated);
    // Nor was its folder another.
    let after = told.0.told.generated.iter().find(|g| g.path.ends_with("/w/after"));
    assert_eq!(after.map(|g| g.bytes.0), Some(6), "{:?}", told.0.told.generated);
    // And the parent ended by itself.
    assert_eq!(told.0.workflow.exit_code, Some(0));
}

#[test]
fn an_environment_of_its_own_keeps_the_library() {
    let names = [
        "execve-empty",
        "execve-null",
        "execv-cleared",
        "execvp-cleared",
        "execl-cleared",
        "execlp-cleared",
        "execle",
        "execvpe",
        "fexecve",
        "execveat",
        "exec-many",
        "raw-execve",
    ];
    cases(&names, Tells::Used);
}

#[test]
fn an_exec_that_failed_is_told() {
    let Some(told) = case("exec-fails", Path::new(""), Tells::Used) else { return };
    assert_eq!(told.failed_execs(), 1, "{:?}", told.0.told.activities);
}

#[test]
fn processes_without_the_library_are_a_gap() {
    cases(&["raw-execve-empty", "system-cleared"], Tells::Without(1));
    if need(&["cc"]) {
        case("other", static_program(), Tells::Without(1));
    }
}

/// The program that the root itself becomes.
#[test]
fn a_static_image_of_the_same_process_is_a_gap() {
    if !need(&["cc"]) {
        return;
    }
    let folder = Folder::new();
    let script = format!("cat a; exec {} open-quiet", static_program().display());
    let inside = Told(Captured::preloaded(&["sh", "-c", &script], &folder.path(), &[]).told());
    assert_eq!(inside.gap(WITHOUT), 1, "{:?}", inside.0.told.gaps);
    assert!(inside.used("a"));
}

#[test]
fn libraries_opened_later() {
    if need(&["cc"]) {
        case("dlopen", opened_by_dlopen(), Tells::Used);
    }
}

/// A namespace of the loader has a C library of its own, which nobody stands before.
#[test]
fn another_namespace_is_a_gap() {
    if need(&["cc"]) {
        case("dlmopen", opened_by_dlopen(), Tells::Raw);
    }
}

#[test]
fn ends() {
    cases(&["_exit", "raw-exit", "abort", "kill"], Tells::Used);
}

#[test]
fn errno_is_the_calls_own() {
    cases(&["errno"], Tells::Used);
}

#[test]
fn a_handler_that_opens_files_a_thousand_times_a_second() {
    cases(&["signals"], Tells::Made);
}

/// All at once, for `FLOWCEPT_STRESS` seconds: handler, threads, forks from among them, vfork, cancellation. Nothing crashes
/// or hangs, and the spool is whole.
#[test]
fn under_stress() {
    if !need(&["cc"]) {
        return;
    }
    let seconds = std::env::var("FLOWCEPT_STRESS").unwrap_or_else(|_| "3".into());
    let program = compiled("stress", "stress.c", "cc", &["-O1", "-pthread"]);
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    fs::write(folder.path().join("in"), "words\n").expect("because the folder is ours");
    let captured = Captured::preloaded(&[&program.to_string_lossy(), &seconds], folder.path(), &[]);
    eprintln!("{}", captured.stderr());
    assert_eq!(captured.output.status.code(), Some(0), "{}", captured.stderr());
    let told = Told(captured.told());
    assert!(told.used("in") && told.generated("by-handler"));
    // A segment may be full after minutes, which is counted; anything else would be damage.
    let gaps: Vec<_> = told.0.told.gaps.iter().filter(|g| ![LOST, RAW].iter().any(|w| g.why.starts_with(w))).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
}

#[test]
fn many_calls() {
    cases(&["many-opens", "many-chdir"], Tells::Used);
}

/// What has no room in a segment is counted, and nothing else of it is lost: not the sums, not the end.
#[test]
fn more_than_a_segment_holds() {
    if !need(&["cc"]) {
        return;
    }
    let folder = Folder::new();
    let inside = Captured::preloaded(&[&*program().to_string_lossy(), "many-reads"], &folder.path(), &[]);
    assert_eq!(inside.output.status.code(), Some(0), "{}", inside.stderr());
    let told = Told(inside.told());
    let used = told.0.told.used.iter().find(|u| u.path.ends_with("/w/a")).expect("because it was read");
    let (lost, told_of) = (told.gap(LOST), used.bytes.0 / 6);
    // What else may have no room is the use of the terminal and the end.
    assert!(lost > 10_000 && (600_000..600_010).contains(&(told_of + lost)), "{told_of} + {lost}");
    assert_eq!(told.0.workflow.exit_code, Some(0));
}

/// A program that restricts its own calls is not killed for ours.
#[test]
fn a_sandbox_is_a_gap() {
    for name in ["prctl-sandbox", "sandbox"] {
        let Some(told) = case(name, Path::new(""), Tells::Used) else { return };
        let gaps = &told.0.told.gaps;
        assert!(gaps.iter().any(|g| &*g.kind == "sandbox") && !told.generated("made"), "{name}: {gaps:?}");
    }
}

/// Setuid: the loader leaves the library out, and so does the library itself.
#[test]
fn setuid_is_left_alone() {
    if !need(&["cc"]) {
        return;
    }
    let folder = Folder::new();
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("inside-setuid-{}", std::process::id()));
    fs::copy(program(), &copy).expect("because both are ours");
    if chown(&copy, Some(65534), None).is_err() {
        eprintln!("skipped: only root gives files away");
        let _ = fs::remove_file(&copy);
        return;
    }
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).expect("because it was ours");
    for path in [folder.0.path(), &folder.path(), &folder.path().join("a")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("because it is ours");
    }
    let told = case("other", &copy, Tells::Without(1));
    fs::remove_file(&copy).expect("because it is there");
    drop(told);
}

#[test]
fn the_environment_shows_two_variables_at_most() {
    if !need(&["cc"]) {
        return;
    }
    let folder = Folder::new();
    let lines = |output: &Output| {
        let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect();
        lines.sort();
        lines
    };
    for command in [&["env"][..], &["env", "-i", "env"], &["env", "-i", "A=1", "sh", "-c", "env"]] {
        let untraced = lines(&plain(command, &folder.path()));
        let inside = lines(&Captured::preloaded(command, &folder.path(), &[]).output);
        let more: Vec<_> = inside.iter().filter(|l| !untraced.contains(l)).collect();
        let ours = |l: &str| ["LD_PRELOAD=", "FLOWCEPT_SPOOL=", "FLOWCEPT_STORE="].iter().any(|n| l.starts_with(n));
        assert!(more.iter().all(|l| ours(l)) && more.len() <= 3, "{command:?}: {more:?}");
        // FLOWCEPT_STORE is this test's own, and goes with the rest.
        assert_eq!(more.iter().any(|l| l.starts_with("FLOWCEPT_STORE=")), command.len() == 1, "{more:?}");
        assert!(untraced.iter().all(|l| inside.contains(l)), "{command:?}: {inside:?}");
    }
}

/// Others stay, in their order, and this library comes after them.
#[test]
fn a_foreign_preload_stays() {
    if !need(&["cc"]) {
        return;
    }
    let (folder, other) = (Folder::new(), opened_by_dlopen().to_string_lossy());
    let command = [&*program().to_string_lossy(), "execve-foreign", &*other];
    let output = Captured::preloaded(&command, &folder.path(), &[]).output;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("LD_PRELOAD={other}:{}\n", library().display())), "{text}");
    assert!(text.contains("A=1\n") && text.lines().count() == 3, "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn streams_are_untouched() {
    if !need(&["cc"]) {
        return;
    }
    let (folder, store) = (Folder::new(), tempfile::tempdir().expect("because tests may write temporary files"));
    fs::write(folder.path().join("input"), "one\ntwo\n".repeat(50_000)).expect("because the folder is ours");
    let run = |preload: Option<PathBuf>| {
        let mut command = Command::new(program());
        command
            .arg("clean")
            .arg(program())
            .arg("untouched")
            .current_dir(folder.path())
            .env("FLOWCEPT_STORE", store.path());
        let input = fs::File::open(folder.path().join("input")).expect("because it was written");
        command.envs(preload.map(|p| ("LD_PRELOAD", p))).stdin(input).output().expect("because cc wrote it")
    };
    assert_eq!(run(None), run(Some(library())));
}

/// The sanitizer's library wants to be the first, and need not be: it is, it follows, or only the program names it.
#[test]
fn with_address_sanitizer() {
    if !need(&["cc"]) {
        return;
    }
    let asked = Command::new("cc").arg("-print-file-name=libasan.so").output().expect("because cc is there");
    let asan = fs::canonicalize(String::from_utf8_lossy(&asked.stdout).trim());
    let Ok(asan) = asan else { return eprintln!("skipped: there is no libasan") };
    let program = compiled("inside-asan", "inside.c", "cc", &["-O1", "-pthread", "-fsanitize=address"]);
    for name in ["open", "fopen", "300-threads", "fork-_exit", "vfork-exec", "execve-empty", "errno"] {
        let folder = Folder::new();
        let run = |preload: &str, store: &Path| {
            folder.renew();
            let mut command = Command::new(&program);
            command.arg("clean").arg(&program).arg(name).current_dir(folder.path());
            command.env("LD_PRELOAD", preload).env("FLOWCEPT_STORE", store);
            command.env("ASAN_OPTIONS", "detect_leaks=0").stdin(Stdio::null());
            command.output().expect("because cc wrote it")
        };
        let store = tempfile::tempdir().expect("because tests may write temporary files");
        let untraced = run("", store.path());
        let (asan, ours) = (asan.display(), library());
        let ours = ours.display();
        for preload in [format!("{asan}:{ours}"), format!("{ours}:{asan}"), ours.to_string()] {
            let store = tempfile::tempdir().expect("because tests may write temporary files");
            let output = run(&preload, store.path());
            assert_eq!(output, untraced, "{name} with {preload}");
            let told = Told(Captured { store, output }.told());
            assert!(told.used("a"), "{name} with {preload}: {:?}", told.0.told.used);
        }
    }
}

/// musl's loader does not find what glibc's symbols need, or the program is static: it goes on, and that is told.
#[test]
fn another_c_library_is_a_gap() {
    if need(&["bpf", "cc", "musl-gcc"]) {
        let program = compiled("inside-musl", "inside.c", "musl-gcc", &["-O1", "-static", "-DLOOK"]);
        case("other", &program, Tells::Without(1));
    }
}
