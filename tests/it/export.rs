//! What others read: Flowcept 1.0.3 from PyPI, unmodified, and the Python prov package.

use std::fs;
use std::process::Command;

use harness::host::{need, root};
use harness::python::python;
use harness::run::Captured;

fn check(script: &str, arguments: &[&str]) -> String {
    let home = tempfile::tempdir().expect("because tests may write temporary files");
    let output = Command::new(python())
        .arg(root().join("tests/programs").join(script))
        .args(arguments)
        .env("HOME", home.path())
        .output()
        .expect("because the interpreter is there");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn example() -> (tempfile::TempDir, Captured) {
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    let script = root().join("tests/programs/wordcount.sh").to_string_lossy().into_owned();
    let captured = Captured::of(&["sh", &script, "data"], work.path(), &[]);
    (work, captured)
}

#[test]
fn flowcept_reads_the_buffer_and_makes_a_card() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let (work, captured) = example();
    let buffer = work.path().join("buffer.jsonl");
    let text = captured.ask(&["export", "last"]);
    fs::write(&buffer, &text).expect("because the folder is ours");
    let card = work.path().join("card.md");
    let said = check("check_flowcept.py", &[&buffer.to_string_lossy(), &card.to_string_lossy()]);
    assert!(said.starts_with(&format!("{} tasks", text.lines().count() - 1)), "{said}");
    let card = fs::read_to_string(card).expect("because Flowcept wrote it");
    for wanted in ["report.txt", "GPL-2", "Linux"] {
        assert!(card.contains(wanted), "the card does not name {wanted}");
    }
}

#[test]
fn the_prov_package_reads_the_document_and_loses_nothing() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let (work, captured) = example();
    let document = work.path().join("prov.json");
    fs::write(&document, captured.ask(&["export", "last", "--format", "prov-json"]))
        .expect("because the folder is ours");
    let said = check("check_prov.py", &[&document.to_string_lossy()]);
    let told = &captured.told().told;
    for (kind, count) in [
        ("ProvActivity", told.activities.len()),
        ("ProvUsage", told.used.len()),
        ("ProvGeneration", told.generated.len()),
        ("ProvCommunication", told.informed.len()),
    ] {
        assert!(said.split_whitespace().any(|w| w == format!("{kind}={count}")), "{kind} is not {count} in {said}");
    }
}

/// A program that reads 20,000 files is whole in store and export, in messages of at most 60 kB.
#[test]
fn twenty_thousand_files() {
    if !need(&["bpf", "python"]) {
        return;
    }
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    for i in 0..20_000 {
        let folder = work.path().join(format!("in/{}", i % 100));
        if i < 100 {
            fs::create_dir_all(&folder).expect("because the folder is ours");
        }
        fs::write(folder.join(format!("f{i}")), "x").expect("because there is room");
    }
    let script = "import glob\nn=0\nfor p in sorted(glob.glob('in/*/*')):\n    with open(p,'rb') as f: n+=len(f.read())\nopen('out','w').write(str(n))";
    let captured = Captured::of(&["python3", "-c", script], work.path(), &[]);
    let run = captured.told();
    let inputs = run.told.used.iter().filter(|u| u.path.contains("/in/")).count();
    assert_eq!(inputs, 20_000);
    assert!(run.told.gaps.is_empty(), "{:?}", run.told.gaps);
    let bounded = captured.ask(&["export", "last"]);
    assert!(bounded.lines().all(|l| l.len() <= 60_000), "a message is longer than 60 kB");
    // The first line is the workflow's document, which names the first of its inputs again.
    assert_eq!(bounded.lines().skip(1).map(|l| l.matches("/in/").count()).sum::<usize>(), 20_000);
    let all = captured.ask(&["export", "last", "--files", "all"]);
    assert!(all.matches("/in/").count() >= 20_000);
    let lineage = captured.ask(&["lineage", &work.path().join("out").to_string_lossy()]);
    assert_eq!(lineage.lines().filter(|l| l.contains("/in/")).count(), 20_000);
}
