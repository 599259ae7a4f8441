//! Traced workloads one after another into one store, each checked, until the time is over or something is wrong; beside them
//! the tests that put the library under stress, and the way to a database into chaos, as long. It knows the product by its command line only.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What a run makes in its folder, beside `in`, from which its `out` must come.
struct Workload {
    name: &'static str,
    command: &'static [&'static str],
    /// Tasks at least.
    tasks: u64,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "fork storm",
        command: &["sh", "-c", "i=0; while [ $i -lt 3000 ]; do (:); i=$((i+1)); done; cat in > out"],
        tasks: 3002,
    },
    Workload {
        name: "many files",
        command: &[
            "sh",
            "-c",
            "mkdir d; i=0; while [ $i -lt 3000 ]; do read x < in; echo $i $x > d/$i; i=$((i+1)); done; cat d/* > out",
        ],
        tasks: 2,
    },
    Workload {
        name: "pipes",
        command: &[
            "sh",
            "-c",
            "i=0; while [ $i -lt 100 ]; do cat in | tr a-z A-Z | sort | uniq -c >> out; i=$((i+1)); done",
        ],
        tasks: 401,
    },
    Workload {
        name: "python",
        command: &[
            "python3",
            "-c",
            "import os, subprocess\n\
             for i in range(500):\n    \
                 with open('in') as source, open(f'p{i}', 'w') as out: out.write(source.read() * (i % 9))\n    \
                 os.rename(f'p{i}', f'q{i}')\n\
             subprocess.run(['sort', '-o', 'out', *(f'q{i}' for i in range(500))], check=True)",
        ],
        tasks: 2,
    },
];

/// Twice what any of these runs needs of its own, however full the store is: pages of the index are the store's.
const MOST_MEMORY: u64 = 96 << 20;
/// A question over the whole store.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// What a run showed.
#[derive(Default)]
struct Figures {
    tasks: u64,
    wall: Duration,
    peak: u64,
    answer: Duration,
}

impl Figures {
    fn most(&self, other: &Self) -> Self {
        Self {
            tasks: self.tasks + other.tasks,
            wall: self.wall.max(other.wall),
            peak: self.peak.max(other.peak),
            answer: self.answer.max(other.answer),
        }
    }
}

/// Runs for so many minutes. Each fifth round runs all workloads at once.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let minutes: f64 = match arguments {
        [] => 10.0,
        ["--minutes", n] => n.parse().with_context(|| format!("--minutes {n}"))?,
        _ => bail!("usage: cargo xtask soak [--minutes N]"),
    };
    let length = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
    let build = ["build", "--release", "-p", "flowcept-agent"];
    ensure!(
        Command::new("cargo").args(build).current_dir(root).status()?.success(),
        "cargo {} failed",
        build.join(" ")
    );
    let base = tempfile::tempdir()?;
    let soak = Soak {
        binary: root.join("target/release/flowcept"),
        store: base.path().join("store"),
        work: base.path().join("work"),
    };
    fs::create_dir(&soak.work)?;
    let stress = ["test", "--quiet", "-p", "flowcept-tests", "--test", "it"];
    let mut stressed = Command::new("cargo");
    stressed.args(stress).args(["--no-run"]).current_dir(root);
    ensure!(stressed.status()?.success(), "cargo {} failed", stress.join(" "));
    let mut stressed = Command::new("cargo");
    stressed.args(stress).args(["--", "inside::under_stress", "chaos::", "--nocapture"]).current_dir(root);
    stressed.envs(["FLOWCEPT_STRESS", "FLOWCEPT_CHAOS"].map(|name| (name, length.as_secs().to_string())));
    stressed.stdin(Stdio::null());
    stressed.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let stressed = Stressed(Some(stressed.spawn().context("start cargo")?));
    let begun = Instant::now();
    let mut sum = Figures::default();
    let (mut round, mut runs) = (0, 0);
    while round == 0 || begun.elapsed() < length {
        let together = round % (WORKLOADS.len() + 1) == WORKLOADS.len();
        let workloads =
            if together { &WORKLOADS[..] } else { std::slice::from_ref(&WORKLOADS[round % (WORKLOADS.len() + 1)]) };
        let name = if together { "all at once" } else { workloads[0].name };
        let figures = soak.round(workloads, runs).with_context(|| format!("round {}, {name}", round + 1))?;
        (round, runs) = (round + 1, runs + workloads.len());
        let known = soak.ask(&["workflows", "--json"])?.matches("\"workflow_id\"").count();
        ensure!(known == runs, "round {round}: the store knows {known} workflows of {runs}");
        println!("round {round:>4}  {name:<11}  {}  store {:>6.1} MiB", figures.line(), mebi(size(&soak.store)?));
        sum = sum.most(&figures);
    }
    let store = mebi(size(&soak.store)?);
    println!("nothing wrong in {runs} runs; tasks in all, most of the others:  {}  store {store:>6.1} MiB", sum.line());
    let stressed = stressed.ended()?;
    let said = String::from_utf8_lossy(&stressed.stderr).into_owned();
    ensure!(
        stressed.status.success(),
        "the tests beside the runs: {said}{}",
        String::from_utf8_lossy(&stressed.stdout)
    );
    println!("the tests beside the runs: {}", said.trim());
    Ok(())
}

/// The tests beside the rounds, which end with them where one of them has failed.
struct Stressed(Option<Child>);

impl Stressed {
    fn ended(mut self) -> Result<Output> {
        Ok(self.0.take().context("it was started")?.wait_with_output()?)
    }
}

impl Drop for Stressed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["--", &group]).status();
            let _ = child.wait();
        }
    }
}

impl Figures {
    fn line(&self) -> String {
        format!(
            "tasks {:>6}  wall {:>6.2} s  peak {:>6.1} MiB  answer {:>5.3} s",
            self.tasks,
            self.wall.as_secs_f64(),
            mebi(self.peak),
            self.answer.as_secs_f64()
        )
    }
}

struct Soak {
    binary: PathBuf,
    store: PathBuf,
    work: PathBuf,
}

impl Soak {
    /// Runs these at once, in folders of their own.
    fn round(&self, workloads: &[Workload], first: usize) -> Result<Figures> {
        let results: Vec<Result<Figures>> = scope(|scope| {
            let running: Vec<_> = workloads
                .iter()
                .zip(first..)
                .map(|(workload, number)| scope.spawn(move || self.checked(workload, number)))
                .collect();
            running.into_iter().map(|thread| thread.join().expect("because nothing in it panics")).collect()
        });
        results.into_iter().try_fold(Figures::default(), |sum, figures| Ok(sum.most(&figures?)))
    }

    /// One run, and what must be true of it.
    fn checked(&self, workload: &Workload, number: usize) -> Result<Figures> {
        let dir = self.work.join(number.to_string());
        fs::create_dir(&dir)?;
        fs::write(dir.join("in"), "some words of input\n".repeat(9))?;
        let name = format!("soak-{number}");
        let begun = Instant::now();
        let child = Command::new(&self.binary)
            .arg("--store")
            .arg(&self.store)
            .args(["run", "--name", &name, "--"])
            .args(workload.command)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the tracer")?;
        let (peak, said) = watched(child).with_context(|| workload.name.to_string())?;
        let wall = begun.elapsed();
        ensure!(peak <= MOST_MEMORY, "{}: the tracer's peak is {:.1} MiB: {said}", workload.name, mebi(peak));
        ensure!(said.contains("coverage: complete"), "{}: the run said: {said}", workload.name);
        let shown = self.ask(&["show", &name])?;
        ensure!(shown.contains("\ncoverage: complete\n"), "{}: not complete: {}", workload.name, tail(&shown));
        let tasks = said.split("tasks ").nth(1).and_then(|rest| rest.split(',').next()?.trim().parse().ok());
        let tasks = tasks.with_context(|| format!("{}: no count of tasks in: {said}", workload.name))?;
        ensure!(tasks >= workload.tasks, "{}: {tasks} tasks of {}", workload.name, workload.tasks);
        let asked = Instant::now();
        let out = dir.join("out").to_string_lossy().into_owned();
        let lineage = self.ask(&["lineage", &out])?;
        let answer = asked.elapsed();
        let input = dir.join("in").to_string_lossy().into_owned();
        ensure!(lineage.contains(&input), "{}: {out} does not come from {input}: {}", workload.name, tail(&lineage));
        ensure!(answer < LONGEST_ANSWER, "{}: lineage answered after {answer:?}", workload.name);
        fs::remove_dir_all(&dir)?;
        Ok(Figures { tasks, wall, peak, answer })
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary).arg("--store").arg(&self.store).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "flowcept {} failed: {said}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Waits for the tracer; the most resident memory of its own (not of files that it has mapped) that was seen, and its stderr.
fn watched(mut child: Child) -> Result<(u64, String)> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let own = ["RssAnon:", "RssShmem:"].map(|name| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix(" kB"));
            line.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) << 10
        });
        peak = peak.max(own.iter().sum());
        sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the run ended with {}: {said}", output.status);
    Ok((peak, said))
}

/// The last lines, where the gaps are.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Bytes on disk: LMDB's file is sparse.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        sum += if metadata.is_dir() { size(&path)? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
