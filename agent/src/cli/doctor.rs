//! `flowcept doctor`: what this host can capture, found by trying. It changes nothing.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use flowcept_probes::host::Facts;
use flowcept_wire::count;
use serde_json::json;

use crate::capture::spool::{self, Known, Spool};
use crate::{exit_code, session};

/// Looks, loads, attaches and triggers.
pub(super) fn run(as_json: bool) -> Result<ExitCode> {
    let facts = Facts::probed();
    let tried = attempt();
    let inside = attempt_inside();
    let other = other();
    let yes = |fact: Option<bool>| fact.map_or("not known", |f| if f { "yes" } else { "no" });
    if as_json {
        let value = json!({"kernel": facts.release, "may_load": facts.may_load(), "btf": facts.btf,
            "lockdown": facts.lockdown, "tracing_programs": facts.tracing, "ring_buffer": facts.ring_buffer,
            "task_storage": facts.task_storage, "works": tried.is_ok(),
            "why_not": tried.as_ref().err().map(|e| format!("{e:#}")), "library_works": inside.is_ok(),
            "library_why_not": inside.as_ref().err().map(|e| format!("{e:#}")), "other_flowcept": other});
        println!("{value}");
    } else {
        println!("kernel                {}", facts.release);
        println!(
            "may load BPF          {}",
            if facts.may_load() { "yes" } else { "no: needs root, or CAP_BPF and CAP_PERFMON" }
        );
        println!("kernel BTF            {}", if facts.btf { "yes" } else { "no: CONFIG_DEBUG_INFO_BTF is needed" });
        println!("tracing programs      {}", yes(facts.tracing));
        println!("ring buffer           {}", yes(facts.ring_buffer));
        println!("task storage          {}", yes(facts.task_storage));
        match &tried {
            Ok(()) => println!("tracepoint rung       works: loaded, attached, and saw a program start, read and end"),
            Err(error) => println!("tracepoint rung       does not work: {error:#}"),
        }
        match &inside {
            Ok(()) => println!("library               works: /bin/true ran with it and left its records"),
            Err(error) => println!("library               does not work: {error:#}"),
        }
        if let Some(other) = &other {
            println!(
                "first on PATH         {}, which is another flowcept: Flowcept's own commands are taken in its spelling here too, so put {} first",
                other.display(),
                own().parent().unwrap_or(&own()).display()
            );
        }
        println!(
            "not followed (told as gaps): io_uring, libaio, sockets, System V and anonymous shared memory, message queues, 32-bit programs"
        );
    }
    Ok(if tried.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(exit_code::FAILED) })
}

fn own() -> PathBuf {
    std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default()
}

/// The flowcept that `flowcept` starts, where it is not this one.
fn other() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let is_program =
        |file: &PathBuf| std::fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.mode() & 0o111 != 0);
    let first = std::env::split_paths(&path).map(|folder| folder.join("flowcept")).find(is_program)?;
    std::fs::canonicalize(&first).is_ok_and(|file| file != own()).then_some(first)
}

/// Lets a program run with the library in it.
fn attempt_inside() -> Result<()> {
    let library = session::inside::library()?;
    let spool = std::env::temp_dir().join(format!("flowcept-doctor-{}", std::process::id()));
    let status = Command::new("/bin/true").env("LD_PRELOAD", &library).env("FLOWCEPT_SPOOL", &spool).status();
    let left = spool::workflows(&spool).iter().any(|f| Spool::open(f).look(&Known::default()).segments > 0);
    let _ = std::fs::remove_dir_all(&spool);
    status.context("run /bin/true")?;
    anyhow::ensure!(
        left,
        "/bin/true ran with {} and left no records: is that library for this C library, and may it be read here?",
        library.display()
    );
    Ok(())
}

/// Loads, attaches, and lets this process's child trigger them.
fn attempt() -> Result<()> {
    let mut probes = session::probes(1 << 20, &[])?;
    probes.watch(std::process::id(), 1)?;
    Command::new("/bin/true").status().context("run /bin/true")?;
    let counters = probes.counters()?;
    let seen = |kind: flowcept_wire::header::Kind| counters[(count::WRITTEN + kind as u32) as usize] > 0;
    use flowcept_wire::header::Kind;
    for (kind, what) in
        [(Kind::Forked, "a fork"), (Kind::Execed, "an exec"), (Kind::Touched, "a file's use"), (Kind::Ended, "an end")]
    {
        anyhow::ensure!(seen(kind), "the probes are attached and did not see {what}");
    }
    Ok(())
}
