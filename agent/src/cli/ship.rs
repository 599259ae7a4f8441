//! `flowcept ship`: what an outlet has not delivered yet.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::Name;
use crate::formats::flowcept::{self, Files};
use crate::query::Library;
use crate::sinks::{self, outlet::Outlet};
use crate::store::Store;

/// Delivers all that waits, oldest first.
pub(super) fn ship(store: &Store, to: &str, name: &Name, wait: Duration, as_json: bool) -> Result<ExitCode> {
    let sink = sinks::sink(to, name.place())?;
    let mut library = Library::open(store)?;
    let mut outlet = Outlet::open(store.folder(), sink, wait)?;
    let numbers: Vec<u64> = library.index().reader()?.workflows()?.into_iter().map(|(number, _)| number).collect();
    let waiting: Vec<u64> = numbers.into_iter().filter(|number| *number >= outlet.next()).collect();
    let (mut workflows, mut count) = (0, 0);
    for number in &waiting {
        let run = library.run(*number)?;
        let base = |file: &_| run.base(file);
        let mut documents = vec![flowcept::workflow(&run.workflow, &run.told, &base)];
        documents.extend(flowcept::tasks(&run.workflow, &run.told, Files::Bounded, &base));
        let left = waiting.len() - workflows;
        outlet.deliver(*number, &documents).with_context(|| format!("{workflows} workflows delivered; {left} wait"))?;
        library.forget(*number);
        workflows += 1;
        count += documents.len();
    }
    if as_json {
        println!("{}", json!({"to": outlet.place(), "workflows": workflows, "documents": count}));
    } else {
        println!("{workflows} workflows in {count} documents to {}", outlet.place());
    }
    Ok(ExitCode::SUCCESS)
}
