//! The gate: every check in order, up to the first that fails. It does not install what the checks need.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;
use std::{env, io};

use anyhow::{Context, Result, bail};

use crate::{codegen, tidy};

/// What the tests may not skip here, unless the caller has said so otherwise.
const REQUIRED: &str = "apt-get,bindfs,bpf,cc,curl,epmd,java,logrotate,mkfs.btrfs,mvn,openssl,perl,python,redis-cli,rsync,sqlite3,strace,systemd-analyze,zstd";

/// What more they may not skip on Debian, which has a browser as a package.
const BROWSER: &str = "chromium,chromedriver";

/// Seconds for which the library is put under stress.
const STRESS: &str = "60";

/// Runs all checks; the last lines on stdout are the test runner's summaries and their sum.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    step("fmt", || cargo(root, "fmt --all --check"))?;
    step("clippy", || cargo(root, "clippy --workspace --all-targets -- -D warnings"))?;
    step("codegen", || codegen::run(root, true))?;
    step("tidy", || tidy::run(root))?;
    step("build", || cargo(root, "build --package flowcept-agent --package flowcept-preload"))?;
    for bench in ["bench-micro", "bench-whole", "bench-store", "bench-queue", "bench-whole --preload"] {
        let (program, more) = bench.split_once(' ').map_or((bench, String::new()), |(p, m)| (p, format!(" {m}")));
        step(&format!("{bench} on its smallest input"), || {
            cargo(
                root,
                &format!(
                    "run --quiet --package flowcept-benches --bin {program} -- target/debug/flowcept --small{more}"
                ),
            )
        })?;
    }
    eprintln!("ci: test: cargo test --workspace");
    let (status, sum) = test(root).context("ci stopped at test")?;
    if !status.success() {
        eprintln!("ci: stopped at test: `cargo test --workspace` failed ({status})");
    } else if sum == Sum::default() {
        eprintln!("ci: stopped at test: no test ran");
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    let good = status.success() && sum.passed > 0 && sum.failed == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Announces a check and tells how long it took.
fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("ci: {name}");
    let start = Instant::now();
    check().with_context(|| format!("ci stopped at {name}"))?;
    eprintln!("ci: {name} passed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(root: &Path, arguments: &str) -> Result<()> {
    let mut command = Command::new("cargo");
    let status = command.args(arguments.split(' ')).current_dir(root).status().context("start cargo")?;
    if !status.success() {
        bail!("`cargo {arguments}` failed ({status})");
    }
    Ok(())
}

/// The tests tell their own time: a line of ours after them would hide their summary.
fn test(root: &Path) -> Result<(ExitStatus, Sum)> {
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace"]).current_dir(root).stdout(Stdio::piped());
    if env::var_os("FLOWCEPT_REQUIRE").is_none() {
        let is_debian = std::fs::read_to_string("/etc/os-release").is_ok_and(|os| os.lines().any(|l| l == "ID=debian"));
        command.env("FLOWCEPT_REQUIRE", if is_debian { format!("{REQUIRED},{BROWSER}") } else { REQUIRED.into() });
    }
    if env::var_os("FLOWCEPT_STRESS").is_none() {
        command.env("FLOWCEPT_STRESS", STRESS);
    }
    let mut child = command.spawn().context("start cargo")?;
    let stdout = child.stdout.take().expect("because stdout is piped");
    let sum = pass_on(stdout, &mut io::stdout().lock()).context("pass on what the tests print")?;
    Ok((child.wait().context("wait for cargo")?, sum))
}

/// Copies line by line, as it comes, and adds up the summaries.
fn pass_on(from: impl Read, to: &mut impl Write) -> io::Result<Sum> {
    let mut sum = Sum::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        if let Some(summary) = summary(&String::from_utf8_lossy(&line)) {
            sum.passed += summary.passed;
            sum.failed += summary.failed;
        }
        line.clear();
    }
    Ok(sum)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
}

/// Reads `test result: ok. 3 passed; 0 failed; …`, libtest's last line for each binary.
fn summary(line: &str) -> Option<Sum> {
    let counts = line.strip_prefix("test result: ")?;
    let count = |unit: &str| {
        let before = counts.split(';').find_map(|part| part.trim().strip_suffix(unit))?;
        before.split_whitespace().next_back()?.parse().ok()
    };
    Some(Sum { passed: count(" passed")?, failed: count(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up_and_everything_is_passed_on() {
        let output = "running 3 tests\ntest a ... ok\n\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out\n\
            a program under test said: test result: ok. 7 passed; 0 failed\nno newline at the end";
        let mut copy = Vec::new();
        let sum = pass_on(output.as_bytes(), &mut copy).expect("because memory can be read and written");
        assert_eq!(sum, Sum { passed: 13, failed: 2 });
        assert_eq!(copy, output.as_bytes());
    }

    #[test]
    fn other_lines_are_no_summary() {
        for line in ["", "test result", "test result: ok.", "test result: ok. x passed; 0 failed", "test a ... ok"] {
            assert_eq!(summary(line), None, "{line}");
        }
    }
}
