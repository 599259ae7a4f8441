//! Promise 7 and DESIGN's identity: no relation is ever made from equal path strings. In each of these a relation by path
//! would be wrong.

use std::fs;
use std::path::Path;

use harness::host::need;
use harness::run::Captured;

/// The lineage of `file` after `script` ran in bash in a fresh folder, with the folder's name taken out.
fn lineage(script: &str, file: &str) -> Option<String> {
    if !need(&["bpf"]) {
        return None;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), format!("{name}\n")).expect("because the folder is ours");
    }
    Some(lineage_in(dir.path(), script, file))
}

fn lineage_in(dir: &Path, script: &str, file: &str) -> String {
    let captured = Captured::of(&["sh", "-ec", script], dir, &[]);
    assert!(captured.output.status.success(), "{}", captured.stderr());
    let answer = captured.ask(&["lineage", &dir.join(file).to_string_lossy()]);
    answer.replace(&*fs::canonicalize(dir).expect("because it is there").to_string_lossy(), "$DIR")
}

fn check(script: &str, file: &str, expected: &str) {
    if let Some(found) = lineage(script, file) {
        let expected: Vec<&str> = expected.lines().map(str::trim_end).filter(|l| !l.trim().is_empty()).collect();
        let indent = expected.first().map_or(0, |l| l.len() - l.trim_start().len());
        let expected: String = expected.iter().map(|l| format!("{}\n", &l[indent..])).collect();
        assert_eq!(found, expected, "{script}");
    }
}

#[test]
fn rename_over() {
    check(
        "cat a > x; cat b > y; mv y x; cat x > out",
        "out",
        "
        $DIR/out
        └── cat  [cat x]
            └── $DIR/x
                └── cat  [cat b]
                    └── $DIR/b",
    );
}

#[test]
fn unlink_and_recreate() {
    check(
        "cat a > x; rm x; cat b > x; cat x > out",
        "out",
        "
        $DIR/out
        └── cat  [cat x]
            └── $DIR/x
                └── cat  [cat b]
                    └── $DIR/b",
    );
}

#[test]
fn hard_link() {
    check(
        "cat a > x; ln x y; cat b >> x; cat y > out",
        "out",
        "
        $DIR/out
        └── cat  [cat y]
            └── $DIR/y
                ├── cat  [cat a]
                │   └── $DIR/a
                └── cat  [cat b]
                    └── $DIR/b",
    );
}

#[test]
fn change_of_directory() {
    check(
        "mkdir p q; (cd p; cat ../a > x); (cd q; cat ../b > x); (cd p; cat x > ../out)",
        "out",
        "
        $DIR/out
        └── cat  [cat x]
            └── $DIR/p/x
                └── cat  [cat ../a]
                    └── $DIR/a",
    );
}

#[test]
fn bind_mount() {
    check(
        "mkdir p q; cat a > p/x; cat b > q/x; unshare -m sh -ec 'mount --bind p q; cat q/x > out'",
        "out",
        "
        $DIR/out
        └── cat  [cat q/x]
            └── $DIR/q/x
                └── cat  [cat a]
                    └── $DIR/a",
    );
}

#[test]
fn two_mount_namespaces() {
    check(
        "mkdir t; unshare -m sh -ec 'mount -t tmpfs none t; cat a > t/x; cat t/x > one'; unshare -m sh -ec 'mount -t tmpfs none t; cat b > t/x; cat t/x > two'",
        "two",
        "
        $DIR/two
        └── cat  [cat t/x]
            └── $DIR/t/x
                └── cat  [cat b]
                    └── $DIR/b",
    );
}

/// ext4 and tmpfs give a freed inode number to the next file at once.
#[test]
fn inode_reuse() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    fs::write(dir.path().join("a"), "a\n").expect("because the folder is ours");
    fs::write(dir.path().join("b"), "b\n").expect("because the folder is ours");
    let script = "for i in 1 2 3 4 5 6 7 8; do cat a > x; stat -c %i x >> inodes; rm x; done; cat b > y; stat -c %i y >> inodes; cat y > out";
    let found = lineage_in(dir.path(), script, "out");
    let inodes = fs::read_to_string(dir.path().join("inodes")).expect("because the script wrote it");
    let (last, before) = inodes
        .lines()
        .map(str::to_string)
        .collect::<Vec<_>>()
        .split_last()
        .map(|(l, b)| (l.clone(), b.to_vec()))
        .expect("because there are nine");
    if !before.contains(&last) {
        eprintln!("this filesystem did not reuse an inode number");
    }
    assert_eq!(found, "$DIR/out\n└── cat  [cat y]\n    └── $DIR/y\n        └── cat  [cat b]\n            └── $DIR/b\n");
}

/// The second run knows what the first one made, under its new name too.
#[test]
fn across_runs() {
    if !need(&["bpf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("because tests may write temporary files");
    fs::write(dir.path().join("a"), "a\n").expect("because the folder is ours");
    let first = Captured::of(&["sh", "-c", "cat a > x; mv x y"], dir.path(), &[]);
    let second = Captured::into(first.store, &["sh", "-c", "cat y > out"], dir.path(), &[]);
    let path = dir.path().join("out").to_string_lossy().into_owned();
    let folder = fs::canonicalize(dir.path()).expect("because it is there").to_string_lossy().into_owned();
    let expected = "$DIR/out\n└── cat  [cat y]\n    └── $DIR/y\n        └── cat  [cat a]\n            └── $DIR/a\n";
    assert_eq!(second.ask(&["lineage", &path]).replace(&folder, "$DIR"), expected);
    second.ask(&["store", "rebuild"]);
    assert_eq!(second.ask(&["lineage", &path]).replace(&folder, "$DIR"), expected, "after a rebuild");
    let down = second.ask(&["lineage", &dir.path().join("a").to_string_lossy(), "--down"]).replace(&folder, "$DIR");
    assert_eq!(down, "$DIR/a\n└── cat  [cat a]\n    └── $DIR/y\n        └── cat  [cat y]\n            └── $DIR/out\n");
    // Somebody whom nobody watches writes to it: what is read then is not what the first run made.
    let mut file = fs::File::options().append(true).open(dir.path().join("y")).expect("because it is there");
    std::io::Write::write_all(&mut file, b"more\n").expect("because the folder is ours");
    let third = Captured::into(second.store, &["sh", "-c", "cat y > out2"], dir.path(), &[]);
    let path = dir.path().join("out2").to_string_lossy().into_owned();
    let after = third.ask(&["lineage", &path]).replace(&folder, "$DIR");
    assert_eq!(after, "$DIR/out2\n└── cat  [cat y]\n    └── $DIR/y\n");
}
