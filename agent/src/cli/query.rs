//! `flowcept query`: tasks by Flowcept's filters.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::formats::flowcept::{Files, read};
use crate::query::Library;
use crate::query::filter::{Filter, compared, field};
use crate::sinks::table::as_row;
use crate::store::Store;

/// Prints the tasks that a filter asks for, as Flowcept has them in its database.
pub(super) fn query(
    store: &Store,
    filter: &str,
    project: &[String],
    sort: Option<&str>,
    limit: Option<usize>,
) -> Result<ExitCode> {
    let filter: Value = serde_json::from_str(filter).context("the filter is no JSON")?;
    let filter = Filter::read(&filter).map_err(anyhow::Error::msg)?;
    let mut library = Library::open(store)?;
    let mut rows = Vec::new();
    for number in asked(&library, &filter)? {
        let run = library.run(number)?;
        for document in run.documents(Files::Bounded) {
            let Value::Object(mut row) = document else { continue };
            if row.get("type").is_none_or(|kind| kind != "task") {
                continue;
            }
            as_row(&mut row);
            if filter.matches(&row) {
                rows.push(row);
            }
        }
        library.forget(number);
        // More than that many are not asked for, and they come in the order in which they are printed.
        if sort.is_none() && limit.is_some_and(|limit| rows.len() >= limit) {
            break;
        }
    }
    if let Some(sort) = sort {
        let (name, down) = sort.strip_prefix('-').map_or((sort, false), |name| (name, true));
        rows.sort_by(|one, other| order(one, other, name, down));
    }
    rows.truncate(limit.unwrap_or(usize::MAX));
    if !project.is_empty() {
        rows.iter_mut().for_each(|row| row.retain(|name, _| project.iter().any(|wanted| wanted == name)));
    }
    let rows: Vec<Value> = rows.into_iter().map(Value::Object).collect();
    println!("{:#}", Value::Array(rows));
    Ok(ExitCode::SUCCESS)
}

/// The runs that can have such tasks, oldest first.
fn asked(library: &Library, filter: &Filter) -> Result<Vec<u64>> {
    let reader = library.index().reader()?;
    if let Some(id) = filter.only("workflow_id") {
        let number = reader.number(read::id(id))?;
        return Ok(number.into_iter().map(|(number, _)| number).collect());
    }
    let mut numbers: Vec<u64> = reader.workflows()?.into_iter().map(|(number, _)| number).collect();
    if let Some(name) = filter.only("activity_id") {
        let had: HashSet<u64> = reader.with_activity(name)?.into_iter().map(|(number, _)| number).collect();
        numbers.retain(|number| had.contains(number));
    }
    Ok(numbers)
}

/// By a field; tasks without it, or with something that has no order, come last.
fn order(one: &Map<String, Value>, other: &Map<String, Value>, name: &str, down: bool) -> Ordering {
    let [one, other] = [one, other].map(|row| field(row, name).filter(|v| v.is_number() || v.is_string()));
    match (one, other) {
        (Some(one), Some(other)) => {
            let order = compared(one, other).unwrap_or_else(|| one.is_string().cmp(&other.is_string()));
            if down { order.reverse() } else { order }
        }
        _ => other.is_some().cmp(&one.is_some()),
    }
}
