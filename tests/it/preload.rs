//! The library tells the same as the kernel's probes, but for what SEMANTICS.md lists.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use flowcept_provenance::activity::Activity;
use harness::host::need;
use harness::oracle;
use harness::run::{Captured, seen};

use crate::workloads::{self, Least};

/// Files that the C library opens by itself, where nobody can be put in between.
fn opened_by_libc(path: &str) -> bool {
    path == "/etc/ld.so.cache"
        || path.starts_with("/usr/lib/locale/")
        || path.ends_with("/gconv-modules.cache")
        || ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime"].contains(&path)
        || path.starts_with("/usr/share/zoneinfo/")
        || path.starts_with("/usr/share/locale/")
        || ["/etc/hosts", "/etc/host.conf", "/etc/resolv.conf"].contains(&path)
        || path.starts_with("/dev/shm/sem.")
}

/// Runs a command under the kernel's probes and with the library, and compares. At least so many images, uses, generations.
fn compare(prepare: &dyn Fn(&Path), command: &[&str], least: Least) {
    if !need(&["bpf"]) {
        return;
    }
    let environment = [("LC_ALL", "C"), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONHASHSEED", "0")];
    let base = tempfile::tempdir().expect("because tests may write temporary files");
    let dir = base.path().join("w");
    let again = || {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("because its parent is there");
        prepare(&dir);
    };
    again();
    let kernel = Captured::of(command, &dir, &environment);
    again();
    let library = Captured::preloaded(command, &dir, &environment);
    assert_eq!(kernel.output.status, library.output.status, "{}", library.stderr());
    assert_eq!(kernel.output.stdout, library.output.stdout);
    let (theirs, ours) = (kernel.told(), library.told());
    let folder = base.path().to_string_lossy().into_owned();
    let rename = |word: &str| oracle::normal(&word.replace(&folder, "$DIR"));
    let text = |run: &harness::run::Run| {
        let mut seen = seen(run);
        for (i, image) in seen.images.iter_mut().enumerate() {
            // What somebody reads back of what he wrote himself, stdio reads when it repositions a stream.
            let used = |p: &String| run.told.used.iter().any(|u| u.activity.0 as usize == i && *u.path == **p);
            image.used.retain(|p| !opened_by_libc(p) && !p.ends_with("/libflowcept.so") && used(p));
            image.generated.retain(|p| !opened_by_libc(p));
        }
        (oracle::counts(&seen), oracle::text(&seen, &rename))
    };
    let ((counts, theirs_text), (_, ours_text)) = (text(&theirs), text(&ours));
    if theirs_text != ours_text {
        let diff = crate::oracle::difference(&theirs_text, &ours_text);
        panic!("the kernel (-) and the library (+) differ:\n{diff}\ngaps: {:?}\n{theirs_text}", ours.told.gaps);
    }
    assert!(counts.0 >= least.0 && counts.1 >= least.1 && counts.2 >= least.2, "only {counts:?}, of {least:?}");
    // The same lineage, too: who was informed by whom.
    let informed = |run: &harness::run::Run| {
        let name = |a| run.told.activity(a).command_line();
        let mut list: Vec<_> = run
            .told
            .informed
            .iter()
            .map(|i| rename(&format!("{} {} {}", name(i.informed), i.via.name(), name(i.informant))))
            .collect();
        list.sort();
        list.dedup();
        list.join("\n")
    };
    let diff = crate::oracle::difference(&informed(&theirs), &informed(&ours));
    assert!(diff.is_empty(), "the kernel (-) and the library (+) differ in who was informed:\n{diff}");
    again();
    ids_are_equal(command, &dir, &environment);
}

/// Kernel and library watch one run, each into a store of its own: they name each task alike.
fn ids_are_equal(command: &[&str], dir: &Path, environment: &[(&str, &str)]) {
    let inside = tempfile::tempdir().expect("because tests may write temporary files");
    let library = format!("LD_PRELOAD={}", harness::host::library().display());
    let spool = format!("FLOWCEPT_STORE={}", inside.path().display());
    let with_library = [&["env", &library, &spool], command].concat();
    let kernel = Captured::of(&with_library, dir, environment);
    let inside = Captured { store: inside, output: kernel.output.clone() };
    let (theirs, ours) = (kernel.told(), inside.told());
    let id = |a: &Activity| a.process.task_id();
    let named: HashSet<_> = ours.told.activities.iter().map(id).collect();
    let told_for_its_segment = |a: &(usize, &Activity)| {
        let made: Vec<_> = theirs.told.generated.iter().filter(|g| g.activity.0 as usize == a.0).collect();
        !made.is_empty() && made.iter().all(|g| g.path.ends_with(".seg"))
    };
    // The kernel sees the library write: who does nothing else is a task for that alone.
    let theirs = theirs.told.activities.iter().enumerate();
    let theirs = theirs.filter(|a| named.contains(&id(a.1)) || !told_for_its_segment(a)).map(|(_, a)| a);
    let list = |of: &mut dyn Iterator<Item = &Activity>| {
        let mut list: Vec<_> = of.map(|a| format!("{} {:?}", a.command_line(), a.process)).collect();
        list.sort();
        list.join("\n")
    };
    let diff = crate::oracle::difference(&list(&mut theirs.into_iter()), &list(&mut ours.told.activities.iter()));
    assert!(diff.is_empty(), "the kernel (-) and the library (+) name tasks differently:\n{diff}");
}

#[test]
fn pipelines_with_tee_and_process_substitution() {
    workloads::pipelines_with_tee_and_process_substitution(&compare);
}

#[test]
fn subshells_with_here_documents_and_redirections() {
    workloads::subshells_with_here_documents_and_redirections(&compare);
}

#[test]
fn xargs_in_parallel() {
    workloads::xargs_in_parallel(&compare);
}

#[test]
fn make_of_lua_in_parallel() {
    workloads::make_of_lua_in_parallel(&compare);
}

#[test]
fn python_pool_by_fork() {
    workloads::python_pool_by_fork(&compare);
}

#[test]
fn python_pool_by_spawn() {
    workloads::python_pool_by_spawn(&compare);
}

#[test]
fn tar_with_zstd() {
    workloads::tar_with_zstd(&compare);
}

#[test]
fn in_place() {
    workloads::in_place(&compare);
}

#[test]
fn git() {
    workloads::git(&compare);
}

#[test]
fn copies() {
    workloads::copies(&compare);
}

#[test]
fn the_example() {
    workloads::the_example(&compare);
}

#[test]
fn a_child_of_vfork() {
    workloads::a_child_of_vfork(&compare);
}
