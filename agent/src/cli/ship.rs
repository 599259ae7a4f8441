//! `flowcept ship`: what outlets have not delivered yet. Each has its own cursor, and one that is not there keeps none of the others.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Name;
use crate::exit_code;
use crate::formats::flowcept::Files;
use crate::query::Library;
use crate::settings::Settings;
use crate::sinks::{self, Sink, outlet::Outlet};
use crate::store::Store;
use crate::store::index::Index;

/// What a place was given, and what waits for it still.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Delivered {
    pub(super) place: String,
    pub(super) workflows: usize,
    documents: usize,
    pub(super) left: usize,
}

/// Delivers all that waits, to these places or to those of the settings.
pub(super) fn ship(
    store: &Store,
    settings: &Settings,
    to: &[String],
    name: &Name,
    wait: Duration,
    as_json: bool,
) -> Result<ExitCode> {
    let places = if to.is_empty() { settings.places() } else { to.to_vec() };
    if places.is_empty() {
        bail!(
            "no place is named: give --to, set MQ_URI, or enable mq, a database or project.dump_buffer in {}",
            super::place_of(settings)
        );
    }
    let mut code = ExitCode::SUCCESS;
    for url in &places {
        match sinks::sink(url, name.place(settings, url)).and_then(|sink| deliver(store, sink, wait, None)) {
            Ok(Delivered { place, workflows, documents, .. }) if as_json => {
                println!("{}", json!({"to": place, "workflows": workflows, "documents": documents}));
            }
            Ok(Delivered { place, workflows, documents, .. }) => {
                println!("{workflows} workflows in {documents} documents to {place}");
            }
            Err(error) => {
                eprintln!("flowcept: {error:#}");
                code = ExitCode::from(exit_code::FAILED);
            }
        }
    }
    Ok(code)
}

/// The numbers of the workflows that wait for a place which is to have this one next, oldest first.
pub(super) fn waiting(index: &Index, next: u64) -> Result<Vec<u64>> {
    let numbers = index.reader()?.workflows()?.into_iter().map(|(number, _)| number);
    Ok(numbers.filter(|number| *number >= next).collect())
}

/// Delivers what waits for one place, oldest first; after `until` no further workflow is begun.
pub(super) fn deliver(store: &Store, sink: Box<dyn Sink>, wait: Duration, until: Option<Instant>) -> Result<Delivered> {
    let mut library = Library::open(store)?;
    let mut outlet = Outlet::open(store.folder(), sink, wait)?;
    let waiting = waiting(library.index(), outlet.next())?;
    let mut done = Delivered { place: outlet.place().into(), workflows: 0, documents: 0, left: waiting.len() };
    for number in &waiting {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let run = library.run(*number)?;
        let documents = run.documents(Files::Bounded);
        let Delivered { workflows, left, .. } = done;
        outlet.deliver(*number, &documents).with_context(|| format!("{workflows} workflows delivered; {left} wait"))?;
        library.forget(*number);
        done.workflows += 1;
        done.documents += documents.len();
        done.left -= 1;
    }
    Ok(done)
}
