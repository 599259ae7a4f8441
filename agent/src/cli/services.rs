//! `flowcept check-services`: whether each service that the settings enable works. Nothing is sent.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::ship;
use crate::settings::Settings;
use crate::sinks::outlet;
use crate::store::Store;
use crate::{exit_code, sinks};

/// What works.
struct Works {
    place: String,
    /// Workflows of the store that wait to be shipped there, where any are.
    workflows: Option<usize>,
    /// Messages there that the keepers have not settled, where it keeps them.
    messages: Option<u64>,
}

/// Tries each; what to do where one does not work.
pub(super) fn check(store: &Store, settings: &Settings, as_json: bool) -> Result<ExitCode> {
    let places = settings.places();
    let mut urls = places.clone();
    urls.extend(settings.databases());
    urls.dedup();
    let rows: Vec<_> = urls.iter().map(|url| (url, tried(store, settings, url, places.contains(url)))).collect();
    let works = rows.iter().all(|(_, tried)| tried.is_ok());
    if as_json {
        let rows: Value = rows
            .iter()
            .map(|(url, tried)| match tried {
                Ok(Works { place, workflows, messages }) => json!({"service": service(url), "place": place, "works": true,
                    "workflows_waiting": workflows, "messages_waiting": messages}),
                Err(why) => json!({"service": service(url), "works": false, "why": format!("{why:#}"), "do": advice(settings, url)}),
            })
            .collect();
        println!("{rows}");
    } else {
        for (url, tried) in &rows {
            match tried {
                Ok(Works { place, workflows, messages }) => {
                    println!("{:<9} works          {place}", service(url));
                    let group = super::group(settings);
                    let lines = [
                        workflows
                            .filter(|count| *count > 0)
                            .map(|count| format!("{count} workflows wait for `flowcept ship`")),
                        messages.map(|count| format!("{count} messages wait for the keepers of the group {group}")),
                    ];
                    lines.iter().flatten().for_each(|line| println!("{:>25}{line}", ""));
                }
                Err(why) => {
                    println!("{:<9} does not work  {why:#}\n{:>25}{}", service(url), "", advice(settings, url));
                }
            }
        }
        if rows.is_empty() {
            println!("no service is enabled in {}", super::place_of(settings));
        }
    }
    super::settings::warn_of_readers(settings);
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::from(exit_code::FAILED) })
}

fn tried(store: &Store, settings: &Settings, url: &str, is_shipped_to: bool) -> Result<Works> {
    let name = super::Name::default();
    let name = name.place(settings, url);
    let mut sink = sinks::sink(url, name)?;
    sink.deliver(&[])?;
    let workflows = || -> Result<usize> {
        let next = outlet::next(store.folder(), sink.place())?;
        Ok(ship::waiting(&store.index()?, next)?.len())
    };
    Ok(Works {
        workflows: is_shipped_to.then(workflows).transpose()?,
        messages: sinks::lag(url, name, super::group(settings))?,
        place: sink.place().into(),
    })
}

/// What a URL is of, for people.
fn service(url: &str) -> &'static str {
    match url.split(':').next().unwrap_or_default() {
        "redis" | "rediss" => "Redis",
        "kafka" | "kafkas" => "Kafka",
        "amqp" | "amqps" => "RabbitMQ",
        "mongodb" => "MongoDB",
        "lmdb" => "LMDB",
        "jsonl" => "file",
        _ => "service",
    }
}

/// Where it is set, and how it is had.
fn advice(settings: &Settings, url: &str) -> String {
    let (keys, compose): (&[&str], _) = match service(url) {
        "LMDB" => (&["databases.lmdb.path"], None),
        "file" => (&["project.dump_buffer.path"], None),
        "MongoDB" => (&["databases.mongodb.uri", "databases.mongodb.host", "databases.mongodb.port"], Some("mongodb")),
        "Kafka" => (&["mq.uri", "mq.host", "mq.port"], Some("kafka")),
        "RabbitMQ" => (&["mq.uri", "mq.host", "mq.port"], Some("rabbitmq")),
        _ if settings.is("mq.same_as_kvdb") => (&["kv_db.uri", "kv_db.host", "kv_db.port"], Some("redis")),
        _ => (&["mq.uri", "mq.host", "mq.port"], Some("redis")),
    };
    // A URL goes before the rest.
    let has_url = keys[0].ends_with(".uri") && !settings.get(keys[0]).0.is_null();
    let keys = if has_url || keys.len() == 1 { &keys[..1] } else { &keys[1..] };
    let origins = keys.iter().map(|key| format!("{key} ({})", settings.origin(key)));
    let start = compose.map(|name| format!("; deployment/compose/{name}.yaml starts one")).unwrap_or_default();
    format!("it is named by {}{start}", origins.collect::<Vec<_>>().join(" and "))
}
