//! A message of a queue → a document as Flowcept's consumer stores it, or why it cannot be one. Pure.
//!
//! Messages are Flowcept's, ours or its own: msgpack maps with text as keys (reference: Flowcept 1.0.3, `document_inserter.py`,
//! `curate_task_msg`). Where its consumer loses a whole batch for one message, that one is refused here, with the reason.

use std::borrow::Cow;

use serde_json::{Map, Number, Value, json};
use uuid::Uuid;

use crate::sinks::table::{ENDS, TIMES, Table, as_row};

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its table.
    pub table: Table,
    /// Its key there.
    pub id: String,
    /// The rest.
    pub fields: Map<String, Value>,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// To be kept.
    Document(Box<Document>),
    /// Whoever keeps is to end (`stop_document_inserter` to all).
    Stop,
    /// Of no concern here: other control messages, and objects, for which this database has no table.
    Other,
}

/// The longest key of LMDB.
const LONGEST_ID: usize = 511;
/// MongoDB takes no longer document, and nobody reads one.
const LARGEST: usize = 16_000_000;
/// Fields that are tables themselves.
const TABLES: [&str; 5] = ["used", "generated", "custom_metadata", "telemetry_at_start", "telemetry_at_end"];

/// A message as JSON; why it is none.
pub fn decoded(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    if bytes.len() > LARGEST {
        return Err(format!("it has {} bytes, and a document at most {LARGEST}", bytes.len()));
    }
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).map_err(|e| format!("it is no msgpack: {e}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow the message", rest.len()));
    }
    match json(value, None)? {
        Value::Object(fields) => Ok(fields),
        _ => Err("it is no map".into()),
    }
}

/// Reads a message; why it cannot be kept.
pub fn read(bytes: &[u8]) -> Result<Message, String> {
    let mut fields = decoded(bytes)?;
    let table = match fields.get("type").map(|kind| kind.as_str().ok_or("`type` is no text")).transpose()? {
        Some("task") => Table::Tasks,
        Some("workflow") => Table::Workflows,
        Some("agent") => Table::Agents,
        Some("object") => return Ok(Message::Other),
        Some("flowcept_control") => {
            let stops = fields.get("info").is_some_and(|info| info == "stop_document_inserter");
            let to_all = fields.get("exec_bundle_id").is_none_or(Value::is_null);
            return Ok(if stops && to_all { Message::Stop } else { Message::Other });
        }
        Some(other) => return Err(format!("its type is unknown: {other:?}")),
        // As its consumer guesses.
        None if fields.contains_key("task_id") || fields.contains_key("activity_id") => Table::Tasks,
        None if fields.contains_key("agent_id") => Table::Agents,
        None if fields.contains_key("name") || fields.contains_key("environment_id") => Table::Workflows,
        None => return Err("it has no type, and nothing else tells what it is".into()),
    };
    if fields.get("status").is_some_and(|status| !status.is_string()) {
        return Err("`status` is no text".into());
    }
    if let Some(time) = TIMES.iter().find(|time| fields.get(**time).is_some_and(|t| !t.is_number() && !t.is_null())) {
        return Err(format!("`{time}` is no number of seconds"));
    }
    if table == Table::Tasks {
        curate(&mut fields);
    }
    let name = table.key();
    let id = match fields.get(name) {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        None if table == Table::Tasks => {
            let id = Uuid::new_v4().to_string();
            fields.insert(name.into(), id.clone().into());
            id
        }
        _ => return Err(format!("`{name}` is no text")),
    };
    if id.len() > LONGEST_ID {
        return Err(format!("`{name}` has {} bytes, and a key of LMDB at most {LONGEST_ID}", id.len()));
    }
    Ok(Message::Document(Box::new(Document { table, id, fields })))
}

/// Removes fields that are null or empty text, in maps too.
pub fn without_nothing(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| match value {
        Value::Object(inner) => {
            without_nothing(inner);
            true
        }
        value => !value.is_null() && *value != "",
    });
}

/// As text that every reader takes, or where it is not: in the field of this name, or in the message itself.
fn json(value: rmpv::Value, field: Option<&str>) -> Result<Value, String> {
    let wrong = |why: &str| match field {
        Some(name) => format!("`{name}` {why}"),
        None => format!("the message {why}"),
    };
    let real = |number: f64| {
        let number =
            Number::from_f64(number).ok_or_else(|| wrong(&format!("is {number}, and JSON has no such number")));
        number.map(Value::Number)
    };
    Ok(match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(b) => b.into(),
        rmpv::Value::Integer(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => n.into(),
            (None, n) => n.into(),
        },
        rmpv::Value::F32(n) => real(n.into())?,
        rmpv::Value::F64(n) => real(n)?,
        rmpv::Value::String(text) => text.into_str().ok_or_else(|| wrong("is no UTF-8"))?.into(),
        rmpv::Value::Binary(_) => return Err(wrong("is bytes, and JSON has none")),
        rmpv::Value::Ext(kind, _) => return Err(wrong(&format!("has the extension type {kind} of msgpack"))),
        rmpv::Value::Array(list) => {
            Value::Array(list.into_iter().map(|item| json(item, field)).collect::<Result<_, _>>()?)
        }
        rmpv::Value::Map(pairs) => {
            let mut map = Map::with_capacity(pairs.len());
            for (key, value) in pairs {
                let rmpv::Value::String(key) = key else { return Err(wrong("has a key that is no text")) };
                let key = key.into_str().ok_or_else(|| wrong("has a key that is no text"))?;
                let value = json(value, Some(&key))?;
                map.insert(key, value);
            }
            Value::Object(map)
        }
    })
}

/// A task as it is stored.
fn curate(fields: &mut Map<String, Value>) {
    let lifted = match fields.get_mut("used") {
        Some(Value::Object(used)) => used.shift_remove("workflow_id"),
        _ => None,
    };
    if let Some(id) = lifted {
        fields.entry("workflow_id").or_insert(id);
    }
    if let Some(group) = fields.get("group_id").and_then(Value::as_str).map(str::to_string) {
        let is_iteration = fields.entry("subtype").or_insert_with(|| "iteration".into()) == "iteration";
        let i = fields.get("used").and_then(|used| used.get("i")).cloned();
        if let (true, Some(i)) = (is_iteration, i) {
            fields.entry("task_id").or_insert_with(|| format!("{group}{i}").into());
        }
    }
    if fields.get("finished") == Some(&Value::Bool(true)) {
        fields.insert("status".into(), "FINISHED".into());
    }
    for name in TABLES {
        match fields.get_mut(name) {
            Some(Value::Object(map)) => {
                without_empty(map);
                if map.is_empty() {
                    fields.shift_remove(name);
                }
            }
            Some(other) => *other = json!({"arg0": other.take()}),
            None => {}
        }
    }
    as_row(fields);
}

fn without_empty(map: &mut Map<String, Value>) {
    map.values_mut().for_each(|value| {
        if let Value::Object(inner) = value {
            without_empty(inner);
        }
    });
    map.retain(|_, value| value.as_object().is_none_or(|inner| !inner.is_empty()));
}

/// What is stored once a document has come to what is there. Later fields win, tables are joined, and who has ended stays so.
pub fn merged(before: Option<Value>, document: &Document) -> Cow<'_, Map<String, Value>> {
    let Some(Value::Object(mut all)) = before else { return Cow::Borrowed(&document.fields) };
    let has_ended = all.get("status").and_then(Value::as_str).is_some_and(|status| ENDS.contains(&status));
    for (name, value) in &document.fields {
        match (all.get_mut(name), value) {
            (Some(Value::Object(there)), Value::Object(new)) => there.extend(new.clone()),
            (Some(_), status) if name == "status" && has_ended && !ENDS.iter().any(|end| status == end) => {}
            _ => drop(all.insert(name.clone(), value.clone())),
        }
    }
    Cow::Owned(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(value: &Value) -> Vec<u8> {
        rmp_serde::to_vec(value).expect("because it is JSON")
    }

    fn document(value: &Value) -> Document {
        match read(&packed(value)) {
            Ok(Message::Document(document)) => *document,
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn a_task_is_curated_as_flowcept_does_it() {
        let sent = json!({"type": "task", "task_id": "t", "status": "FINISHED", "used": {"workflow_id": "w", "a": {}, "b": {"c": 1}},
            "generated": [1, 2], "custom_metadata": {}, "started_at": 1.5});
        let kept = document(&sent);
        assert_eq!((kept.table, kept.id.as_str()), (Table::Tasks, "t"));
        assert_eq!(
            Value::Object(kept.fields),
            json!({"task_id": "t", "status": "FINISHED", "used": {"b": {"c": 1}}, "generated": {"arg0": [1, 2]},
                "started_at": 1.5, "workflow_id": "w", "finished": true})
        );
        let iteration = document(&json!({"activity_id": "loop", "group_id": "g", "used": {"i": 3}}));
        assert_eq!((iteration.id.as_str(), &iteration.fields["subtype"]), ("g3", &json!("iteration")));
        assert_eq!(document(&json!({"name": "w", "workflow_id": "w"})).table, Table::Workflows);
        assert_eq!(document(&json!({"agent_id": "a"})).table, Table::Agents);
        assert!(Uuid::parse_str(&document(&json!({"activity_id": "a"})).id).is_ok());
    }

    #[test]
    fn start_and_finish_become_one() {
        let start =
            document(&json!({"type": "task", "task_id": "t", "status": "RUNNING", "used": {"a": 1}, "started_at": 1}));
        let finish =
            document(&json!({"type": "task", "task_id": "t", "status": "FINISHED", "used": {"b": 2}, "ended_at": 2}));
        let whole = json!({"task_id": "t", "status": "FINISHED", "used": {"a": 1, "b": 2}, "started_at": 1, "ended_at": 2,
            "running": true, "finished": true});
        let merged = |before, document| Value::Object(merged(before, document).into_owned());
        assert_eq!(merged(Some(merged(None, &start)), &finish), whole);
        assert_eq!(merged(Some(merged(None, &finish)), &start), whole);
        assert_eq!(merged(Some(whole.clone()), &finish), whole);
    }

    #[test]
    fn control_messages_are_understood() {
        let stop = json!({"type": "flowcept_control", "info": "stop_document_inserter", "exec_bundle_id": null});
        assert_eq!(read(&packed(&stop)), Ok(Message::Stop));
        let bundle = json!({"type": "flowcept_control", "info": "stop_document_inserter", "exec_bundle_id": "b"});
        assert_eq!(read(&packed(&bundle)), Ok(Message::Other));
        assert_eq!(read(&packed(&json!({"type": "object", "object_id": "o"}))), Ok(Message::Other));
    }

    #[test]
    fn poison_is_refused_with_the_reason() {
        let task = |field: rmpv::Value| {
            let pairs = [
                ("type", "task".into()),
                ("task_id", "t".into()),
                ("used", rmpv::Value::Map(vec![("x".into(), field)])),
            ];
            let map = rmpv::Value::Map(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect());
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &map).expect("because memory takes all");
            bytes
        };
        let whole = packed(&json!({"type": "task", "task_id": "t"}));
        let mut torn = task("AZ".into());
        let at = torn.windows(2).position(|two| two == b"AZ").expect("because it is there");
        torn[at..at + 2].copy_from_slice(&[0xc3, 0xff]);
        let cases = [
            (task(rmpv::Value::Binary(vec![1])), "`x` is bytes"),
            (task(f64::NAN.into()), "`x` is NaN"),
            (task(rmpv::Value::Ext(5, vec![1])), "`x` has the extension type 5"),
            (task(rmpv::Value::Map(vec![(1.into(), 2.into())])), "`x` has a key that is no text"),
            (torn, "`x` is no UTF-8"),
            (whole[..whole.len() - 1].to_vec(), "it is no msgpack"),
            ([&whole[..], &[1]].concat(), "1 bytes follow"),
            (packed(&json!([1])), "it is no map"),
            (packed(&json!({"type": "task", "task_id": "t".repeat(600)})), "`task_id` has 600 bytes"),
            (packed(&json!({"type": "task", "task_id": 5})), "`task_id` is no text"),
            (packed(&json!({"type": "task", "task_id": "t", "status": null})), "`status` is no text"),
            (
                packed(&json!({"type": "task", "task_id": "t", "started_at": "now"})),
                "`started_at` is no number of seconds",
            ),
            (packed(&json!({"type": "tusk", "task_id": "t"})), "its type is unknown: \"tusk\""),
            (packed(&json!({"a": 1})), "it has no type"),
            (packed(&json!({"type": "task", "task_id": "t", "stdout": "x".repeat(LARGEST)})), "a document at most"),
            (b"hello".to_vec(), "bytes follow the message"),
        ];
        for (bytes, why) in cases {
            let refused = read(&bytes).expect_err(why);
            assert!(refused.contains(why), "{refused}, not {why}");
        }
    }
}
