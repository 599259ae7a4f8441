//! Whole runs, traced against untraced, interleaved; prints ratios of CPU time. After every traced run the stored counts are
//! checked: a ratio without that check is not reported. It asserts no timing.
//!
//! `tree` is the traced tree alone; `tree + agent` adds the tracer until the store answers, less what it costs to start and
//! stop it around `true`, which is printed apart: it does not grow with the workload.
//!
//! With `--preload` the library is in the programs instead, which `libflowcept.so` beside BINARY is: `tree` is the tree with
//! it, `tree + taking in` adds what it costs to take the spool in. It tells what lies in the spool before that.
//!
//! usage: bench-whole BINARY [--preload] [--rounds N] [--small] [--only PART-OF-A-NAME]

use std::os::unix::fs::MetadataExt;
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

/// Names the library to the process that measures, which does not have it itself.
const LIBRARY: &str = "BENCH_PRELOAD";

/// Runs a workload through `--measure`, so that traced and untraced trees are measured by the same process above them.
fn measured(
    before: &[&Path],
    run: &[&str],
    library: Option<(&Path, &Path)>,
    dir: &Path,
    script: &str,
) -> Result<(f64, f64)> {
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
    if let Some((library, store)) = library {
        command.env(LIBRARY, library).env("FLOWCEPT_STORE", store);
    }
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().context("start")?;
    ensure!(status.success(), "the workload failed: {status}");
    let tree = fs::read_to_string(&figure).context("read what was measured")?.parse()?;
    Ok((tree, cpu_of_children() - start))
}

/// Runs a command and writes the CPU seconds of its tree to a file.
fn measure(figure: &str, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("--measure FILE COMMAND")?;
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(library) = env::var_os(LIBRARY) {
        command.env("LD_PRELOAD", library).env_remove(LIBRARY);
    }
    let status = command.status()?;
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
        bail!("usage: bench-whole BINARY [--preload] [--rounds N] [--small] [--only PART-OF-A-NAME]")
    };
    let binary = fs::canonicalize(binary).with_context(|| format!("find {binary}"))?;
    let small = arguments.iter().any(|a| a == "--small");
    let after = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|i| arguments.get(i + 1));
    let rounds: usize = if small { 1 } else { after("--rounds").map_or(Ok(7), |n| n.parse())? };
    let only = after("--only").map_or("", |n| n);
    if arguments.iter().any(|a| a == "--preload") {
        return preload(&binary, rounds, small, only);
    }
    println!(
        "{:<34} {:>9} {:>9} {:>12} {:>10} {:>14}",
        "workload", "untraced", "tree", "tree + agent", "with start", "start and stop"
    );
    for w in WORKLOADS.iter().filter(|w| w.name.contains(only)) {
        let n = if small { w.small } else { w.size };
        let (mut untraced, mut tree, mut whole, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut starts = Vec::new();
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
            let (plain, _) = measured(&[], &[], None, &dir, &(w.command)(n))?;
            fresh()?;
            let before = [&*binary, Path::new("--store"), &store];
            let (traced, with_agent) = measured(&before, &["run", "-q", "--"], None, &dir, &(w.command)(n))?;
            let start = start(&binary)?;
            let counts = stored(&binary, &store, &[])?;
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
                starts.push(start);
            }
        }
        println!(
            "{:<34} {:>7.3} s {:>9.3} {:>12.3} {:>10.3} {:>12.3} s",
            w.name,
            median(&mut untraced),
            median(&mut tree),
            median(&mut whole),
            median(&mut all),
            median(&mut starts)
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
fn start(binary: &Path) -> Result<f64> {
    let base = folder()?;
    let before = [binary, Path::new("--store"), base.path()];
    let (plain, all) = measured(&before, &["run", "-q", "--"], None, base.path(), "true")?;
    Ok(all - plain)
}

/// The same with the library.
fn preload(binary: &Path, rounds: usize, small: bool, only: &str) -> Result<()> {
    let library = binary.with_file_name("libflowcept.so");
    ensure!(library.is_file(), "there is no {}", library.display());
    println!(
        "{:<34} {:>9} {:>9} {:>17} {:>9} {:>12}",
        "workload", "untraced", "tree", "tree + taking in", "segments", "spool"
    );
    for w in WORKLOADS.iter().filter(|w| w.name.contains(only)) {
        let n = if small { w.small } else { w.size };
        let (mut untraced, mut tree, mut whole, mut left) = (Vec::new(), Vec::new(), Vec::new(), (0, 0));
        for round in 0..=rounds {
            let base = folder()?;
            let (dir, store) = (base.path().join("w"), base.path().join("store"));
            let fresh = || -> Result<()> {
                let _ = fs::remove_dir_all(&dir);
                fs::create_dir(&dir)?;
                (w.prepare)(&dir, n)
            };
            fresh()?;
            let (plain, _) = measured(&[], &[], None, &dir, &(w.command)(n))?;
            fresh()?;
            let (traced, _) = measured(&[], &[], Some((&library, &store)), &dir, &(w.command)(n))?;
            left = in_spool(&store)?;
            let taking = take_in(binary, &store)?;
            let counts = stored(binary, &store, &FROM_INSIDE)?;
            let least = (w.least)(n);
            ensure!(
                counts.0 >= least.0 && counts.1 >= least.1,
                "{}: stored {counts:?}, expected at least {least:?}",
                w.name
            );
            if round > 0 || small {
                untraced.push(plain);
                tree.push(traced / plain);
                whole.push((traced + taking) / plain);
            }
        }
        println!(
            "{:<34} {:>7.3} s {:>9.3} {:>17.3} {:>9} {:>8.1} MiB",
            w.name,
            median(&mut untraced),
            median(&mut tree),
            median(&mut whole),
            left.0,
            left.1 as f64 / MIB
        );
    }
    if WORKLOADS[0].name.contains(only) {
        many(binary, &library, if small { 100 } else { 10_000 })?;
    }
    Ok(())
}

/// The gap that the library always tells.
const FROM_INSIDE: [&str; 1] = ["system calls that a program makes itself"];
const MIB: f64 = (1 << 20) as f64;

/// What many short processes leave.
fn many(binary: &Path, library: &Path, count: usize) -> Result<()> {
    let base = folder()?;
    let store = base.path().join("store");
    measured(&[], &[], Some((library, &store)), base.path(), &(WORKLOADS[0].command)(count))?;
    let (files, bytes) = in_spool(&store)?;
    let seconds = take_in(binary, &store)?;
    let counts = stored(binary, &store, &FROM_INSIDE)?;
    ensure!(counts.0 > count, "stored {counts:?} of {count} processes");
    println!(
        "{count} processes leave {files} segments, {:.1} MiB, and are taken in within {seconds:.2} s of CPU time",
        bytes as f64 / MIB
    );
    Ok(())
}

/// CPU seconds that it costs to take in what is in the spool.
fn take_in(binary: &Path, store: &Path) -> Result<f64> {
    let start = cpu_of_children();
    let output = Command::new(binary).arg("--store").arg(store).arg("workflows").output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(cpu_of_children() - start)
}

/// Files in the spool, and what they take.
fn in_spool(store: &Path) -> Result<(usize, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for folder in fs::read_dir(store.join("spool"))? {
        for file in fs::read_dir(folder?.path())? {
            files += 1;
            bytes += file?.metadata()?.blocks() * 512;
        }
    }
    Ok((files, bytes))
}

/// Tasks, and file uses and generations, of the run in this store; losses are an error, but for those `known`.
fn stored(binary: &Path, store: &Path, known: &[&str]) -> Result<(usize, usize)> {
    let output = Command::new(binary).arg("--store").arg(store).args(["export", "last", "--files", "all"]).output()?;
    let (mut tasks, mut files) = (0, 0);
    for line in String::from_utf8(output.stdout)?.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if value["type"] == "workflow" {
            let coverage = &value["custom_metadata"]["coverage"];
            let gaps = coverage["gaps"].as_array().map_or(&[][..], Vec::as_slice);
            let is_known = |gap: &serde_json::Value| known.iter().any(|k| gap.to_string().contains(k));
            ensure!(gaps.iter().all(is_known), "something was lost: {coverage}");
            continue;
        }
        tasks += 1;
        for side in ["used", "generated"] {
            files += value[side]["files"].as_array().map_or(0, Vec::len);
        }
    }
    Ok((tasks, files))
}
