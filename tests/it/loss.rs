//! 17: what was missed is told, and the books balance.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::host::{binary, need};
use harness::run::Captured;

#[test]
fn a_flood_past_a_small_ring_is_counted_by_cause() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    // The reader sleeps through the flood, or it might keep up.
    let script =
        "kill -STOP $PPID; i=0; while [ $i -lt 300 ]; do : > f$i; read x < f$i; i=$((i+1)); done; kill -CONT $PPID";
    let captured = Captured::of(&["sh", "-c", script], dir.path(), &[("FLOWCEPT_RING_BYTES", "4096")]);
    let run = captured.told();
    let lost: u64 = run.told.gaps.iter().filter(|g| g.kind.starts_with("lost:kernel ring")).map(|g| g.count).sum();
    assert!(lost > 0, "{:?}", run.told.gaps);
    assert!(captured.ask(&["show", "last"]).contains("no room in the ring"));
    assert_eq!(run.told.books.written, run.told.books.decoded);
    assert_eq!(fs::read_dir(dir.path()).expect("because it is ours").count(), 300, "the program did all its work");
}

#[test]
fn twenty_thousand_processes_are_all_tasks() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let script = "i=0; while [ $i -lt 20000 ]; do (:) ; i=$((i+1)); done";
    let captured = Captured::of(&["sh", "-c", script], dir.path(), &[]);
    let told = &captured.told().told;
    assert_eq!(told.activities.len(), 20_001);
    assert_eq!((told.books.forked, told.books.ended, told.books.living), (20_001, 20_001, 0));
    assert!(told.gaps.is_empty(), "{:?}", told.gaps);
}

#[test]
fn mechanisms_that_are_not_followed_are_gaps() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let script = "import socket, mmap\na,b=socket.socketpair()\na.send(b'x')\nb.recv(1)\nmmap.mmap(-1,4096)";
    let captured = Captured::of(&["python3", "-c", script], dir.path(), &[]);
    let mut kinds: Vec<String> = captured.told().told.gaps.iter().map(|g| g.kind.to_string()).collect();
    kinds.sort();
    assert_eq!(kinds, ["shared_memory", "socket"]);
}

/// The tracer is killed: the program ends as if nothing had been, the log opens, the run says that it was cut.
#[test]
fn a_killed_tracer() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let store = tempfile::tempdir().expect("because tests may write temporary files");
    let script = "i=0; while [ $i -lt 40 ]; do echo $i > f$i; sleep 0.05; i=$((i+1)); done; echo done > done";
    for files in [8, 20] {
        let mut tracer = Command::new(binary())
            .args(["--store".as_ref(), store.path().as_os_str(), "run".as_ref(), "--".as_ref()])
            .args(["sh", "-c", script])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("because the binary was just built");
        let begun = std::time::Instant::now();
        while !dir.path().join(format!("f{files}")).exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the program did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        tracer.kill().expect("because it runs");
        tracer.wait().expect("because it was killed");
        let seen = fs::read_dir(dir.path()).expect("because it is ours").count();
        let done = dir.path().join("done");
        let begun = std::time::Instant::now();
        while !done.exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the program did not go on");
            std::thread::sleep(Duration::from_millis(20));
        }
        let show = Command::new(binary()).arg("--store").arg(store.path()).args(["show", "last"]).output();
        let show = String::from_utf8_lossy(&show.expect("because the binary was just built").stdout).into_owned();
        assert!(show.contains("cut ×1"), "{show}");
        // 200 ms may be missing: at most five files.
        let told = show.matches("> /").count();
        assert!(told + 5 >= seen && told > 0, "{told} of {seen} files are told");
        fs::remove_dir_all(dir.path()).expect("because it is ours");
        fs::create_dir(dir.path()).expect("because it is ours");
    }
}

/// A full disk under the store costs observations, told, and not the program.
#[test]
fn a_full_disk() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let store = dir.path().join("store");
    fs::create_dir(&store).expect("because the folder is ours");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=96k", "none"]).arg(&store).status();
    if !mount.is_ok_and(|s| s.success()) {
        eprintln!("skipped: no mount here");
        return;
    }
    let script = "i=0; while [ $i -lt 3000 ]; do echo $i > f; i=$((i+1)); done; cat f";
    let output = Command::new(binary())
        .args(["--store".as_ref(), store.as_os_str(), "run".as_ref(), "--".as_ref()])
        .args(["sh", "-c", script])
        .current_dir(dir.path())
        .output()
        .expect("because the binary was just built");
    let _ = Command::new("umount").arg(&store).status();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"2999\n"[..]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left on device"), "{:?}", output);
}

/// A path with more levels than the walk takes is told in part, and that it is.
#[test]
fn a_walk_cut_short_is_a_gap() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let script = "i=0; while [ $i -lt 120 ]; do mkdir d; cd d; i=$((i+1)); done; echo deep > f";
    let captured = Captured::of(&["sh", "-c", script], dir.path(), &[]);
    let told = &captured.told().told;
    assert!(told.gaps.iter().any(|g| g.why.contains("paths longer than the walk")), "{:?}", told.gaps);
}
