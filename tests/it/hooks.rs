//! Each function that the library stands in for, called alone (`programs/hooks.c`): without that hook something is not told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use flowcept_provenance::activity::Outcome;
use flowcept_provenance::observation::{FileKind, Observation};
use harness::host::{library, need};
use harness::run::Captured;

use crate::inside::{compiled, opened_by_dlopen};

/// No hook, but asked for by AddressSanitizer.
const NO_HOOK: &str = "__asan_default_options";

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compiled("hooks", "hooks.c", "cc", &["-O1", "-w"]))
}

/// The names that the program can call, each with what shows that it was called.
fn cases() -> Vec<(String, String)> {
    let list = Command::new(program()).arg("--list").output().expect("because it was just compiled").stdout;
    let list = String::from_utf8(list).expect("because names are ASCII");
    let rows = list.lines().filter_map(|line| line.split_once(": "));
    rows.flat_map(|(shows, names)| names.split(' ').map(|n| (n.to_string(), shows.to_string()))).collect()
}

/// Calls one function; whether it can be told that it was called. None where this C library does not have it.
fn is_told(name: &str, shows: &str) -> Option<bool> {
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    let dir = folder.path();
    for (file, text) in [("in", "some words\n"), ("out", "old\n"), ("other", "x"), ("folder/inner", "x")] {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().expect("because it has one")).expect("because the folder is ours");
        fs::write(path, text).expect("because the folder is ours");
    }
    fs::create_dir(dir.join("empty")).expect("because the folder is ours");
    fs::copy(opened_by_dlopen(), dir.join("look.so")).expect("because it was just compiled");
    let captured = Captured::preloaded(&[&program().to_string_lossy(), name], dir, &[]);
    match captured.output.status.code() {
        Some(77) => return None,
        Some(0 | 7) => {}
        _ => panic!("{name}: {}: {}", captured.output.status, captured.stderr()),
    }
    let run = captured.told();
    let told = &run.told;
    let used = |end: &str| told.used.iter().any(|u| u.path.ends_with(end));
    let made = || told.generated.iter().any(|g| Path::new(&*g.path).starts_with(dir) && g.path.contains("/out"));
    let gap = |kind: &str| told.gaps.iter().any(|g| *g.kind == *kind || g.why.starts_with(kind));
    let observations = captured.observations();
    Some(match shows {
        "used" => used("/in"),
        "made" => made(),
        "used+made" => used("/in") && made(),
        "pipe" => observations.iter().any(|o| matches!(o, Observation::Touched(t) if t.kind == FileKind::Pipe)),
        "named" => observations.iter().any(|o| matches!(o, Observation::Named(_))),
        "inner" => used("/folder/inner"),
        "look.so" => used("/look.so"),
        "true" => told.activities.iter().any(|a| &*a.name == "true"),
        "seven" => told.activities.iter().any(|a| a.outcome == Outcome::Exited(7)),
        "elsewhere" => {
            let place = |o: &Observation| match o {
                Observation::Execed(o) => Some(o.credentials.mount_namespace),
                _ => None,
            };
            observations.iter().filter_map(place).collect::<BTreeSet<_>>().len() == 2
        }
        "without" => gap("processes that the library was not in"),
        kind => gap(kind),
    })
}

#[test]
fn each_is_told() {
    if !need(&["cc"]) {
        return;
    }
    let untold: Vec<_> = cases().into_iter().filter(|(name, shows)| is_told(name, shows) == Some(false)).collect();
    assert!(untold.is_empty(), "nothing tells that these were called: {untold:?}");
}

/// There is a case for each, so that one which is switched off is missed.
#[test]
fn each_has_a_case() {
    if !need(&["cc", "nm"]) {
        return;
    }
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output();
    let output = String::from_utf8(output.expect("because nm is there").stdout).expect("because symbols are ASCII");
    let hooks: BTreeSet<_> =
        output.lines().filter_map(|l| l.split(' ').next_back()).filter(|n| *n != NO_HOOK).collect();
    let cases = cases();
    assert_eq!(hooks, cases.iter().map(|(name, _)| name.as_str()).collect());
}
