//! A large store: how long `store rebuild` takes to index it, and `lineage` to answer. The logs are written by the product's
//! own writer, from runs made up here; what is asked and what must be answered is known from how they are made. It asserts
//! no timing.
//!
//! usage: bench-store BINARY [--rounds N] [--small]

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use flowcept_agent::store::Store;
use flowcept_agent::store::log::Writer;
use flowcept_agent::workflow::Workflow;
use flowcept_provenance::identity::{FileKey, FilesystemId, ImageNo, ProcessKey};
use flowcept_provenance::observation::{
    Access, Costs, Credentials, Ended, Execed, FileKind, FileState, Forked, Observation, Summed, Touched,
};
use flowcept_provenance::quantity::{BootNs, ByteCount, Pid, UnixNs};
use uuid::Uuid;

/// Files that a task reads and nobody made, beside the output of the task before.
const INPUTS: u64 = 9;
/// Tasks that pass a file on, one to the next; then another chain begins.
const CHAIN: u64 = 50;

/// A store's shape: runs, and tasks in each.
const SHAPES: [(u64, u64); 2] = [(1000, 100), (1, 100_000)];
const SMALL: [(u64, u64); 2] = [(4, 50), (1, 200)];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(binary) = arguments.first() else { bail!("usage: bench-store BINARY [--rounds N] [--small]") };
    let binary = fs::canonicalize(binary).with_context(|| format!("find {binary}"))?;
    let small = arguments.iter().any(|a| a == "--small");
    println!("{:<32} {:>10} {:>12} {:>14} {:>14}", "store", "rebuild", "index", "lineage up", "lineage down");
    for (runs, tasks) in if small { SMALL } else { SHAPES } {
        let folder = tempfile::tempdir()?;
        let store = Store::open(folder.path().to_path_buf())?;
        for run in 0..runs {
            write(&store, run, tasks)?;
        }
        let ask = |words: &[&str]| -> Answer {
            let begun = Instant::now();
            let output = Command::new(&binary).arg("--store").arg(folder.path()).args(words).output()?;
            ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            Ok((begun.elapsed().as_secs_f64(), String::from_utf8(output.stdout)?))
        };
        let (rebuild, _) = ask(&["store", "rebuild"])?;
        let bytes = fs::metadata(folder.path().join("index-2/data.mdb"))?.len();
        let middle = runs / 2;
        let last = tasks.min(CHAIN) - 1;
        // From the end of a chain: all its tasks, each with its inputs. From its begin: all its tasks.
        let up = median(&ask, &["lineage", &output(middle, last)], tasks.min(CHAIN) * (INPUTS + 2) + 1)?;
        let down = median(&ask, &["lineage", "--down", &output(middle, 0)], 2 * tasks.min(CHAIN) - 1)?;
        let name = format!("{runs} runs × {tasks} tasks × {} uses", INPUTS + 1);
        let (index, up, down) = (bytes >> 20, up * 1e3, down * 1e3);
        println!("{name:<32} {rebuild:>8.2} s {index:>8} MiB {up:>11.1} ms {down:>11.1} ms");
    }
    Ok(())
}

/// Seconds, and what was printed.
type Answer = Result<(f64, String)>;

/// The median time of some tries; each answer must have so many lines.
fn median(ask: &dyn Fn(&[&str]) -> Answer, words: &[&str], lines: u64) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..11 {
        let (time, answer) = ask(words)?;
        ensure!(answer.lines().count() as u64 == lines, "{words:?}: {} lines, not {lines}", answer.lines().count());
        times.push(time);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn output(run: u64, task: u64) -> String {
    format!("/bench/run{run}/out/{task}")
}

fn file(number: u64) -> FileKey {
    let filesystem = FilesystemId { magic: 0xEF53, host: 1, volume: 1 };
    FileKey { filesystem, inode: number, generation: 1 }
}

/// Writes the log of one run: a shell that starts tasks, each of which reads its own inputs and the file before and makes one.
fn write(store: &Store, run: u64, tasks: u64) -> Result<()> {
    let workflow = Workflow {
        id: Uuid::new_v4(),
        name: format!("run{run}"),
        started: run + 1,
        exit_code: Some(0),
        ended: Some(run + 2),
        ..Workflow::default()
    };
    let mut log = Writer::create(&store.log_path(workflow.id), &workflow)?;
    let mut clock = run * 1_000_000_000_000;
    let mut next = || {
        clock += 1000;
        BootNs(clock)
    };
    let key =
        |image: u64| ProcessKey { boot: 1, pid_namespace: 1, tgid: image as u32, start_ticks: run, digest: image };
    let state = FileState { size: ByteCount(10), mtime: UnixNs(5), ctime: UnixNs(5), links: 1 };
    let process = |log: &mut Writer, image: u64, parent: Option<u64>, program: &str, at: BootNs, then: BootNs| {
        log.append(&Observation::Forked(Forked {
            image: ImageNo(image),
            parent: parent.map(ImageNo),
            process: key(image),
            pid: Pid(image as u32),
            at,
            shares_memory: false,
        }));
        log.append(&Observation::Execed(Box::new(Execed {
            image: ImageNo(image + 1),
            previous: ImageNo(image),
            process: key(image + 1),
            pid: Pid(image as u32),
            at: then,
            executable: file(1),
            state,
            executable_path: format!("/usr/bin/{program}").into(),
            asked: program.into(),
            directory: "/bench".into(),
            arguments: [program, "--option", "value"].map(Box::from).into(),
            arguments_cut: 0,
            environment: Arc::default(),
            credentials: Credentials::default(),
            costs: Costs::default(),
        })));
    };
    let used = |log: &mut Writer, image: u64, number: u64, path: &str, access: Access, at: BootNs| {
        log.append(&Observation::Touched(Box::new(Touched {
            image: ImageNo(image),
            file: file(number),
            kind: FileKind::Regular,
            access,
            at,
            path: Some(Arc::from(path)),
            nameless: false,
            created: access == Access::Write,
            truncated: false,
            executable: false,
            uncertain: false,
            open_file: number,
            state,
        })));
        log.append(&Observation::Summed(Summed {
            image: ImageNo(image),
            file: file(number),
            access,
            at: BootNs(at.0 + 100),
            bytes: ByteCount(10),
            calls: 1,
            first: at,
            last: BootNs(at.0 + 50),
            last_close: true,
            state,
        }));
    };
    process(&mut log, 1, None, "sh", next(), next());
    for task in 0..tasks {
        let image = 3 + 2 * task;
        process(&mut log, image, Some(2), "step", next(), next());
        // Numbers of files: a million a run, a hundred a task.
        let base = 1_000_000 * 100 * (run + 1) + 100 * task;
        for input in 0..INPUTS {
            let path = format!("/bench/run{run}/in/{task}/{input}");
            used(&mut log, image + 1, base + 1 + input, &path, Access::Read, next());
        }
        if task % CHAIN != 0 {
            used(&mut log, image + 1, base - 100, &output(run, task - 1), Access::Read, next());
        } else {
            used(&mut log, image + 1, base + 50, &format!("/bench/run{run}/first"), Access::Read, next());
        }
        used(&mut log, image + 1, base, &output(run, task), Access::Write, next());
        let ended = Ended { image: ImageNo(image + 1), at: next(), code: 0, costs: Costs::default() };
        log.append(&Observation::Ended(ended));
        if log.pending() > 10_000 {
            log.commit()?;
        }
    }
    log.append(&Observation::Ended(Ended { image: ImageNo(2), at: next(), code: 0, costs: Costs::default() }));
    log.end(&workflow)?;
    Ok(())
}
