//! Whole runs, traced against untraced, interleaved; prints ratios of CPU time. After every traced run the stored counts are
//! checked: a ratio without that check is not reported. It asserts no timing.
//!
//! `tree` is the traced tree alone; `tree + agent` adds the tracer until the store answers, less what it costs to start and
//! stop it around `true`, which is printed apart: it does not grow with the workload.
//!
//! usage: bench-whole BINARY [--rounds N] [--small] [--only PART-OF-A-NAME]

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

struct Workload {
    name: &'static str,
    prepare: fn(&Path, usize) -> Result<()>,
    command: fn(usize) -> String,
    /// Least tasks and file uses or generations that the store must hold afterwards.
    least: fn(usize) -> (usize, usize),
    size: usize,
    small: usize,
}

const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "exec: /bin/true from sh",
        prepare: |_, _| Ok(()),
        command: |n| format!("i=0; while [ $i -lt {n} ]; do /bin/true; i=$((i+1)); done"),
        least: |n| (n + 1, n),
        size: 1000,
        small: 20,
    },
    Workload {
        name: "python reading small files",
        prepare: files,
        command: |_| {
            format!(
                "{} -c \"import os\nfor d,_,fs in os.walk('in'):\n    for f in fs:\n        with open(d+'/'+f,'rb',0) as h: h.read()\"",
                python()
            )
        },
        least: |n| (1, n),
        size: 20_000,
        small: 200,
    },
    Workload {
        name: "dd of 4 KiB blocks to a tmpfs",
        prepare: |_, _| Ok(()),
        command: |n| {
            format!(
                "dd if=/dev/zero of=/dev/shm/flowcept-bench bs=4096 count={n} status=none; rm /dev/shm/flowcept-bench"
            )
        },
        least: |_| (2, 1),
        size: 200_000,
        small: 1000,
    },
    Workload {
        name: "tar x, find, rm of small files",
        prepare: |dir, n| {
            files(dir, n)?;
            ensure!(
                Command::new("tar").args(["-cf", "in.tar", "in"]).current_dir(dir).status()?.success(),
                "tar failed"
            );
            Ok(())
        },
        command: |_| "mkdir out && tar -xf in.tar -C out && find out -type f > list && rm -r out".into(),
        least: |n| (4, n),
        size: 20_000,
        small: 200,
    },
    Workload {
        name: "make -j2 of Lua",
        prepare: |dir, _| harness::lua::project(dir).context("copy the sources of Lua"),
        command: |n| if n > 1 { "make -s -j2" } else { "make -s -j2 lapi.o lcode.o lzio.o" }.into(),
        least: |n| if n > 1 { (105, 2600) } else { (10, 250) },
        size: 33,
        small: 1,
    },
];

fn files(dir: &Path, n: usize) -> Result<()> {
    for i in 0..n {
        let folder = dir.join(format!("in/{}", i / 100));
        if i % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        fs::write(folder.join(format!("f{i}")), "some bytes\n")?;
    }
    Ok(())
}

/// The interpreter itself: what is called python3 may be a script that looks for it.
fn python() -> String {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    output.map_or_else(|_| "python3".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_string())
}

/// CPU seconds of all children that ended, themselves or below them.
fn cpu_of_children() -> f64 {
    #[expect(unsafe_code, reason = "getrusage(2)")]
    // SAFETY: the call fills the struct that it is given; zero is a valid value of it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Runs a workload through `--measure`, so that traced and untraced trees are measured by the same process above them.
fn measured(before: &[&Path], run: &[&str], dir: &Path, script: &str) -> Result<(f64, f64)> {
    let figure = dir.join("cpu");
    let own = env::current_exe()?;
    let start = cpu_of_children();
    let mut words = before.iter().map(|p| p.as_os_str()).chain(run.iter().map(|r| std::ffi::OsStr::new(*r)));
    let mut command = match words.next() {
        Some(program) => {
            let mut command = Command::new(program);
            command.args(words).arg(&own);
            command
        }
        None => Command::new(&own),
    };
    command.arg("--measure").arg(&figure).args(["sh", "-c", script]).current_dir(dir);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().context("start")?;
    ensure!(status.success(), "the workload failed: {status}");
    let tree = fs::read_to_string(&figure).context("read what was measured")?.parse()?;
    Ok((tree, cpu_of_children() - start))
}

/// Runs a command and writes the CPU seconds of its tree to a file.
fn measure(figure: &str, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("--measure FILE COMMAND")?;
    let status = Command::new(program).args(arguments).status()?;
    ensure!(status.success(), "the workload failed: {status}");
    fs::write(figure, cpu_of_children().to_string())?;
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [word, figure, command @ ..] = arguments.as_slice()
        && word == "--measure"
    {
        return measure(figure, command);
    }
    let Some(binary) = arguments.first() else {
        bail!("usage: bench-whole BINARY [--rounds N] [--small] [--only PART-OF-A-NAME]")
    };
    let binary = fs::canonicalize(binary).with_context(|| format!("find {binary}"))?;
    let small = arguments.iter().any(|a| a == "--small");
    let after = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|i| arguments.get(i + 1));
    let rounds: usize = if small { 1 } else { after("--rounds").map_or(Ok(7), |n| n.parse())? };
    let only = after("--only").map_or("", |n| n);
    let start = start(&binary, rounds)?;
    println!("start and stop: {start:.3} s");
    println!("{:<34} {:>9} {:>9} {:>12} {:>10}", "workload", "untraced", "tree", "tree + agent", "with start");
    for w in WORKLOADS.iter().filter(|w| w.name.contains(only)) {
        let n = if small { w.small } else { w.size };
        let (mut untraced, mut tree, mut whole, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // One round more than counted: the first fills caches.
        for round in 0..=rounds {
            let base = folder()?;
            let (dir, store) = (base.path().join("w"), base.path().join("store"));
            let fresh = || -> Result<()> {
                let _ = fs::remove_dir_all(&dir);
                fs::create_dir(&dir)?;
                (w.prepare)(&dir, n)
            };
            fresh()?;
            let (plain, _) = measured(&[], &[], &dir, &(w.command)(n))?;
            fresh()?;
            let before = [&*binary, Path::new("--store"), &store];
            let (traced, with_agent) = measured(&before, &["run", "-q", "--"], &dir, &(w.command)(n))?;
            let counts = stored(&binary, &store)?;
            let least = (w.least)(n);
            ensure!(
                counts.0 >= least.0 && counts.1 >= least.1,
                "{}: stored {counts:?}, expected at least {least:?}",
                w.name
            );
            if round > 0 || small {
                untraced.push(plain);
                tree.push(traced / plain);
                whole.push((with_agent - start) / plain);
                all.push(with_agent / plain);
            }
        }
        println!(
            "{:<34} {:>7.3} s {:>9.3} {:>12.3} {:>10.3}",
            w.name,
            median(&mut untraced),
            median(&mut tree),
            median(&mut whole),
            median(&mut all)
        );
    }
    Ok(())
}

/// A folder of our own, in memory where there is such: what disks cost is nobody's here.
fn folder() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

/// CPU seconds that it costs to trace a command that does nothing.
fn start(binary: &Path, rounds: usize) -> Result<f64> {
    let base = folder()?;
    let before = [binary, Path::new("--store"), base.path()];
    let mut costs = Vec::new();
    for _ in 0..=rounds {
        let (plain, all) = measured(&before, &["run", "-q", "--"], base.path(), "true")?;
        costs.push(all - plain);
    }
    Ok(median(&mut costs))
}

/// Tasks, and file uses and generations, of the run in this store; losses are an error.
fn stored(binary: &Path, store: &Path) -> Result<(usize, usize)> {
    let output = Command::new(binary).arg("--store").arg(store).args(["export", "last", "--files", "all"]).output()?;
    let (mut tasks, mut files) = (0, 0);
    for line in String::from_utf8(output.stdout)?.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if value["type"] == "workflow" {
            let coverage = &value["custom_metadata"]["coverage"];
            ensure!(coverage["complete"] == true, "something was lost: {coverage}");
            continue;
        }
        tasks += 1;
        for side in ["used", "generated"] {
            files += value[side]["files"].as_array().map_or(0, Vec::len);
        }
    }
    Ok((tasks, files))
}
