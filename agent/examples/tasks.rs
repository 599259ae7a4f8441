//! Tells of each task how it ended and what it was: `cargo run --example tasks -- redis://127.0.0.1:6379 runs tasks`
//!
//! A consumer reads a [`Queue`], here what a group has not had yet of a stream. What it has not settled comes again.

use std::time::Duration;

use anyhow::{Context, Result};
use flowcept_agent::keeper::document;
use flowcept_agent::sinks::Queue;
use flowcept_agent::sinks::redis::stream::Group;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, stream, group] = &arguments[..] else { anyhow::bail!("usage: tasks URL STREAM GROUP") };
    let mut queue = Group::open(url, stream, group)?;
    loop {
        let Some(message) = queue.message(Duration::from_secs(1))? else { continue };
        let task = document::decoded(&message).map_err(anyhow::Error::msg)?;
        if task.get("type").is_some_and(|kind| kind == "task") {
            let text = |name| task.get(name).and_then(|v| v.as_str()).with_context(|| format!("a task without {name}"));
            println!("{} {} {}", text("status")?, text("activity_id")?, text("task_id")?);
        }
        queue.settle(1)?;
    }
}
