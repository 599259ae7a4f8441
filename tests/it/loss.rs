//! 17: what was missed is told, and the books balance.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use harness::host::{binary, need};
use harness::random::Random;
use harness::run::{Captured, generated, until};

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

/// Writes files for about a second, by itself and by others, and then what all of them hold.
const STEADY: &str = "i=100; while [ $i -lt 140 ]; do seq $i 400 > a$i; cat a$i | sort -r > b$i; sleep 0.02; \
                      i=$((i+1)); done; sha256sum a* b* > all; mv all hash";

/// The tracer is killed at random moments: the program ends as if nothing had been, the log opens and has all that is
/// older than 200 ms, the run says that it was cut.
#[test]
fn a_killed_tracer() {
    if !need(&["bpf"]) {
        return;
    }
    let untraced = tempfile::tempdir().expect("because tests may write temporary files");
    let status = Command::new("sh").args(["-c", STEADY]).current_dir(untraced.path()).status();
    assert!(status.is_ok_and(|s| s.success()), "the program fails untraced");
    let hash = fs::read_to_string(untraced.path().join("hash")).expect("because the program wrote it");
    assert_eq!(hash.lines().count(), 80);
    let mut random = Random::seeded();
    let delays: Vec<Duration> = (0..20).map(|_| Duration::from_micros(random.below(900_000))).collect();
    // The programs sleep most of the time.
    std::thread::scope(|scope| {
        for delays in delays.chunks(5) {
            scope.spawn(|| delays.iter().for_each(|delay| killed_after(*delay, &hash)));
        }
    });
}

/// One moment. Where the machine was too slow and the program had ended before it came, another attempt is made.
fn killed_after(delay: Duration, hash: &str) {
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("because tests may write temporary files");
        let store = tempfile::tempdir().expect("because tests may write temporary files");
        let mut tracer = Command::new(binary())
            .args(["--store".as_ref(), store.path().as_os_str(), "run".as_ref(), "--".as_ref()])
            .args(["sh", "-c", STEADY])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("because the binary was just built");
        until("the program to start", || dir.path().join("a100").exists());
        std::thread::sleep(delay);
        let killed = SystemTime::now();
        tracer.kill().expect("because nobody has waited for it");
        let too_late = dir.path().join("hash").exists();
        let output = tracer.wait_with_output().expect("because it was killed");
        until("the program to go on", || dir.path().join("hash").exists());
        assert_eq!(fs::read_to_string(dir.path().join("hash")).expect("because it is there"), hash, "after {delay:?}");
        if too_late {
            continue;
        }
        let captured = Captured { store, output };
        let show = captured.ask(&["show", "last"]);
        assert!(show.contains("cut ×1"), "killed after {delay:?}: {show}");
        let told = generated(&captured.told());
        for entry in fs::read_dir(dir.path()).expect("because it is ours") {
            let entry = entry.expect("because nobody else is here");
            let written = entry.metadata().and_then(|m| m.modified()).expect("because nobody removes it");
            let before = killed.duration_since(written).unwrap_or_default();
            let path = entry.path().canonicalize().expect("because it is there").to_string_lossy().into_owned();
            assert!(
                before <= Duration::from_millis(200) || told.contains(&path),
                "killed after {delay:?}: {path}, written {before:?} before, is not told: {show}"
            );
        }
        return;
    }
    panic!("the program was always done before {delay:?}: this machine is too slow");
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
    // And with no room at all there is no index: an error, and not the end by a signal.
    let _ = fs::remove_dir_all(store.join("index-2"));
    let filled = fs::write(store.join("filler"), vec![0; 1 << 20]);
    let asked = Command::new(binary()).arg("--store").arg(&store).arg("workflows").output();
    let _ = Command::new("umount").arg(&store).status();
    assert!(filled.is_err_and(|e| e.kind() == std::io::ErrorKind::StorageFull));
    let asked = asked.expect("because the binary was just built");
    assert!(asked.status.code().is_some_and(|c| c != 0), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("No space left on device"), "{asked:?}");
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

/// Where ends are not seen, that is a gap; nobody waits for them for ever.
#[test]
fn an_end_that_was_not_seen_is_a_gap() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let blind = [("FLOWCEPT_MUTATE", "process_ended")];
    let captured = Captured::of(&["sh", "-c", "/bin/true; :"], dir.path(), &blind);
    let told = &captured.told().told;
    let gaps: Vec<_> = told.gaps.iter().map(|g| (&*g.kind, g.count)).collect();
    assert_eq!(gaps, [("processes", 2)]);
    assert_eq!((told.books.forked, told.books.ended, told.books.living), (2, 0, 0));
}
