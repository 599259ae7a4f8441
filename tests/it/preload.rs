//! The library tells the same as the kernel's probes, but for what SEMANTICS.md lists.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flowcept_provenance::activity::Activity;
use flowcept_provenance::observation::Observation;
use flowcept_provenance::relation::Manner;
use harness::host::need;
use harness::oracle;
use harness::run::{Captured, Run, seen};

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
    let (kernel, library) = both_watch(command, &dir, &environment);
    ids_are_equal(&kernel.told(), &library.told());
}

/// Kernel and library watch one run, each into a store of its own.
fn both_watch(command: &[&str], dir: &Path, environment: &[(&str, &str)]) -> (Captured, Captured) {
    let inside = tempfile::tempdir().expect("because tests may write temporary files");
    let library = format!("LD_PRELOAD={}", harness::host::library().display());
    let spool = format!("FLOWCEPT_STORE={}", inside.path().display());
    let with_library = [&["env", &library, &spool], command].concat();
    let kernel = Captured::of(&with_library, dir, environment);
    let inside = Captured { store: inside, output: kernel.output.clone() };
    (kernel, inside)
}

/// They name each task alike.
fn ids_are_equal(theirs: &Run, ours: &Run) {
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

workloads::each! { compare }

/// What came through a pipe came from all that its writer had read before, however fast all of that went.
#[test]
fn a_pipe_brings_all_that_its_writer_had_read() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("because tests may write temporary files");
        let inputs = ["a", "b", "c", "d"];
        for name in inputs {
            fs::write(dir.path().join(name), "words\n").expect("because the folder is ours");
        }
        let captured = Captured::preloaded(&["sh", "-c", "cat a b c d | tr a-z A-Z | cat > out"], dir.path(), &[]);
        let told = captured.ask(&["lineage", &dir.path().join("out").to_string_lossy()]);
        for name in inputs {
            assert!(told.lines().any(|line| line.ends_with(&format!("/{name}"))), "{name}: {told}");
        }
    }
}

/// A file has one key, whoever sees it used: on a filesystem whose inodes have generations and on a tmpfs. What is executed is
/// the program also where it was started by a relative name, or is that of a script.
#[test]
fn a_file_has_one_key() {
    if !need(&["bpf"]) {
        return;
    }
    for place in ["/var/tmp", "/dev/shm"] {
        let dir = tempfile::tempdir_in(place).expect("because tests may write temporary files");
        fs::write(dir.path().join("a"), "words\n").expect("because the folder is ours");
        fs::copy("/bin/cat", dir.path().join("own-cat")).expect("because the folder is ours");
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\nread word < a\n").expect("because the folder is ours");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("because it is ours");
        let command = ["sh", "-c", "./own-cat a > b; ./script; rm b"];
        let keys = |captured: Captured| {
            let run = captured.told();
            let used = run.told.used.iter().filter(|u| u.manner == Manner::Executed || u.path.ends_with("/a"));
            let mut keys: Vec<_> = used.map(|u| (u.path.to_string(), run.told.entity(u.entity).file)).collect();
            keys.sort();
            keys
        };
        let kernel = keys(Captured::of(&command, dir.path(), &[]));
        // a by two, own-cat, rm, and sh for the command and the script.
        assert_eq!(kernel.len(), 6, "{kernel:?}");
        assert_eq!(keys(Captured::preloaded(&command, dir.path(), &[])), kernel);
    }
}

/// Who is started is told where he is: he is named as the kernel names him, also where he is elsewhere, and asks /proc only
/// where he may have been started in another clock tick than that in which he says so.
#[test]
fn who_is_started_is_named_as_the_kernel_names_him() {
    if !need(&["bpf"]) {
        return;
    }
    let scripts = [
        ("sh", "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done"),
        ("bash", "for i in {1..200}; do /bin/true; (exec /bin/true); done"),
        (
            "python3",
            "import subprocess as s, os\nfor i in range(100): s.call('/bin/true'); os.waitpid(os.posix_spawn('/bin/true', ['true'], os.environ), 0)",
        ),
        ("sh", "for i in 1 2 3 4 5 6 7 8 9; do env env env env env env true; done"),
        (
            "sh",
            "unshare -m sh -c 'cat a; (cat a)'; unshare -pf sh -c 'cat a; (cat a); env cat a'; nice sh -c 'cat a; exec cat a'",
        ),
    ];
    for (program, script) in scripts {
        let dir = tempfile::tempdir().expect("because tests may write temporary files");
        fs::write(dir.path().join("a"), "words\n").expect("because the folder is ours");
        let (kernel, library) = both_watch(&[program, "-c", script], dir.path(), &[]);
        ids_are_equal(&kernel.told(), &library.told());
        let places = |captured: &Captured| {
            let mut places: Vec<_> = captured.observations().iter().filter_map(place).collect();
            places.sort_unstable();
            places
        };
        let library_places = places(&library);
        let mut kernel_places = places(&kernel);
        kernel_places.retain(|(_, process, _)| library_places.iter().any(|(_, known, _)| known == process));
        assert_eq!(kernel_places, library_places, "{script}");
        let asks = |o: &Observation| matches!(o, Observation::Touched(t) if t.path.as_deref().is_some_and(|p| p.starts_with("/proc/") && p.ends_with("/stat")));
        let asked = kernel.observations().iter().filter(|o| asks(o)).count();
        // How many need not depends on how fast this machine is just now.
        assert!(asked < library_places.len() || library_places.len() < 200, "{asked} ask: {script}");
    }
}

/// An image's program, process and mount namespace.
fn place(observation: &Observation) -> Option<(String, String, u32)> {
    let Observation::Execed(o) = observation else { return None };
    Some((o.executable_path.to_string(), format!("{:?}", o.process), o.credentials.mount_namespace))
}

/// A path is told as it really is, also through links, and where its folder is gone when the spool is taken in.
#[test]
fn a_path_is_told_without_links() {
    let script = "mkdir -p real/kept real/gone
        ln -s real link && ln -s ../../real/kept real/kept/again && ln -s . real/here
        for i in 1 2 3 4 5 6; do echo $i > link/kept/$i; echo $i > link/gone/$i; done
        ln -s 6 link/kept/six
        cat link/kept/? link/kept/six link//here/./kept/again/3 real/../link/gone/4
        rm -r real/gone";
    compare(&|_| (), &["sh", "-c", script], (4, 10, 12));
}

/// Nobody can say any more where it led.
#[test]
fn a_link_that_is_gone_is_told_by_its_own_name() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    let used = |captured: Captured| {
        let used = &captured.told().told.used;
        let name = |path: &str| Some(path.strip_prefix(dir.path().to_str()?)?.to_string());
        used.iter().filter_map(|u| name(&u.path)).collect::<Vec<_>>()
    };
    let command = ["sh", "-c", "echo words > file; ln -s file link; cat link; rm link"];
    assert_eq!(used(Captured::of(&command, dir.path(), &[])), ["/file"]);
    assert_eq!(used(Captured::preloaded(&command, dir.path(), &[])), ["/link"]);
}
