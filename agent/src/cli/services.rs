//! `flowcept check-services`: whether each service that the settings enable works. Nothing is sent.

use std::process::ExitCode;

use anyhow::{Error, Result};
use serde_json::{Value, json};

use crate::settings::Settings;
use crate::{exit_code, sinks};

/// Tries each; what to do where one does not work.
pub(super) fn check(settings: &Settings, as_json: bool) -> Result<ExitCode> {
    let name = super::Name { channel: None, stream: None };
    let mut urls = settings.places();
    urls.extend(settings.databases());
    urls.dedup();
    let mut rows = Vec::new();
    for url in &urls {
        let tried = sinks::sink(url, name.place(settings, url)).and_then(|mut sink| {
            let reached = sink.deliver(&[]).map_err(|why| Error::msg(why.to_string()));
            reached.map(|()| sink.place().to_string())
        });
        rows.push((url, tried));
    }
    let works = rows.iter().all(|(_, tried)| tried.is_ok());
    if as_json {
        let rows: Value = rows
            .iter()
            .map(|(url, tried)| match tried {
                Ok(place) => json!({"service": service(url), "place": place, "works": true}),
                Err(why) => json!({"service": service(url), "works": false, "why": format!("{why:#}"), "do": advice(settings, url)}),
            })
            .collect();
        println!("{rows}");
    } else {
        for (url, tried) in &rows {
            match tried {
                Ok(place) => println!("{:<9} works          {place}", service(url)),
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
