//! Switches off one probe, one system call, one hook or one rule at a time: a test must fail. It prints a table of what failed.
//!
//! Calls and programs are left out by name (`FLOWCEPT_MUTATE`, debug builds only); a hook loses its name in the built library;
//! a rule is changed in a copy of the sources, as [`RULES`] says.

mod rules;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use rules::{RULES, Rule};

/// Runs all mutations whose name contains `only`; an error where one is not noticed by any test.
pub(crate) fn run(root: &Path, only: &str) -> Result<()> {
    let copy = root.join("target/mutate/tree");
    let target = root.join("target/mutate/target");
    sync(root, &copy)?;
    for rule in RULES {
        let count = fs::read_to_string(root.join(rule.file))?.matches(rule.from).count();
        ensure!(count == 1, "{}: `{}` is {count} times in {}", rule.name, rule.from, rule.file);
    }
    let bench = Bench { copy, target };
    let mut survivors = Vec::new();
    println!("| switched off | fails |\n|---|---|");
    let calls = names(root)?;
    let tests = bench.build(&[])?.context("the sources do not build, or have no tests")?;
    for name in calls.iter().filter(|n| n.contains(only)) {
        bench.judge(name, &ORDER, &tests, Some(name), &mut survivors)?;
    }
    bench.hooks(only, &tests, &mut survivors)?;
    for rule in RULES.iter().filter(|r| r.name.contains(only)) {
        let path = bench.copy.join(rule.file);
        let good = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        fs::write(&path, good.replace(rule.from, rule.to))?;
        let judged = bench.rule(rule, &mut survivors);
        fs::write(&path, good)?;
        judged?;
    }
    if !survivors.is_empty() {
        bail!("no test fails without: {}", survivors.join(", "));
    }
    Ok(())
}

/// The calls and programs that the plan knows, as its source lists them.
fn names(root: &Path) -> Result<Vec<String>> {
    let plan = fs::read_to_string(root.join("probes/src/plan.rs"))?;
    let quoted = |line: &str| line.split('"').nth(1).map(String::from);
    let rows = plan.lines().map(str::trim).filter(|l| ["row(\"", "unseen(\"", "(\""].iter().any(|p| l.starts_with(p)));
    let names: Vec<String> = rows.filter(|l| !l.contains("facts.")).filter_map(quoted).collect();
    ensure!(names.len() > 50, "plan.rs lists its calls in another way than this task reads");
    Ok(names)
}

/// Copies what git knows and what it does not ignore; files keep their times, so that cargo builds again only what changed.
fn sync(root: &Path, copy: &Path) -> Result<()> {
    let list = Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root).output()?;
    for file in String::from_utf8(list.stdout)?.lines() {
        let (from, to) = (root.join(file), copy.join(file));
        let Ok(content) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|old| old == content) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(&from, &to)?;
    }
    Ok(())
}

/// Parts of the integration tests, in the order in which they are tried; the last is all of them.
const ORDER: [&str; 6] = ["calls::", "files::", "identity::", "run::", "export::", ""];
/// The same for what happens only where kernel and library watch together.
const OF_BOTH: [&str; 2] = ["both::", ""];
/// The same for what the library alone does.
const OF_INSIDE: [&str; 2] = ["preload::", ""];

/// The test that calls what the hooks stand in for.
const OF_HOOKS: &str = "hooks::each_is_told";

/// What a program prints, without the line's end.
fn printed(program: &str, arguments: &[&OsStr]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_string())
}

/// The names that a shared object defines, without their versions.
fn symbols(object: &Path) -> Result<BTreeSet<String>> {
    let list = printed("nm", &["-D".as_ref(), "--defined-only".as_ref(), object.as_os_str()])?;
    let names = list.lines().filter_map(|l| l.split(' ').next_back()?.split('@').next().map(String::from));
    Ok(names.collect())
}

struct Bench {
    copy: PathBuf,
    target: PathBuf,
}

/// A built test program and the folder that its tests run in.
struct Tests {
    program: PathBuf,
    folder: PathBuf,
}

impl Bench {
    fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.target).stdin(Stdio::null());
        command
    }

    /// Builds the binary and the tests; none where they do not build.
    fn build(&self, more: &[&str]) -> Result<Option<Vec<Tests>>> {
        let binary = self
            .cargo()
            .args(["build", "--quiet", "-p", "flowcept-agent", "-p", "flowcept-preload"])
            .stderr(Stdio::null())
            .status()?;
        let mut command = self.cargo();
        command.args([
            "test",
            "--no-run",
            "--message-format=json",
            "-p",
            "flowcept-provenance",
            "-p",
            "flowcept-agent",
        ]);
        command.args(["-p", "flowcept-probes", "-p", "flowcept-tests"]).args(more).stderr(Stdio::null());
        let output = command.output()?;
        if !binary.success() || !output.status.success() {
            return Ok(None);
        }
        let mut tests = Vec::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let value: serde_json::Value = serde_json::from_str(line)?;
            let program = value["executable"].as_str().filter(|_| value["profile"]["test"] == true);
            let manifest = value["manifest_path"].as_str().map(Path::new).and_then(Path::parent);
            if let (Some(program), Some(folder)) = (program, manifest) {
                tests.push(Tests { program: program.into(), folder: folder.into() });
            }
        }
        Ok(Some(tests))
    }

    /// A tracer that is blind to ends follows for ever.
    fn stop_followers(&self) {
        let binary = self.target.join("debug/flowcept");
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process.file_name().to_string_lossy().into_owned();
            if fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe.starts_with(&binary)) {
                let _ = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
            }
        }
    }

    /// Takes one name after another from the library: nobody finds that hook then.
    fn hooks(&self, only: &str, tests: &[Tests], survivors: &mut Vec<String>) -> Result<()> {
        let library = self.target.join("debug/libflowcept.so");
        let good = fs::read(&library).with_context(|| format!("read {}", library.display()))?;
        let there = symbols(Path::new(&printed("cc", &["-print-file-name=libc.so.6".as_ref()])?))?;
        for name in symbols(&library)?.into_iter().filter(|n| format!("hook {n}").contains(only)) {
            if !there.contains(&name) {
                println!("| hook {name} | not tried: this C library has no such function |");
                continue;
            }
            // The table of names of the dynamic symbols is the first that lies in the file.
            let whole = [b"\0", name.as_bytes(), b"\0"].concat();
            let at = good.windows(whole.len()).position(|w| w == whole);
            let at = at.with_context(|| format!("{} lacks the name {name}", library.display()))?;
            let mut without = good.clone();
            without[at + 1] = b'~';
            // In its place: cargo has the same file under another name, and would put that one here again.
            let put =
                |content: &[u8]| fs::write(&library, content).with_context(|| format!("write {}", library.display()));
            put(&without)?;
            let judged = self.judge(&format!("hook {name}"), &[OF_HOOKS], tests, None, survivors);
            put(&good)?;
            judged?;
        }
        Ok(())
    }

    fn rule(&self, rule: &Rule, survivors: &mut Vec<String>) -> Result<()> {
        match self.build(&[])? {
            Some(tests) => {
                let order = match rule.name.split_once(": ") {
                    Some(("both", _)) => &OF_BOTH[..],
                    Some(("inside", _)) => &OF_INSIDE,
                    _ => &ORDER,
                };
                self.judge(rule.name, order, &tests, None, survivors)
            }
            None => bail!("{}: what it changes does not build: correct it in rules.rs", rule.name),
        }
    }

    /// Runs parts of the tests in this order until some fail; prints the row.
    fn judge(
        &self,
        name: &str,
        order: &[&str],
        tests: &[Tests],
        switch: Option<&str>,
        survivors: &mut Vec<String>,
    ) -> Result<()> {
        let begun = Instant::now();
        // Those of the crates themselves run no program.
        let units = switch.is_none() && order == ORDER;
        let units = tests.iter().filter(|t| units && !t.folder.ends_with("tests")).map(|t| ("", t));
        let whole = tests.iter().filter(|t| t.folder.ends_with("tests"));
        let parts = order.iter().flat_map(|part| whole.clone().map(|t| (*part, t)));
        for (filter, test) in units.chain(parts) {
            let mut command = Command::new(&test.program);
            command.arg(filter).current_dir(&test.folder).env("CARGO_TARGET_DIR", &self.target);
            command.env("FLOWCEPT_MUTATE", switch.unwrap_or_default()).stdin(Stdio::null());
            let output = command.output().with_context(|| format!("start {}", test.program.display()))?;
            self.stop_followers();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let failed: Vec<&str> =
                text.lines().filter_map(|l| l.strip_prefix("test ")?.strip_suffix(" ... FAILED")).collect();
            if let Some(first) = failed.first() {
                let more = if failed.len() > 1 { format!(" and {} more", failed.len() - 1) } else { String::new() };
                println!("| {name} | {first}{more} |");
                return Ok(());
            }
            ensure!(output.status.success(), "{name}: the tests ended in an unexpected way: {text}");
        }
        println!("| {name} | **nothing**, in {:.0} s |", begun.elapsed().as_secs_f64());
        survivors.push(name.to_string());
        Ok(())
    }
}
