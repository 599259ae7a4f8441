//! The programs that the oracle and the parity tests run: real ones, each with the least counts that must be compared.

use std::fs;
use std::path::Path;

use harness::host::{need, root};
use harness::lua;

/// Compares what a command does, after its folder was prepared, in two ways; at least so many images, uses, generations.
pub(crate) type Compare<'a> = &'a dyn Fn(&dyn Fn(&Path), &[&str], Least);
/// Images, uses, generations.
pub(crate) type Least = (usize, usize, usize);

/// A test for each workload, which compares it so.
macro_rules! each {
    ($compare:ident) => {
        $crate::workloads::tests! {
            $compare
            pipelines_with_tee_and_process_substitution
            subshells_with_here_documents_and_redirections
            xargs_in_parallel
            make_of_lua_in_parallel
            python_pool_by_fork
            python_pool_by_spawn
            tar_with_zstd
            in_place
            git
            copies
            the_example
            a_child_of_vfork
        }
    };
}
pub(crate) use each;

macro_rules! tests {
    ($compare:ident $($workload:ident)+) => {$(
        #[test]
        fn $workload() {
            $crate::workloads::$workload(&$compare);
        }
    )+};
}
pub(crate) use tests;

/// Three small texts.
fn texts(dir: &Path) {
    for (name, words) in [("a", "one two\n"), ("b", "two three\n"), ("c", "three one\n")] {
        fs::write(dir.join(name), words.repeat(500)).expect("because the folder is ours");
    }
}

pub(crate) fn pipelines_with_tee_and_process_substitution(compare: Compare<'_>) {
    let script = "cat a b | tee copy | sort > sorted; comm <(sort a) <(sort c) > common; cat < a > >(tr a-z A-Z > upper); wait; sleep 0.2";
    compare(&texts, &["bash", "-c", script], (11, 36, 4));
}

pub(crate) fn subshells_with_here_documents_and_redirections(compare: Compare<'_>) {
    let script = "(cat <<X > here\nsome words\nX\n); { read line; echo \"$line\"; } < a > first; (cat; cat < b) < a > both; : > empty; sort <<< 'z' >> both; (: > inner)";
    compare(&texts, &["bash", "-c", script], (7, 19, 7));
    compare(
        &texts,
        &[
            "sh",
            "-c",
            "cat <<X > here\nwords\nX\n{ cat a; cat b; } > both; (cat a; wc -l b) > sub; sort a > s && mv s t",
        ],
        (7, 20, 4),
    );
}

pub(crate) fn xargs_in_parallel(compare: Compare<'_>) {
    let many = |dir: &Path| {
        for i in 0..20 {
            fs::write(dir.join(format!("f{i}")), format!("{i}\n").repeat(9)).expect("because the folder is ours");
        }
    };
    compare(&many, &["sh", "-c", "ls f* | xargs -P 4 -n 1 sh -c 'wc -l < $0 > $0.n'"], (21, 100, 20));
}

pub(crate) fn make_of_lua_in_parallel(compare: Compare<'_>) {
    let project = |dir: &Path| lua::project(dir).expect("because cargo fetched the sources to build this test");
    if need(&["make", "gcc"]) {
        compare(&project, &["make", "-j2"], (105, 2500, 107));
    }
}

/// A pool of two workers and as many items: the second worker comes only when the first has its item, and the first is
/// done only when the second has the other, so that each worker has the same item in every run.
fn python_pool(compare: Compare<'_>, method: &str, least: (usize, usize, usize)) {
    let prepare = |dir: &Path| {
        texts(dir);
        let pool = root().join("tests/programs/pool.py");
        fs::copy(pool, dir.join("pool.py")).expect("because the folder is ours");
    };
    if need(&["python"]) {
        compare(&prepare, &["python3", "pool.py", method], least);
    }
}

pub(crate) fn python_pool_by_fork(compare: Compare<'_>) {
    python_pool(compare, "fork", (3, 80, 3));
}

pub(crate) fn python_pool_by_spawn(compare: Compare<'_>) {
    python_pool(compare, "spawn", (4, 250, 3));
}

pub(crate) fn tar_with_zstd(compare: Compare<'_>) {
    if need(&["zstd"]) {
        compare(
            &texts,
            &["sh", "-c", "tar --zstd -cf x.tar.zst a b c && mkdir out && tar --zstd -xf x.tar.zst -C out"],
            (4, 20, 4),
        );
    }
}

pub(crate) fn in_place(compare: Compare<'_>) {
    compare(&texts, &["sh", "-c", "sort -o a a && sed -i s/two/2/ b && sort a b > all"], (3, 12, 3));
}

pub(crate) fn git(compare: Compare<'_>) {
    // Old times: git reads a file again that is as young as its index, or whose ctime a rename has changed.
    let script = "touch -d 2020-01-01 a b; git init -q . && git add a b && git -c user.name=x -c user.email=x@x commit -q -m one && git mv a d && git -c user.name=x -c user.email=x@x commit -q -m two && git checkout -q HEAD~1";
    if need(&["git"]) {
        compare(
            &texts,
            &[
                "sh",
                "-c",
                &format!(
                    "export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1 HOME=$PWD GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.trustctime GIT_CONFIG_VALUE_0=false; {script}"
                ),
            ],
            (7, 30, 20),
        );
    }
}

pub(crate) fn copies(compare: Compare<'_>) {
    if need(&["rsync"]) {
        compare(
            &texts,
            &[
                "sh",
                "-c",
                "cp a b c /dev/null 2>/dev/null; mkdir d && cp a b d/ && cp -r d e && rsync -a d/ f/ && mv e g",
            ],
            (7, 20, 6),
        );
    }
}

pub(crate) fn the_example(compare: Compare<'_>) {
    let script = root().join("tests/programs/wordcount.sh").to_string_lossy().into_owned();
    if need(&["python"]) {
        compare(&|_| {}, &["sh", &script, "work"], (14, 60, 6));
    }
}

/// Python starts children by vfork(2), which have their parent's memory and descriptors of their own.
pub(crate) fn a_child_of_vfork(compare: Compare<'_>) {
    let program = "import subprocess\nwith open('o', 'w') as o:\n    subprocess.run(['sort', 'a'], stdout=o, close_fds=False)\nprint('hi')\n";
    let prepare = move |dir: &Path| {
        texts(dir);
        fs::write(dir.join("vfork.py"), program).expect("because the folder is ours");
    };
    if need(&["python"]) {
        compare(&prepare, &["sh", "-c", "python3 vfork.py > out"], (3, 30, 2));
    }
}
