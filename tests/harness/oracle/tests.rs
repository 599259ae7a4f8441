//! The reduction on hand-written traces. `/w` must not exist where they run.

use super::*;

/// `r` and `w` lists of the image whose arguments, joined, are `argv`.
fn of<'a>(seen: &'a Seen, argv: &str) -> (&'a Image, Vec<&'a str>, Vec<&'a str>) {
    let is_it = |image: &&Image| image.argv.join(" ") == argv;
    let mut found = seen.images.iter().filter(is_it);
    let image = found.next().expect("because the test names an image of its trace");
    assert!(found.next().is_none(), "{argv} is not unique in {seen:?}");
    let list = |set: &'a BTreeSet<String>| set.iter().map(String::as_str).collect();
    (image, list(&image.used), list(&image.generated))
}

#[test]
fn dash_creates_before_vfork_and_the_writer_gets_the_file() {
    let seen = parse(
        r#"10 execve("/w/sh", ["sh", "-c", "x"], 0x7ff /* 3 vars */) = 0
10 openat(AT_FDCWD</w>, "out", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</w/out>
10 dup2(3</w/out>, 1</w/log>) = 1</w/out>
10 close(3</w/out>) = 0
10 vfork( <unfinished ...>
11 execve("/w/cat", ["cat", "a"], 0x7ff /* 3 vars */ <unfinished ...>
10 <... vfork resumed>) = 11
11 <... execve resumed>) = 0
11 openat(AT_FDCWD</w>, "a", O_RDONLY) = 3</w/a>
11 openat(AT_FDCWD</w>, "b", O_RDONLY) = 4</w/b>
11 read(3</w/a>, "x) = 1, \"", 4096) = 9
11 write(1</w/out>, "x) = 1, \"", 9 <unfinished ...>
10 wait4(-1,  <unfinished ...>
11 <... write resumed>) = 9
11 +++ exited with 0 +++
10 openat(AT_FDCWD</w>, "e", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</w/e>
10 +++ killed by SIGSEGV (core dumped) +++"#,
    );
    let (cat, used, generated) = of(&seen, "cat a");
    assert_eq!((used, generated), (vec!["/w/a", "/w/cat"], vec!["/w/out"]));
    assert_eq!((cat.parent, cat.fork_only, cat.exit), (Some(0), false, Some(0)));
    let (shell, used, generated) = of(&seen, "sh -c x");
    assert_eq!((used, generated, shell.exit), (vec!["/w/sh"], vec!["/w/e"], Some(139)));
    assert_eq!(counts(&seen), (2, 3, 2));
    assert_eq!(
        text(&seen, &normal),
        "sh -c x\n  r /w/sh\n  w /w/e\n    cat a\n      r /w/a\n      r /w/cat\n      w /w/out\n"
    );
}

#[test]
fn bash_opens_in_the_fork_and_nobody_writes() {
    let seen = parse(
        r#"10 execve("/w/bash", ["bash"], 0x7ff /* 3 vars */) = 0
10 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 11
11 openat(AT_FDCWD</w>, "out", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</w/out>
11 dup2(3</w/out>, 1<pipe:[7]>) = 1</w/out>
11 execve("/w/true", ["true"], 0x7ff /* 3 vars */) = 0
11 +++ exited with 1 +++
10 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 12
12 openat(AT_FDCWD</w>, "sub", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</w/sub>
12 +++ exited with 0 +++
10 +++ exited with 0 +++"#,
    );
    assert_eq!(of(&seen, "true").2, ["/w/out"]);
    assert_eq!(seen.images.len(), 3);
    let subshell = &seen.images[2];
    assert!(subshell.fork_only && subshell.argv == ["bash"] && subshell.generated.contains("/w/sub"));
}

#[test]
fn a_fork_that_moved_bytes_stays_but_passes_on_what_it_did_not_write() {
    let seen = parse(
        r#"10 execve("/w/bash", ["bash"], 0x7ff /* 3 vars */) = 0
10 pipe2([3<pipe:[7]>, 4<pipe:[7]>], 0) = 0
10 fork() = 11
11 write(4<pipe:[7]>, "x", 1) = 1
11 openat(AT_FDCWD</w>, "f", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 5</w/f>
11 write(5</w/f>, "x", 1) = 1
11 openat(AT_FDCWD</w>, "out", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 5</w/out>
11 execve("/w/true", ["true"], 0x7ff /* 3 vars */) = 0
10 read(3<pipe:[7]>, "x", 10) = 1"#,
    );
    assert_eq!(of(&seen, "true").2, ["/w/out"]);
    assert_eq!(of(&seen, "true").0.before, Some(1));
    assert!(seen.images[1].fork_only && seen.images[1].generated.iter().eq(["/w/f"]));
}

#[test]
fn here_documents_are_no_moved_bytes() {
    let trace = |reader: &str| {
        format!(
            r#"10 execve("/w/bash", ["bash"], 0x7ff /* 3 vars */) = 0
10 fork() = 11
11 pipe2([3<pipe:[7]>, 4<pipe:[7]>], 0) = 0
11 write(4<pipe:[7]>, "hello\n", 6) = 6
11 dup2(3<pipe:[7]>, 0</dev/null>) = 0<pipe:[7]>
11 execve("/w/cat", ["cat"], 0x7ff /* 3 vars */) = 0
{reader} read(0<pipe:[7]>, "hello\n", 100) = 6"#
        )
    };
    assert_eq!(parse(&trace("11")).images.len(), 2);
    assert_eq!(parse(&trace("10")).images.len(), 3);
}

#[test]
fn threads_belong_to_their_process_and_may_exec() {
    let seen = parse(
        r#"10 execve("/w/app", ["app"], 0x7ff /* 3 vars */) = 0
10 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, exit_signal=0} <unfinished ...>
11 openat(AT_FDCWD</w>, "a", O_RDONLY <unfinished ...>
10 <... clone3 resumed> => {parent_tid=[11]}, 88) = 11
11 <... openat resumed>) = 3</w/a>
11 read(3</w/a>, "", 10) = 0
11 vfork() = 12
12 execve("/w/nosuch", ["x"], 0x7ff /* 3 vars */) = -1 ENOENT (No such file or directory)
12 +++ exited with 127 +++
11 execve("/w/b", ["b\303\251", "a\"\tb"], 0x7ff /* 3 vars */ <pid changed to 10 ...>
10 +++ superseded by execve in pid 11 +++
10 <... execve resumed>) = 0
10 +++ killed by SIGKILL +++"#,
    );
    let told: Vec<_> = seen.images.iter().map(|image| (image.pid, image.fork_only, image.exit)).collect();
    assert_eq!(told, [(10, false, None), (12, true, Some(127)), (10, false, Some(137))]);
    assert!(seen.images[0].used.iter().eq(["/w/a", "/w/app"]));
    assert_eq!((&seen.images[2].argv[..], seen.images[2].before), (&["bé".into(), "a\"\tb".into()][..], Some(0)));
}

#[test]
fn launchers_fold_into_what_they_exec() {
    let seen = parse(
        r#"10 execve("/w/env", ["env", "cat"], 0x7ff /* 3 vars */) = 0
10 mmap(NULL, 5, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3</opt/x.so>, 0) = 0x7f5c
10 openat(AT_FDCWD</w>, "/etc/x", O_RDONLY) = 3</etc/x>
10 read(3</etc/x>, "x", 10) = 1
10 execve("/w/cat", ["cat"], 0x7ff /* 3 vars */) = 0
10 read(0</w/a>, "x", 10) = 1
10 execve("/w/last", ["last"], 0x7ff /* 3 vars */) = 0"#,
    );
    assert_eq!(of(&seen, "cat").1, ["/etc/x", "/opt/x.so", "/w/a", "/w/cat", "/w/env"]);
    assert_eq!((seen.images.len(), seen.images[1].before, seen.images[1].parent), (2, Some(0), None));
}

#[test]
fn what_counts_as_created() {
    let trace = r#"10 execve("/w/app", ["app"], 0x7ff /* 3 vars */) = 0
10 openat(AT_FDCWD</w>, "old", O_WRONLY|O_CREAT|O_APPEND, 0666) = 3</w/old>
10 openat(AT_FDCWD</w>, "new", O_WRONLY|O_CREAT|O_APPEND, 0666) = 3</w/new>
10 newfstatat(AT_FDCWD</w>, "seen", {st_mode=S_IFREG|0644, ...}, 0) = 0
10 openat(AT_FDCWD</w>, "seen", O_WRONLY|O_CREAT|O_APPEND, 0666) = 3</w/seen>
10 unlink("seen") = 0
10 openat(AT_FDCWD</w>, "seen", O_WRONLY|O_CREAT|O_APPEND, 0666) = 3</w/seen>
10 openat(AT_FDCWD</w>, ".", O_RDWR|O_TMPFILE, 0600) = 4</w/#123>(deleted)
10 write(4</w/#123>(deleted), "x", 1) = 1
10 rename("new", "/w/newer") = 0
10 openat(AT_FDCWD</w>, "newer", O_RDONLY) = 5</w/newer>
10 read(5</w/newer>, "", 10) = 0
10 mmap(NULL, 5, PROT_READ|PROT_WRITE, MAP_SHARED, 7</w/s\74\303\251>, 0) = 0x7f5c
10 copy_file_range(8</w/from>, NULL, 9</w/to>, NULL, 9223372035781033984, 0) = 3
10 ioctl(4</w/clone>, BTRFS_IOC_CLONE or FICLONE, 3</w/src>) = 0
10 write(1</dev/null>, "x", 1) = 1"#;
    let seen = parse_with(trace, &BTreeSet::from(["/w/old".to_owned()]));
    let (image, used, generated) = of(&seen, "app");
    assert_eq!(used, ["/w/app", "/w/from", "/w/new", "/w/s<é", "/w/src"]);
    assert_eq!(generated, ["/w/#tmp", "/w/clone", "/w/new", "/w/seen", "/w/to"]);
    assert!(image.mapped_shared.iter().eq(["/w/s<é"]));
    assert!(image.moved.contains(&("/w/new".to_owned(), "/w/newer".to_owned())));
}

#[test]
fn a_reused_pid_is_another_process() {
    let seen = parse(
        r#"10 execve("/w/app", ["app"], 0x7ff /* 3 vars */) = 0
10 fork() = 12
10 fork() = 11
12 fork( <unfinished ...>
11 +++ exited with 7 +++
11 execve("/w/b", ["b"], 0x7ff /* 3 vars */) = 0
12 <... fork resumed>) = 11
11 +++ exited with 8 +++"#,
    );
    let exits: Vec<_> = seen.images.iter().map(|image| (image.pid, image.parent, image.exit)).collect();
    assert_eq!(exits, [(10, None, None), (12, Some(0), None), (11, Some(0), Some(7)), (11, Some(1), Some(8))]);
}

#[test]
fn a_fork_that_never_came_back_has_a_parent_all_the_same() {
    let seen = parse(
        r#"10 execve("/w/app", ["app"], 0x7ff /* 3 vars */) = 0
10 clone(child_stack=NULL, flags=SIGCHLD) = ? ERESTARTNOINTR (To be restarted)
10 vfork( <unfinished ...>
11 execve("/w/b", ["b"], 0x7ff /* 3 vars */ <unfinished ...>
10 <... vfork resumed> <unfinished ...>) = ?
10 +++ killed by SIGKILL +++
11 <... execve resumed>) = 0
11 chdir("/w/d") = 0
11 rename("x", "../y") = 0"#,
    );
    assert_eq!((of(&seen, "b").0.parent, seen.images.len()), (Some(0), 2));
    assert!(of(&seen, "b").0.moved.contains(&("/w/d/x".to_owned(), "/w/y".to_owned())));
}

#[test]
fn random_names_become_stars() {
    for (word, expected) in [
        ("-x=/tmp/ccAbC123.res", "-x=/tmp/cc*.res"),
        ("/tmp/tmpab_12cd9/out", "/tmp/tmp*/out"),
        ("/w/sedAb12Cd", "/w/sed*"),
        ("/g/.git/objects/aa/tmp_obj_Ab12Cd", "/g/.git/objects/aa/tmp_obj_*"),
        ("/w/.name.c.Ab12Cd", "/w/.name.c.*"),
        ("/w/stAb12Cd", "/w/st*"),
        ("/w/stAb12Cd.h", "/w/stAb12Cd.h"),
        ("/tmp/pymp-ab12_d8x/l", "/tmp/pymp-*/l"),
        ("/dev/shm/pym-1234-ab12_d8x", "/dev/shm/pym-*-*"),
        ("/tmp/job-1234.log", "/tmp/job-*.log"),
        ("cat /w/name-1234 é", "cat /w/name-1234 é"),
    ] {
        assert_eq!(normal(word), expected);
    }
}
