//! Every system call of the probes' table by itself: `programs/calls.c` makes it, and something is told that would not be
//! without its row. Each test fails when one of its rows is switched off by `FLOWCEPT_MUTATE`, and names it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;

use flowcept_agent::query::Run;
use flowcept_provenance::activity::{Activity, ActivityNo, Outcome, Subtype};
use flowcept_provenance::entity::Origin;
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::relation::{Generation, Use, Via};
use harness::host::{need, root};
use harness::run::Captured;
use tempfile::TempDir;

/// `programs/calls.c`, compiled at the first use.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (fresh, program) = (folder.join(format!("calls-{}", std::process::id())), folder.join("calls"));
        let source = root().join("tests/programs/calls.c");
        let status = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&fresh).arg(source).status();
        assert!(status.is_ok_and(|s| s.success()), "cc failed");
        // Another test run may have the old one open.
        fs::rename(&fresh, &program).expect("because cc wrote it");
        program
    })
}

/// Calls made under one traced run, each by a process of its own in a folder of its own.
struct Traced {
    _dir: TempDir,
    run: Rc<Run>,
    /// Calls that this kernel does not have.
    refused: Vec<String>,
}

/// Makes each call in the folder of its name, and says whose exit code is not 0.
const EACH: &str = "p=$1; shift; for c; do (cd \"$c\" && exec \"$p\" \"$c\") || echo \"$c\" $?; done";

impl Traced {
    fn of(calls: &[&str]) -> Option<Self> {
        Self::within(calls, &["sh", "-c", EACH, "sh"], |_| true)
    }

    /// The same, where `prepare` has made something of the folder and `shell` goes into it.
    fn within(calls: &[&str], shell: &[&str], prepare: impl Fn(&Path) -> bool) -> Option<Self> {
        if !need(&["bpf", "cc"]) {
            return None;
        }
        let dir = tempfile::tempdir().expect("because tests may write temporary files");
        for call in calls {
            let folder = dir.path().join("files").join(call);
            fs::create_dir_all(folder.join("empty")).expect("because the folder is ours");
            fs::write(folder.join("a"), "alpha\n").expect("because the folder is ours");
            fs::write(folder.join("b"), "bravo\n").expect("because the folder is ours");
        }
        if !prepare(dir.path()) {
            return None;
        }
        let program = program().to_string_lossy();
        let command = [shell, &[&*program], calls].concat();
        let captured = Captured::of(&command, &dir.path().join("files"), &[]);
        let mut refused = Vec::new();
        for line in String::from_utf8_lossy(&captured.output.stdout).lines() {
            match line.split_once(' ') {
                Some((call, "77")) => refused.push(call.to_string()),
                _ => panic!("{line}: {}", captured.stderr()),
            }
        }
        for call in &refused {
            eprintln!("skipped: this kernel refuses {call}");
        }
        Some(Self { _dir: dir, run: captured.told(), refused })
    }

    /// Fails with the names of those calls of which `told` does not hold.
    fn all(&self, calls: &[&str], told: impl Fn(&Made<'_>) -> bool) {
        let not =
            |call: &&&str| !self.refused.iter().any(|r| r == **call) && !self.made(call).is_some_and(|m| told(&m));
        let untold: Vec<_> = calls.iter().filter(not).collect();
        let told = &self.run.told;
        let used: Vec<_> = told.used.iter().map(|u| (u.activity, &u.path, u.bytes, u.possible)).collect();
        let generated: Vec<_> = told.generated.iter().map(|g| (g.activity, &g.path, g.bytes, g.possible)).collect();
        let gaps = &told.gaps;
        assert!(
            untold.is_empty(),
            "not told: {untold:?}\nused: {used:?}\ngenerated: {generated:?}\nmoved: {:?}\ngaps: {gaps:?}",
            told.moved
        );
    }

    /// The process that made a call.
    fn made(&self, call: &str) -> Option<Made<'_>> {
        let told = &self.run.told;
        let own = |a: &Activity| a.subtype == Subtype::Process && a.arguments.get(1).is_some_and(|a| &**a == call);
        let no = told.activities.iter().position(own).map(|i| ActivityNo(i as u32))?;
        Some(Made { call: call.to_string(), told, no })
    }
}

/// What was told of the process that made a call.
struct Made<'a> {
    call: String,
    told: &'a Provenance,
    no: ActivityNo,
}

impl Made<'_> {
    fn activity(&self) -> &Activity {
        self.told.activity(self.no)
    }

    fn used(&self, name: &str) -> Option<&Use> {
        let path = format!("/{}/{name}", self.call);
        self.told.used.iter().find(|u| u.activity == self.no && u.path.ends_with(&path))
    }

    fn generated(&self, name: &str) -> Option<&Generation> {
        let path = format!("/{}/{name}", self.call);
        self.told.generated.iter().find(|g| g.activity == self.no && g.path.ends_with(&path))
    }

    /// The version of a file that it generated began so.
    fn origin(&self, name: &str) -> Option<Origin> {
        self.generated(name).map(|g| self.told.entity(g.entity).origin)
    }

    fn moved(&self, old: &str, new: &str) -> bool {
        let (old, new) = (format!("/{}/{old}", self.call), format!("/{}/{new}", self.call));
        self.told
            .moved
            .iter()
            .any(|m| m.activity == self.no && m.old_path.ends_with(&old) && m.new_path.ends_with(&new))
    }

    fn gaps(&self) -> Vec<&str> {
        self.told.gaps.iter().filter(|g| g.activity == Some(self.no)).map(|g| &*g.kind).collect()
    }

    /// Bytes that came to it through pipes, and bytes that others had from it.
    fn through_pipes(&self) -> (u64, u64) {
        let pipes = || self.told.informed.iter().filter(|i| i.via == Via::Pipe);
        let came = pipes().filter(|i| i.informed == self.no).map(|i| i.bytes.0).sum();
        (came, pipes().filter(|i| i.informant == self.no).map(|i| i.bytes.0).sum())
    }
}

/// 4: each way to read is a use.
#[test]
fn ways_to_read() {
    let calls = ["pread64", "readv", "preadv", "preadv2"];
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| m.used("a").is_some_and(|u| u.bytes.0 == 6) && m.generated("a").is_none());
    assert!(traced.run.told.gaps.is_empty(), "{:?}", traced.run.told.gaps);
}

/// 5: each way to write is a generation, and revises what was there.
#[test]
fn ways_to_write() {
    let calls = ["pwrite64", "writev", "pwritev", "pwritev2", "fallocate"];
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| {
        let bytes = if m.call == "fallocate" { 0 } else { 6 };
        m.origin("b") == Some(Origin::Revised) && m.activity().written.0 == bytes
    });
    assert!(traced.run.told.gaps.is_empty(), "{:?}", traced.run.told.gaps);
}

/// Bytes that went to a file once are counted once, also where their call began a version or the file was created.
#[test]
fn bytes_are_counted_once() {
    let calls = ["pwrite64", "writev", "dup3"];
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| m.generated(if m.call == "dup3" { "out" } else { "b" }).is_some_and(|g| g.bytes.0 == 6));
}

/// 5: each way to create or cut a file is a generation, also where no byte is written.
#[test]
fn ways_to_open() {
    let calls = ["open", "creat", "openat2", "open_by_handle_at", "memfd_create"];
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| match &*m.call {
        "open_by_handle_at" => m.origin("b") == Some(Origin::Truncated),
        "memfd_create" => m.told.generated.iter().any(|g| g.activity == m.no && m.told.entity(g.entity).nameless),
        _ => m.origin("out") == Some(Origin::Created) && m.generated("out").is_some_and(|g| g.bytes.0 == 0),
    });
    assert!(traced.run.told.gaps.is_empty(), "{:?}", traced.run.told.gaps);
}

/// The state of a file is told from its last close, also where that is another file's taking its descriptor.
#[test]
fn a_descriptor_taken_is_a_close() {
    let Some(traced) = Traced::of(&["dup3"]) else { return };
    traced.all(&["dup3"], |m| m.generated("out").is_some_and(|g| m.told.entity(g.entity).state.size.0 == 6));
}

/// 8: bytes that go through pipes without read and write join all the same, in the direction that they took.
#[test]
fn ways_through_pipes() {
    let calls = ["vmsplice", "vmsplice_from", "tee"];
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| match &*m.call {
        "vmsplice" => m.through_pipes() == (0, 6),
        "vmsplice_from" => m.through_pipes() == (6, 0),
        _ => m.through_pipes() == (6, 6),
    });
    assert!(traced.run.told.gaps.is_empty(), "{:?}", traced.run.told.gaps);
}

/// 7: names given and exchanged, directories made.
#[test]
fn ways_to_name() {
    let calls = ["renameat", "renameat2", "mkdir", "mkdirat"];
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| match &*m.call {
        "renameat" => m.moved("a", "out") && m.told.moved.iter().filter(|n| n.activity == m.no).count() == 1,
        "renameat2" => m.moved("a", "b") && m.moved("b", "a"),
        _ => m.activity().directories_made == 1,
    });
    assert!(traced.run.told.gaps.is_empty(), "{:?}", traced.run.told.gaps);
}

/// 1: an image that changed names is no mere passage to the next: it is a task. One that did nothing is folded.
#[test]
fn what_changes_names_is_a_task() {
    let calls = ["symlink", "symlinkat", "rmdir"];
    let Some(traced) = Traced::of(&["symlink", "symlinkat", "rmdir", "nothing"]) else { return };
    traced.all(&calls, |m| m.activity().outcome == Outcome::Replaced && m.activity().name.starts_with("calls"));
    assert!(traced.made("nothing").is_none(), "an image that did nothing is a task");
}

/// An exec that failed is told with its name and its errno.
#[test]
fn ways_to_fail_to_exec() {
    let Some(traced) = Traced::of(&["execve", "execveat"]) else { return };
    traced.all(&["execve", "execveat"], |m| {
        let failed = &m.activity().failed_execs;
        failed.len() == 1 && failed[0].0.ends_with("no-such") && failed[0].1 == libc::ENOENT as u32
    });
}

/// 17: mechanisms that are not followed, each a gap of the task that used it and of no other.
const UNSEEN: &[(&str, &str)] = &[
    ("io_uring_enter", "io_uring"),
    ("io_submit", "libaio"),
    ("sendto", "socket"),
    ("recvfrom", "socket"),
    ("sendmsg", "socket"),
    ("recvmsg", "socket"),
    ("recvmmsg", "socket"),
    ("sendmmsg", "socket"),
    ("shmat", "sysv_shared_memory"),
    ("msgsnd", "message_queue"),
    ("msgrcv", "message_queue"),
    ("mq_timedsend", "message_queue"),
    ("mq_timedreceive", "message_queue"),
    ("process_vm_readv", "process_vm"),
    ("process_vm_writev", "process_vm"),
];

#[test]
fn what_is_not_followed_is_a_gap() {
    let calls: Vec<&str> = UNSEEN.iter().map(|(call, _)| *call).collect();
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| UNSEEN.iter().any(|(call, gap)| *call == m.call && m.gaps() == [*gap]));
}

/// 17: a call of the 32-bit table is a gap, whatever its number means to others: 4 is write(2) there and stat(2) here.
#[test]
fn calls_of_the_32_bit_table() {
    let calls = ["compat_read", "compat_write"];
    let Some(traced) = Traced::of(&calls) else { return };
    traced.all(&calls, |m| m.gaps() == ["compat"]);
}

/// 15: the CPU time is complete when the process is freed.
#[test]
fn cpu_time_is_complete() {
    // The shell goes on for longer than a freed process takes.
    let shell = ["sh", "-c", "\"$1\" \"$2\"; sleep 1", "sh"];
    let Some(traced) = Traced::within(&["burn"], &shell, |_| true) else { return };
    traced.all(&["burn"], |m| {
        let cost = &m.activity().cost;
        !cost.cpu_at_least && (200_000_000..300_000_000).contains(&cost.cpu.0)
    });
}

/// A thread reads; while it waits, its descriptor becomes another file's. That file was not read.
#[test]
fn a_descriptor_swapped_while_a_read_waits() {
    let Some(traced) = Traced::of(&["swap"]) else { return };
    traced.all(&["swap"], |m| m.used("b").is_none());
    let gaps = &traced.run.told.gaps;
    let told = |g: &flowcept_provenance::relation::Gap| g.why.contains("files without path or state");
    assert!(gaps.iter().any(told), "{gaps:?}");
}

/// Goes into a filesystem of its own, in a mount namespace that ends with the shell.
fn mounted(mount: &str) -> String {
    format!("mount {mount} || {{ echo mount 77; exit; }}; cd ../mnt; {EACH}")
}

/// 4 and 5: a clone uses its source and generates its twin.
#[test]
fn clones() {
    if !need(&["mkfs.btrfs"]) {
        return;
    }
    let script = mounted("-o loop ../image ../mnt");
    let calls = ["ficlone", "ficlonerange"];
    let traced = Traced::within(&calls, &["unshare", "-m", "sh", "-c", &script, "sh"], |dir| {
        fs::create_dir(dir.join("mnt")).expect("because the folder is ours");
        let image = fs::File::create(dir.join("image")).expect("because the folder is ours");
        image.set_len(128 << 20).expect("because it is sparse");
        let mut mkfs = Command::new("mkfs.btrfs");
        mkfs.args(["-q", "--rootdir"]).arg(dir.join("files")).arg(dir.join("image"));
        mkfs.output().is_ok_and(|o| o.status.success())
    });
    let Some(traced) = traced.filter(|t| t.refused.is_empty()) else { return };
    traced.all(&calls, |m| m.used("a").is_some() && m.generated("b").is_some());
    assert!(traced.run.told.gaps.is_empty(), "{:?}", traced.run.told.gaps);
}

/// 17: FIDEDUPERANGE is a gap. An overlay takes the call, whatever the filesystem below can do.
#[test]
fn deduplication_is_a_gap() {
    let script = mounted("-t overlay -o lowerdir=.,upperdir=../upper,workdir=../work none ../mnt");
    let calls = ["fideduperange"];
    let traced = Traced::within(&calls, &["unshare", "-m", "sh", "-c", &script, "sh"], |dir| {
        ["mnt", "upper", "work"].iter().all(|d| fs::create_dir(dir.join(d)).is_ok())
    });
    let Some(traced) = traced.filter(|t| t.refused.is_empty()) else { return };
    traced.all(&calls, |m| m.gaps() == ["deduplication"]);
}
