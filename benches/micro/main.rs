//! What one call costs: watched by the kernel's probes, by the library, and unwatched beside somebody else's run, in nanoseconds
//! of CPU above the call's own cost. What the identity of a file costs, taken at its first use, is `open+read+close` less
//! `open+close` and `pread again`.
//! The calls are this program's own, so that nothing else is measured. Then what telemetry costs a task, of all kinds: while it is
//! captured, and while it is told. It asserts no timing.
//!
//! usage: bench-micro BINARY [--rounds N] [--small]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, io};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};

/// A call, or a few that belong together, on a small file.
struct Calls {
    name: &'static str,
    make: fn(&Path, &File) -> io::Result<()>,
}

const CALLS: [Calls; 6] = [
    Calls {
        name: "getppid",
        make: |_, _| {
            black_box(std::os::unix::process::parent_id());
            Ok(())
        },
    },
    Calls {
        name: "open+close",
        make: |path, _| {
            black_box(File::open(path)?);
            Ok(())
        },
    },
    Calls { name: "pread again", make: |_, file| file.read_at(&mut [0; 1], 0).map(|_| ()) },
    Calls { name: "pwrite again", make: |_, file| file.write_at(b"x", 0).map(|_| ()) },
    Calls {
        name: "open+read+close",
        make: |path, _| {
            let mut bytes = [0; 16];
            black_box(File::open(path)?.read(&mut bytes)?);
            Ok(())
        },
    },
    Calls {
        name: "create+write+close",
        make: |path, _| File::create(path.with_extension("new"))?.write(b"some bytes").map(|_| ()),
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [word, name, count, path] = arguments.as_slice()
        && word == "--calls"
    {
        return calls(name, count.parse()?, Path::new(path));
    }
    let Some(binary) = arguments.first() else { bail!("usage: bench-micro BINARY [--rounds N] [--small]") };
    let binary = fs::canonicalize(binary).with_context(|| format!("find {binary}"))?;
    let small = arguments.iter().any(|a| a == "--small");
    let rounds = arguments.iter().position(|a| a == "--rounds").and_then(|i| arguments.get(i + 1));
    let rounds: usize = if small { 1 } else { rounds.map_or(Ok(7), |n| n.parse())? };
    let count = if small { 1000 } else { 200_000 };
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let path = base.path().join("file");
    fs::write(&path, "some bytes")?;
    let library = binary.with_file_name("libflowcept.so");
    let library = Some(library.as_path());
    println!("{:<20} {:>10} {:>10} {:>10} {:>26}", "call", "alone", "kernel", "library", "unwatched beside a run");
    for calls in &CALLS {
        let (mut alone, mut traced, mut inside, mut beside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(measured(&[], None, calls.name, count, &path)?);
            inside.push(measured(&[], library, calls.name, count, &path)?);
            let store = base.path().join("store");
            let run = [binary.as_os_str(), "--store".as_ref(), store.as_ref(), "run".as_ref(), "-q".as_ref()];
            traced.push(measured(&[&run[..], &["--".as_ref()]].concat(), None, calls.name, count, &path)?);
            let mut other = Command::new(&binary)
                .args(&run[1..])
                .args(["--", "cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            // What comes back has been through: the probes are attached.
            let (mut to, mut from) = (other.stdin.take().context("a pipe")?, other.stdout.take().context("a pipe")?);
            to.write_all(b"x")?;
            from.read_exact(&mut [0])?;
            beside.push(measured(&[], None, calls.name, count, &path)?);
            drop(to);
            ensure!(other.wait()?.success(), "the run beside failed");
            fs::remove_dir_all(&store)?;
        }
        let name = calls.name;
        let alone = median(&mut alone);
        let [traced, inside, beside] = [traced, inside, beside].map(|mut costs| median(&mut costs) - alone);
        println!("{name:<20} {alone:>7.0} ns {traced:>+7.0} ns {inside:>+7.0} ns {beside:>+23.0} ns");
    }
    telemetry(&binary, base.path(), rounds, if small { 50 } else { 2_000 })
}

/// Runs as many programs with telemetry and without; what a task more costs of CPU time, captured and told.
fn telemetry(binary: &Path, base: &Path, rounds: usize, tasks: usize) -> Result<()> {
    let all =
        "telemetry_capture: {cpu: true, per_cpu: true, process_info: true, mem: true, disk: true, network: true}\n";
    let script = format!("i=0; while [ $i -lt {tasks} ]; do /bin/true; i=$((i + 1)); done");
    let (store, settings) = (base.join("store"), base.join("settings.yaml"));
    let (mut captured, mut told) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut costs = Vec::new();
        for text in [all, ""] {
            fs::write(&settings, text)?;
            for arguments in [&["run", "-q", "--", "sh", "-c", &script][..], &["export", "last"]] {
                let mut command = Command::new(binary);
                command.arg("--settings").arg(&settings).arg("--store").arg(&store).args(arguments);
                let before = children()?;
                let output = command.stdin(Stdio::null()).output()?;
                costs.push(children()? - before);
                ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
                let with = output.stdout.windows(18).filter(|w| w == b"telemetry_at_start").count();
                let wanted = if arguments[0] == "export" && !text.is_empty() { tasks + 1 } else { 0 };
                ensure!(with == wanted, "{with} tasks have telemetry, not {wanted}");
            }
            fs::remove_dir_all(&store)?;
        }
        let [run, export, run_without, export_without] = costs[..] else { bail!("four runs have four costs") };
        captured.push((run - run_without) / tasks as f64);
        told.push((export - export_without) / tasks as f64);
    }
    let [captured, told] = [&mut captured, &mut told].map(|costs| median(costs));
    println!("telemetry of a task: {captured:+.1} µs captured, {told:+.1} µs told");
    Ok(())
}

/// Microseconds of CPU time that the children have had that have ended.
fn children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |t: TimeVal| t.tv_sec() as f64 * 1e6 + t.tv_usec() as f64;
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

/// Nanoseconds a call, as the process that makes them prints it.
fn measured(before: &[&std::ffi::OsStr], library: Option<&Path>, name: &str, count: u32, path: &Path) -> Result<f64> {
    let own = env::current_exe()?;
    let mut words = before.iter().copied().chain([own.as_os_str()]);
    let mut command = Command::new(words.next().context("this program has a name")?);
    command.args(words).args(["--calls", name, &count.to_string()]).arg(path);
    let spool = tempfile::tempdir_in(path.parent().context("a file lies in a folder")?)?;
    if let Some(library) = library {
        command.env("LD_PRELOAD", library).env("FLOWCEPT_SPOOL", spool.path());
    }
    let output = command.stdin(Stdio::null()).output()?;
    let left = fs::read_dir(spool.path())?.count();
    ensure!(left == usize::from(library.is_some()), "{name}: {left} spools: is the library beside the binary?");
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Makes the calls and prints what one costs.
fn calls(name: &str, count: u32, path: &Path) -> Result<()> {
    let calls = CALLS.iter().find(|c| c.name == name).context("no such call")?;
    let file = File::options().read(true).write(true).open(path)?;
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(|t| t.tv_sec() as f64 * 1e9 + t.tv_nsec() as f64);
    // The first ones fill caches and tell the first touches.
    for _ in 0..count / 10 {
        (calls.make)(path, &file)?;
    }
    let begun = now()?;
    for _ in 0..count {
        (calls.make)(path, &file)?;
    }
    println!("{}", (now()? - begun) / f64::from(count));
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
