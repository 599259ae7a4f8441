//! `flowcept workflows` and `flowcept show`. It does not relate anything itself.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use flowcept_provenance::activity::one_line;

use crate::capture::clock;
use crate::formats::flowcept::Files;
use crate::output::{self, run::Part};
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
        println!("{}  {status:<8}  {:<20}  {}", &w.id.to_string()[..8], w.name, one_line(&w.command.join(" ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows one run, or one task of it with those that it started.
pub(super) fn show(store: &Store, name: &str, failed: bool, json: bool) -> Result<ExitCode> {
    let Found { run, task } = Library::open(store)?.find_task(name)?;
    let told = &run.told;
    if json {
        let (tasks, workflow): (Vec<_>, Vec<_>) = run.documents(Files::Bounded).into_iter().partition(is_task);
        println!("{}", serde_json::json!({"workflow": workflow.first(), "tasks": tasks}));
        return Ok(ExitCode::SUCCESS);
    }
    let part = match task {
        _ if failed => Part::Failed,
        Some(task) => Part::Task(task),
        None => Part::Whole,
    };
    print!("{}", output::run::text(&run.workflow, told, part, output::Style::of_stdout()));
    Ok(ExitCode::SUCCESS)
}

/// Prints how many documents a run has in Flowcept's databases.
pub(super) fn count(store: &Store, name: &str) -> Result<ExitCode> {
    let run = Library::open(store)?.find(name)?;
    let (tasks, workflows): (Vec<_>, Vec<_>) = run.documents(Files::Bounded).into_iter().partition(is_task);
    let (tasks, workflows) = (tasks.len(), workflows.len());
    let count =
        serde_json::json!({"workflow_id": run.workflow.id, "tasks": tasks, "workflows": workflows, "objects": 0});
    println!("{count}");
    Ok(ExitCode::SUCCESS)
}

fn is_task(document: &serde_json::Value) -> bool {
    document["type"] == "task"
}
