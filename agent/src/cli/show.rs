//! `flowcept workflows` and `flowcept show`. It does not relate anything itself.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use flowcept_provenance::activity::{ActivityNo, Outcome};
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::role::Role;

use crate::capture::clock;
use crate::formats::flowcept;
use crate::query::{Found, Library};
use crate::store::Store;

/// Lists runs, newest first: all, those that had a task of that name, those that began within that time.
pub(super) fn workflows(
    store: &Store,
    activity: Option<&str>,
    since: Option<Duration>,
    json: bool,
) -> Result<ExitCode> {
    let index = store.index()?;
    let reader = index.reader()?;
    let since = since.map(|s| clock::unix_ns().saturating_sub(u64::try_from(s.as_nanos()).unwrap_or(u64::MAX)));
    let mut asked: Option<HashSet<u64>> = since.map(|s| reader.since(s)).transpose()?.map(HashSet::from_iter);
    if let Some(name) = activity {
        let had: HashSet<u64> = reader.with_activity(name)?.into_iter().map(|(number, _)| number).collect();
        asked = Some(asked.map_or(had.clone(), |a| a.intersection(&had).copied().collect()));
    }
    let mut rows: Vec<_> = match asked {
        None => reader.workflows()?.into_iter().map(|(_, w)| (w, false)).collect(),
        Some(numbers) => {
            let documents: Result<Vec<_>, _> = numbers.into_iter().map(|n| reader.workflow(n)).collect();
            documents?.into_iter().flatten().map(|w| (w, false)).collect()
        }
    };
    // What is being traced now is in no index yet: its tasks are not known.
    if activity.is_none() {
        let running = store.running()?.into_iter().filter(|w| since.is_none_or(|s| w.started >= s));
        let unlisted: Vec<_> = running.filter(|r| rows.iter().all(|(w, _)| w.id != r.id)).collect();
        rows.extend(unlisted.into_iter().map(|w| (w, true)));
    }
    rows.sort_by_key(|(w, _)| std::cmp::Reverse(w.started));
    if json {
        println!("{}", rows.iter().map(|(w, r)| super::row(w, *r)).collect::<serde_json::Value>());
        return Ok(ExitCode::SUCCESS);
    }
    for (w, running) in &rows {
        let status = if *running { "RUNNING" } else { w.status() };
        println!("{}  {status:<8}  {:<20}  {}", &w.id.to_string()[..8], w.name, w.command.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows one run, or one task of it with those that it started.
pub(super) fn show(store: &Store, name: &str, failed: bool, json: bool) -> Result<ExitCode> {
    let Found { run, task } = Library::open(store)?.find_task(name)?;
    let told = &run.told;
    let base = |file: &_| run.base(file);
    if json {
        let tasks = flowcept::tasks(&run.workflow, told, flowcept::Files::Bounded, &base);
        let workflow = flowcept::workflow(&run.workflow, told, &base);
        println!("{}", serde_json::json!({"workflow": workflow, "tasks": tasks}));
        return Ok(ExitCode::SUCCESS);
    }
    println!("workflow {}  {}  {}", run.workflow.id, run.workflow.name, run.workflow.status());
    if failed {
        for (i, activity) in told.activities.iter().enumerate() {
            if matches!(activity.outcome, Outcome::Exited(1..) | Outcome::Signalled(..)) {
                println!("{}  {}", ending(activity.outcome), activity.command_line());
                files(told, ActivityNo(i as u32), "    ");
                for (asked, errno) in &activity.failed_execs {
                    println!("    could not execute {asked}: {}", std::io::Error::from_raw_os_error(*errno as i32));
                }
            }
        }
    } else {
        let mut children = vec![Vec::new(); told.activities.len()];
        let mut roots = Vec::new();
        for (i, activity) in told.activities.iter().enumerate() {
            match activity.previous.or(activity.parent) {
                Some(p) => children[p.0 as usize].push(i),
                None => roots.push(i),
            }
        }
        if let Some(task) = task {
            roots = vec![task.0 as usize];
        }
        for root in roots {
            tree(told, &children, root, "");
        }
    }
    if told.gaps.is_empty() {
        println!("coverage: complete");
    } else {
        println!("coverage: not complete");
        for gap in &told.gaps {
            let who = gap.activity.map_or_else(String::new, |a| format!(" by {}", told.activity(a).name));
            println!("  {} ×{}{who}: {}", gap.kind, gap.count, gap.why);
        }
    }
    let books = &told.books;
    println!("books: {} processes = {} ended + {} living", books.forked, books.ended, books.living);
    Ok(ExitCode::SUCCESS)
}

fn ending(outcome: Outcome) -> String {
    match outcome {
        Outcome::Running => "running".into(),
        Outcome::Exited(code) => format!("exit {code}"),
        Outcome::Signalled(signal, core) => format!("signal {signal}{}", if core { " (core dumped)" } else { "" }),
        Outcome::Replaced => "exec".into(),
    }
}

/// Tasks without a tree's depth limit would overflow no stack of ours: trees of processes are rarely deeper than hundreds.
fn tree(told: &Provenance, children: &[Vec<usize>], at: usize, indent: &str) {
    let activity = &told.activities[at];
    let outcome = match activity.outcome {
        Outcome::Exited(0) | Outcome::Replaced => String::new(),
        other => format!("  {}", ending(other)),
    };
    println!("{indent}{}{outcome}", activity.command_line());
    let inner = format!("{indent}  ");
    files(told, ActivityNo(at as u32), &inner);
    for child in &children[at] {
        tree(told, children, *child, &inner);
    }
}

fn files(told: &Provenance, no: ActivityNo, indent: &str) {
    let mut hidden = 0;
    for u in told.used.iter().filter(|u| u.activity == no) {
        if matches!(u.role, Role::Data | Role::Temporary) {
            println!("{indent}< {}", u.path);
        } else {
            hidden += 1;
        }
    }
    for g in told.generated.iter().filter(|g| g.activity == no) {
        println!("{indent}> {}{}", g.path, if g.role == Role::Temporary { " (temporary)" } else { "" });
    }
    if hidden > 0 {
        println!("{indent}  and {hidden} programs, libraries and settings");
    }
}
