//! W3C PROV-JSON (<https://www.w3.org/submissions/prov-json/>): tasks as activities, file versions and names as
//! entities, the user as agent. It does not know where the document goes.

use std::collections::{HashMap, HashSet};

use flowcept_provenance::identity::EntityId;
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::quantity::BootNs;
use flowcept_provenance::relation::Manner;
use serde_json::{Map, Value, json};

use crate::formats::flowcept::Base;
use crate::workflow::Workflow;

/// What our names are relative to.
const NAMESPACE: &str = "https://flowcept.github.io/ns/";

/// The whole workflow as one document.
pub fn document(w: &Workflow, told: &Provenance, base: Base<'_>) -> Value {
    let time = |at: BootNs| iso(at.0.saturating_add(w.boot_offset));
    let entity_id = |i: usize| {
        let e = &told.entities[i];
        EntityId { file: e.file, version: e.version + base(&e.file) }.to_string()
    };
    // ':' and '@' may not stand in the local part of a qualified name as they are; `flowcept:entity` has the id itself.
    let entity = |i: usize| format!("flowcept:{}", entity_id(i).replace([':', '@'], "_"));
    let task = |i: usize| format!("flowcept:{}", told.activities[i].task_id());
    let user = format!("flowcept:user_{}", w.host.user.replace(|c: char| !c.is_alphanumeric(), "_"));
    let mut blocks: Map<String, Value> = Map::new();
    let mut counter = 0;
    let mut put = |block: &str, id: Option<String>, value: Value| {
        counter += 1;
        let id = id.unwrap_or_else(|| format!("_:r{counter}"));
        let block = blocks.entry(block).or_insert_with(|| json!({}));
        block[id] = value;
    };
    put(
        "agent",
        Some(user.clone()),
        json!({"prov:type": {"$": "prov:Person", "type": "prov:QUALIFIED_NAME"}, "flowcept:user": w.host.user}),
    );
    for (i, a) in told.activities.iter().enumerate() {
        let mut value = json!({"prov:startTime": time(a.started), "prov:label": &*a.name,
        "flowcept:activity_id": &*a.name,
            "flowcept:workflow_id": w.id.to_string(), "flowcept:command": a.command_line(),
            "flowcept:status": a.outcome.status()});
        if let Some(ended) = a.ended {
            value["prov:endTime"] = time(ended).into();
        }
        put("activity", Some(task(i)), value);
        put("wasAssociatedWith", None, json!({"prov:activity": task(i), "prov:agent": user}));
        if let Some(parent) = a.parent {
            put(
                "wasStartedBy",
                None,
                json!({"prov:activity": task(i), "prov:starter": task(parent.0 as usize),
                "prov:time": time(a.started)}),
            );
        }
    }
    let mut names = HashMap::new();
    for (i, e) in told.entities.iter().enumerate() {
        put(
            "entity",
            Some(entity(i)),
            json!({"flowcept:entity": entity_id(i), "prov:label": &*e.last_path(), "flowcept:path": &*e.last_path()}),
        );
        let mut called = HashSet::new();
        for name in e.names.iter().filter(|n| called.insert(n.path.clone())) {
            let count = names.len();
            let id = names.entry(name.path.clone()).or_insert_with(|| format!("flowcept:name_{count}")).clone();
            put("entity", Some(id.clone()), json!({"prov:label": &*name.path, "flowcept:name": &*name.path}));
            put("specializationOf", None, json!({"prov:specificEntity": entity(i), "prov:generalEntity": id}));
        }
        if let Some(before) = e.revision_of {
            put(
                "wasDerivedFrom",
                None,
                json!({"prov:generatedEntity": entity(i), "prov:usedEntity": entity(before.0 as usize),
                "prov:type": {"$": "prov:Revision", "type": "prov:QUALIFIED_NAME"}}),
            );
        }
        if let Some((by, at)) = e.invalidated {
            put(
                "wasInvalidatedBy",
                None,
                json!({"prov:entity": entity(i), "prov:activity": task(by.0 as usize), "prov:time": time(at)}),
            );
        }
    }
    for u in &told.used {
        let role = if u.manner == Manner::Revised { "revised" } else { u.role.name() };
        put(
            "used",
            None,
            json!({"prov:activity": task(u.activity.0 as usize), "prov:entity": entity(u.entity.0 as usize),
            "prov:time": time(u.first), "prov:role": role}),
        );
    }
    for g in &told.generated {
        put(
            "wasGeneratedBy",
            None,
            json!({"prov:entity": entity(g.entity.0 as usize), "prov:activity": task(g.activity.0 as usize),
            "prov:time": time(g.last), "prov:role": g.role.name()}),
        );
    }
    for i in &told.informed {
        put(
            "wasInformedBy",
            None,
            json!({"prov:informed": task(i.informed.0 as usize), "prov:informant": task(i.informant.0 as usize),
            "flowcept:via": i.via.name()}),
        );
    }
    let mut document = json!({"prefix": {"flowcept": NAMESPACE}});
    if let Some(document) = document.as_object_mut() {
        document.extend(blocks);
    }
    document
}

/// xsd:dateTime in UTC with microseconds (days by Howard Hinnant's civil_from_days).
fn iso(unix_ns: u64) -> String {
    let (seconds, micros) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000 / 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * of_year + 2) / 153;
    let day = of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day % 3600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use crate::formats::flowcept::example;

    #[test]
    fn every_relation_points_to_what_the_document_has() {
        let (w, told) = example(3, 0);
        let document = super::document(&w, &told, &|_| 4);
        let has = |kind: &str, id: &serde_json::Value| document[kind].get(id.as_str().unwrap_or_default()).is_some();
        for (block, count, ends) in [
            ("used", 6, [("activity", "prov:activity"), ("entity", "prov:entity")]),
            ("wasGeneratedBy", 2, [("activity", "prov:activity"), ("entity", "prov:entity")]),
            ("wasInformedBy", 2, [("activity", "prov:informed"), ("activity", "prov:informant")]),
            ("wasStartedBy", 1, [("activity", "prov:activity"), ("activity", "prov:starter")]),
            ("wasAssociatedWith", 2, [("activity", "prov:activity"), ("agent", "prov:agent")]),
            ("wasDerivedFrom", 1, [("entity", "prov:generatedEntity"), ("entity", "prov:usedEntity")]),
            ("specializationOf", 5, [("entity", "prov:specificEntity"), ("entity", "prov:generalEntity")]),
        ] {
            let records = document[block].as_object().expect(block);
            assert_eq!(records.len(), count, "{block}");
            for (kind, end) in ends {
                assert!(records.values().all(|r| has(kind, &r[end])), "{block} {end}");
            }
        }
        let entity = &document["entity"]["flowcept:ext4-0000000000000002-h00000001_0.3_4"];
        assert_eq!(entity["flowcept:entity"], "ext4-0000000000000002-h00000001:0.3@4");
    }

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        assert_eq!(super::iso(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(super::iso(1_795_470_895_159_882_000), "2026-11-23T21:54:55.159882Z");
        assert_eq!(super::iso(951_782_400_000_000_000), "2000-02-29T00:00:00.000000Z");
    }
}
