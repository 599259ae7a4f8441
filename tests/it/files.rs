//! Versions, appends, order in time, forks and the jobserver, on real programs.

use std::fs;

use flowcept_provenance::entity::Origin;
use flowcept_provenance::relation::Via;
use flowcept_provenance::role::Role;
use harness::host::{loader, need};
use harness::run::Captured;

fn run(script: &str) -> Option<(tempfile::TempDir, Captured)> {
    if !need(&["bpf"]) {
        return None;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), format!("{name}\n")).expect("because the folder is ours");
    }
    let captured = Captured::of(&["sh", "-c", script], dir.path(), &[]);
    Some((dir, captured))
}

fn lineage(dir: &tempfile::TempDir, captured: &Captured, file: &str, more: &[&str]) -> String {
    let path = dir.path().join(file).to_string_lossy().into_owned();
    let folder = fs::canonicalize(dir.path()).expect("because it is there").to_string_lossy().into_owned();
    captured.ask(&[&["lineage", &path], more].concat()).replace(&folder, "$DIR")
}

/// 6: two writers and a reader of one log.
#[test]
fn two_writers_and_a_reader() {
    let Some((_dir, captured)) = run("cat a > log; cat b >> log; cat log > seen; cat a >> log") else { return };
    let run = captured.told();
    let log: Vec<_> = run.told.entities.iter().filter(|e| e.last_path().ends_with("/log")).collect();
    let origins: Vec<_> = log.iter().map(|e| (e.version, e.origin)).collect();
    assert_eq!(origins, [(0, Origin::Created), (1, Origin::Revised), (2, Origin::Revised)]);
    let read: Vec<u32> = run
        .told
        .used
        .iter()
        .filter(|u| u.path.ends_with("/log"))
        .filter(|u| u.bytes.0 > 0)
        .map(|u| run.told.entity(u.entity).version)
        .collect();
    assert_eq!(read, [1]);
}

/// 6: an append keeps earlier contributors.
#[test]
fn an_append_keeps_contributors() {
    let Some((dir, captured)) = run("cat a > x; cat b >> x") else { return };
    let expected = "$DIR/x\n├── cat  [cat a]\n│   └── $DIR/a\n└── cat  [cat b]\n    └── $DIR/b\n";
    assert_eq!(lineage(&dir, &captured, "x", &[]), expected);
}

/// 11: a shell that writes two outputs one after the other does not make the second input an ancestor of the first output.
#[test]
fn time_bounds_derivation() {
    let Some((dir, captured)) = run("read x < a; echo $x > one; read y < b; echo $y > two") else { return };
    assert_eq!(lineage(&dir, &captured, "one", &[]).lines().filter(|l| l.contains("$DIR/b")).count(), 0);
    assert_eq!(lineage(&dir, &captured, "one", &[]).lines().filter(|l| l.contains("$DIR/a")).count(), 1);
    let two = lineage(&dir, &captured, "two", &[]);
    assert!(two.contains("$DIR/a") && two.contains("$DIR/b"), "{two}");
}

/// 11: what somebody is told after he wrote an output is not in it.
#[test]
fn time_bounds_what_one_is_told() {
    // Who tells has read `a` before `one` is made, and tells of it afterwards.
    let script = "mkfifo p; sh -c 'read x < a; : > got; echo $x > p' & while [ ! -e got ]; do sleep 0.01; done
        echo x > one; read y < p; echo $y > two; wait";
    let Some((dir, captured)) = run(script) else { return };
    assert!(!lineage(&dir, &captured, "one", &[]).contains("$DIR/a"));
    assert!(lineage(&dir, &captured, "two", &[]).contains("$DIR/a"));
}

/// 15: costs are those of the image, not of its process.
#[test]
fn costs_are_an_images_own() {
    let script = ": > mark; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 0.01";
    let Some((_dir, captured)) = run(script) else { return };
    let told = &captured.told().told;
    let called = |word: &str| told.activities.iter().find(|a| &*a.arguments[0] == word);
    let cpu = |word: &str| called(word).map(|a| a.cost.cpu.0 / 1_000_000);
    let (shell, sleep) = (cpu("sh").expect("because it ran"), cpu("sleep").expect("because it ran"));
    assert!(shell > 50 && sleep < shell / 3, "{shell} ms and {sleep} ms");
    if !need(&["python"]) {
        return;
    }
    let script = "python3 -c 'import os; x = bytearray(200 << 20); os.execv(\"/bin/true\", [\"true\"])'";
    let Some((_dir, captured)) = run(script) else { return };
    let told = &captured.told().told;
    let small = told.activities.iter().find(|a| &*a.name == "true").expect("because it ran");
    assert!(!small.cost.peak_at_most && small.cost.peak_memory.0 < 50 << 20, "{:?}", small.cost);
}

/// 16: of the environment only what is admitted is recorded.
#[test]
fn the_environment_is_an_allow_list() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let environment = [("OMP_NUM_THREADS", "3"), ("SOME_SETTING", "x"), ("MY_TOKEN", "secret")];
    for captured in [
        Captured::of(&["sort", "/etc/hostname"], dir.path(), &environment),
        Captured::preloaded(&["sort", "/etc/hostname"], dir.path(), &environment),
    ] {
        let run = captured.told();
        let recorded = &run.told.activities.iter().find(|a| &*a.name == "sort").expect("because it ran").environment;
        let has = |name: &str| recorded.iter().any(|(n, _)| **n == *name);
        assert!(has("OMP_NUM_THREADS") && !has("SOME_SETTING") && !has("MY_TOKEN"), "{recorded:?}");
    }
}

/// 10: what a shell only decided by is control, not data.
#[test]
fn control_is_another_class() {
    let Some((dir, captured)) = run("x=$(cat a); seq 2 > out; :") else { return };
    assert!(!lineage(&dir, &captured, "out", &[]).contains("$DIR/a"));
    assert!(lineage(&dir, &captured, "out", &["--via", "control"]).contains("$DIR/a"));
    let dot = captured.ask(&["lineage", &dir.path().join("out").to_string_lossy(), "--via", "control", "--as", "dot"]);
    assert!(dot.starts_with("digraph") && dot.contains("style=dotted"), "{dot}");
    // By its exit status only.
    let Some((dir, captured)) = run("grep -q a a && echo yes > out; :") else { return };
    assert!(!lineage(&dir, &captured, "out", &[]).contains("$DIR/a"));
    assert!(lineage(&dir, &captured, "out", &["--via", "control"]).contains("$DIR/a"));
    let down = lineage(&dir, &captured, "a", &["--down", "--via", "control"]);
    assert!(down.contains("$DIR/out"), "{down}");
}

/// 12: a device is no data, nor is what made a file be run.
#[test]
fn devices_and_programs_are_no_data() {
    let Some((dir, captured)) = run("head -c 5 /dev/zero > out; :") else { return };
    assert_eq!(lineage(&dir, &captured, "out", &[]), "$DIR/out\n└── head  [head -c 5 /dev/zero]\n");
}

/// 12: what a workflow makes is never hidden, also where it is a program then.
#[test]
fn a_generated_program_is_shown() {
    let script = "printf '#!/bin/sh\\nsort a > out\\n' > gen; chmod +x gen; ./gen; :";
    let Some((dir, captured)) = run(script) else { return };
    let told = lineage(&dir, &captured, "out", &["--via", "control"]);
    assert!(told.contains("$DIR/gen (program)\n"), "{told}");
}

/// 4: the loader that the kernel maps for a dynamic program is used, though no call names it.
#[test]
fn the_loader_is_used() {
    let Some((_dir, captured)) = run("cat a > out; :") else { return };
    let told = &captured.told().told;
    let used = told.used.iter().filter(|u| &*told.activity(u.activity).name == "cat" && &*u.path == loader());
    assert_eq!(used.map(|u| u.role).collect::<Vec<_>>(), [Role::Library]);
}

/// 8: pipes join; FIFOs too.
#[test]
fn pipes_and_fifos_join() {
    let Some((dir, captured)) = run("mkfifo p; cat a > p & cat p > out; wait") else { return };
    assert_eq!(captured.told().told.informed.iter().filter(|i| i.via == Via::Fifo).count(), 1);
    assert!(lineage(&dir, &captured, "out", &[]).contains("$DIR/a"));
}

/// 8: make's jobserver joins nothing.
#[test]
fn the_jobserver_joins_nothing() {
    let make = "printf 'all: x y\\nx:\\n\\t@$(MAKE) -f sub o=x\\ny:\\n\\t@$(MAKE) -f sub o=y\\n' > Makefile; printf 'all:\\n\\t@cat a > $(o)\\n' > sub; make -s -j2";
    let Some((_dir, captured)) = run(make) else { return };
    let told = &captured.told().told;
    assert!(told.activities.iter().filter(|a| &*a.name == "make").count() >= 3, "make ran make");
    assert!(told.informed.iter().all(|i| i.via == Via::Fork), "{:?}", told.informed);
}

/// 9: a fork-only worker has its parent's inputs.
#[test]
fn a_worker_has_its_parents_inputs() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let script = "python3 -c \"import os\nd=open('a').read()\nif os.fork()==0:\n    open('out','w').write(d)\n    os._exit(0)\nos.wait()\"";
    let Some((dir, captured)) = run(script) else { return };
    assert!(lineage(&dir, &captured, "out", &[]).contains("$DIR/a"));
}

/// 5 and 7: a file without a name gets one; the tools' own ways to copy inside the kernel are uses and generations.
#[test]
fn copies_inside_the_kernel() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let script = "python3 -c \"import os
a=os.open('a',os.O_RDONLY)
def new(n): return os.open(n,os.O_WRONLY|os.O_CREAT,0o600)
os.sendfile(new('sent'),a,0,2)
os.copy_file_range(a,new('ranged'),2,0)
r,w=os.pipe(); os.splice(a,w,2,0); os.splice(r,new('spliced'),2)
t=os.open('.',os.O_TMPFILE|os.O_RDWR,0o600); os.write(t,b'x'); os.link('/proc/self/fd/%d'%t,'named',src_dir_fd=os.open('.',0),follow_symlinks=True)
f=new('long'); os.ftruncate(f,100); os.truncate('b',1)\"";
    let Some((_dir, captured)) = run(script) else { return };
    assert!(captured.output.status.success(), "{}", captured.stderr());
    let told = &captured.told().told;
    let made =
        |name: &str| told.generated.iter().any(|g| told.entity(g.entity).names.iter().any(|n| n.path.ends_with(name)));
    for name in ["/sent", "/ranged", "/spliced", "/named", "/long", "/b"] {
        assert!(made(name), "{name} is not among {:?}", told.generated.iter().map(|g| &g.path).collect::<Vec<_>>());
    }
    for name in ["/sent", "/ranged", "/spliced"] {
        assert!(told.generated.iter().any(|g| g.path.ends_with(name) && g.bytes.0 > 0), "{name} got no bytes");
    }
    assert!(told.used.iter().any(|u| u.path.ends_with("/a")));
}

/// 1: an open file that was closed for good passes nothing on, though the next one may lie at the same address.
#[test]
fn a_closed_creation_passes_nothing_on() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let python =
        "python3 -c \"import subprocess\nopen('out','w').close()\nsubprocess.run(['cat','a'],stdout=open('out','a'))\"";
    for script in [python, ": > out; cat a >> out"] {
        let Some((_dir, captured)) = run(script) else { return };
        let run = captured.told();
        let out = |e| run.told.entity(e).last_path().ends_with("/out");
        let made: Vec<_> = run.told.generated.iter().filter(|g| out(g.entity)).collect();
        let cat = |i: usize| &*run.told.activity(made[i].activity).name == "cat";
        assert_eq!(made.len(), 2, "{script}: {made:?}");
        assert!(!cat(0) && cat(1), "{script}: {made:?}");
    }
}

/// 7 and 12: a name given is a name to ask by, also where nobody opened the file under it; what is unlinked was temporary.
#[test]
fn names_given_and_taken() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let python = |call: &str| {
        format!("cat a > t; cat b > gone; python3 -c \"import os\nos.{call}('t','out')\nos.unlink('gone')\"")
    };
    for script in ["cat a > t; cat b > gone; mv t out; rm gone".to_string(), python("rename"), python("link")] {
        let Some((dir, captured)) = run(&script) else { return };
        assert_eq!(lineage(&dir, &captured, "out", &[]), "$DIR/out\n└── cat  [cat a]\n    └── $DIR/a\n", "{script}");
        let run = captured.told();
        assert_eq!(run.told.moved.len(), 1, "{script}");
        let gone = run.told.generated.iter().find(|g| g.path.ends_with("/gone")).expect("because cat made it");
        assert_eq!(gone.role, flowcept_provenance::role::Role::Temporary, "{script}");
    }
}
