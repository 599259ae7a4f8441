//! A message of a queue → a document as Flowcept's consumer stores it, or why it cannot be one. Pure.
//!
//! Messages are Flowcept's, ours or its own: msgpack maps with text as keys (reference: Flowcept 1.0.3, `document_inserter.py`,
//! `curate_task_msg`). Where its consumer loses a whole batch for one message, that one is refused here, with the reason. A message
//! becomes its row in one pass: what is in it is looked at where it lies, and written as JSON once.

use std::borrow::Cow;

use rmpv::ValueRef;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::sinks::table::{ENDS, TIMES, Table};

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its table.
    pub table: Table,
    /// Its key there.
    pub id: String,
    /// All of it as it is stored: a JSON map.
    pub row: String,
}

impl Document {
    /// Its fields.
    pub fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.row).expect("because it was written as JSON")
    }
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
/// MongoDB takes no maps and lists that are deeper in one another, and readers of JSON few more.
const DEEPEST: usize = 100;
/// Fields that are tables themselves.
const TABLES: [&str; 5] = ["used", "generated", "custom_metadata", "telemetry_at_start", "telemetry_at_end"];

/// A message as a line of JSON; why it is none.
pub fn line(bytes: &[u8]) -> Result<String, String> {
    written(&fields(bytes)?, bytes.len())
}

/// A message as JSON; why it is none.
pub fn decoded(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    line(bytes).map(|line| serde_json::from_str(&line).expect("because it was written as JSON"))
}

/// Reads a message; why it cannot be kept. On demand without fields that are null or empty text, in maps too.
pub fn read(bytes: &[u8], drops_empty: bool) -> Result<Message, String> {
    let mut fields = fields(bytes)?;
    let is_there = |name: &str| get(&fields, name).is_some();
    let table = match get(&fields, "type").map(|kind| text(kind).ok_or("`type` is no text")).transpose()? {
        Some("task") => Table::Tasks,
        Some("workflow") => Table::Workflows,
        Some("agent") => Table::Agents,
        Some("object") => return Ok(Message::Other),
        Some("flowcept_control") => {
            let stops = get(&fields, "info").and_then(text) == Some("stop_document_inserter");
            let to_all = get(&fields, "exec_bundle_id").is_none_or(|id| *id == ValueRef::Nil);
            return Ok(if stops && to_all { Message::Stop } else { Message::Other });
        }
        Some(other) => return Err(format!("its type is unknown: {other:?}")),
        // As its consumer guesses.
        None if is_there("task_id") || is_there("activity_id") => Table::Tasks,
        None if is_there("agent_id") => Table::Agents,
        None if is_there("name") || is_there("environment_id") => Table::Workflows,
        None => return Err("it has no type, and nothing else tells what it is".into()),
    };
    if get(&fields, "status").is_some_and(|status| text(status).is_none()) {
        return Err("`status` is no text".into());
    }
    let is_time = |time: &ValueRef<'_>| {
        matches!(time, ValueRef::Integer(_) | ValueRef::F32(_) | ValueRef::F64(_) | ValueRef::Nil)
    };
    if let Some(time) = TIMES.iter().find(|time| get(&fields, time).is_some_and(|value| !is_time(value))) {
        return Err(format!("`{time}` is no number of seconds"));
    }
    if table == Table::Tasks {
        curate(&mut fields);
    }
    if drops_empty {
        fields.retain_mut(|(_, field)| match field {
            Field::Sent(value) => !is_empty(value),
            _ => true,
        });
    }
    let name = table.key();
    let id = match fields.iter().rev().find(|(key, _)| key == name).map(|(_, field)| field) {
        Some(Field::Sent(value)) => text(value).filter(|id| !id.is_empty()).map(str::to_string),
        Some(Field::Text(id)) => Some(id.clone()),
        Some(_) => None,
        None if table == Table::Tasks => {
            let id = Uuid::new_v4().to_string();
            fields.push((name.into(), Field::Text(id.clone())));
            Some(id)
        }
        None => None,
    };
    let row = written(&fields, bytes.len())?;
    let id = id.ok_or_else(|| format!("`{name}` is no text"))?;
    if id.len() > LONGEST_ID {
        return Err(format!("`{name}` has {} bytes, and a key of LMDB at most {LONGEST_ID}", id.len()));
    }
    Ok(Message::Document(Box::new(Document { table, id, row })))
}

/// Fields of a message; of several with one name the last counts.
type Fields<'a> = Vec<(Cow<'a, str>, Field<'a>)>;

/// What is in a field.
enum Field<'a> {
    /// As it came.
    Sent(ValueRef<'a>),
    /// That as the only field, `arg0`, of a map.
    Argument(ValueRef<'a>),
    /// A text that was not sent.
    Text(String),
    /// `true`, which was not sent.
    Flag,
}

fn fields(bytes: &[u8]) -> Result<Fields<'_>, String> {
    if bytes.len() > LARGEST {
        return Err(format!("it has {} bytes, and a document at most {LARGEST}", bytes.len()));
    }
    let mut rest = bytes;
    let value = rmpv::decode::read_value_ref(&mut rest).map_err(|e| format!("it is no msgpack: {e}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow the message", rest.len()));
    }
    let ValueRef::Map(pairs) = value else { return Err("it is no map".into()) };
    let fields = pairs.into_iter().map(|(key, value)| match key {
        ValueRef::String(key) => key.into_str().map(|key| (Cow::Borrowed(key), Field::Sent(value))),
        _ => None,
    });
    fields.collect::<Option<_>>().ok_or_else(|| "the message has a key that is no text".into())
}

/// What was sent under a name.
fn get<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Option<&'f ValueRef<'a>> {
    fields.iter().rev().find(|(key, _)| key == name).and_then(|(_, field)| match field {
        Field::Sent(value) => Some(value),
        _ => None,
    })
}

fn text<'a>(value: &ValueRef<'a>) -> Option<&'a str> {
    match value {
        ValueRef::String(text) => text.into_str(),
        _ => None,
    }
}

/// A task as it is stored.
fn curate(fields: &mut Fields<'_>) {
    let has = |fields: &Fields<'_>, name: &str| fields.iter().any(|(key, _)| key == name);
    let used = fields.iter_mut().rev().find(|(key, _)| key == "used");
    let mut step = None;
    let mut lifted = None;
    if let Some((_, Field::Sent(ValueRef::Map(used)))) = used {
        let is_named = |key: &ValueRef<'_>, name: &str| text(key) == Some(name);
        lifted = used.iter().position(|(key, _)| is_named(key, "workflow_id")).map(|at| used.remove(at).1);
        step = used.iter().find(|(key, _)| is_named(key, "i")).map(|(_, i)| i.clone());
    }
    if let Some(id) = lifted.filter(|_| !has(fields, "workflow_id")) {
        fields.push(("workflow_id".into(), Field::Sent(id)));
    }
    if let Some(group) = get(fields, "group_id").and_then(text) {
        if !has(fields, "subtype") {
            fields.push(("subtype".into(), Field::Text("iteration".into())));
        }
        let is_iteration = get(fields, "subtype").is_none_or(|subtype| text(subtype) == Some("iteration"));
        if let Some(step) = step.filter(|_| is_iteration && !has(fields, "task_id")) {
            let step = text(&step).map_or_else(|| step.to_string(), str::to_string);
            fields.push(("task_id".into(), Field::Text(format!("{group}{step}"))));
        }
    }
    let status = if matches!(get(fields, "finished"), Some(ValueRef::Boolean(true))) {
        fields.retain(|(key, _)| key != "status");
        fields.push(("status".into(), Field::Text("FINISHED".into())));
        Some("FINISHED")
    } else {
        get(fields, "status").and_then(text)
    };
    for (_, field) in fields.iter_mut().filter(|(key, _)| TABLES.contains(&&**key)) {
        match field {
            Field::Sent(ValueRef::Map(pairs)) => without_empty(pairs),
            Field::Sent(other) => *field = Field::Argument(std::mem::replace(other, ValueRef::Nil)),
            _ => {}
        }
    }
    // As its row is: without a type, and with its status as a key, too.
    let flag = status.map(str::to_lowercase);
    fields.retain(|(key, field)| {
        let is_empty = matches!(field, Field::Sent(ValueRef::Map(pairs)) if pairs.is_empty());
        key != "type" && flag.as_deref() != Some(key) && !(is_empty && TABLES.contains(&&**key))
    });
    fields.extend(flag.map(|flag| (flag.into(), Field::Flag)));
}

/// Removes maps without anything in them.
fn without_empty(pairs: &mut Vec<(ValueRef<'_>, ValueRef<'_>)>) {
    pairs.retain_mut(|(_, value)| match value {
        ValueRef::Map(inner) => {
            without_empty(inner);
            !inner.is_empty()
        }
        _ => true,
    });
}

/// Whether it is null or empty text; what is so in it is removed.
fn is_empty(value: &mut ValueRef<'_>) -> bool {
    match value {
        ValueRef::Map(pairs) => {
            pairs.retain_mut(|(_, value)| !is_empty(value));
            false
        }
        ValueRef::String(text) => text.as_bytes().is_empty(),
        value => *value == ValueRef::Nil,
    }
}

/// As text that every reader takes; of a message of so many bytes it is hardly longer.
fn written(fields: &Fields<'_>, bytes: usize) -> Result<String, String> {
    let mut out = Vec::with_capacity(bytes + bytes / 2);
    out.push(b'{');
    for (place, (name, field)) in fields.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        quoted(&mut out, name);
        out.push(b':');
        match field {
            Field::Sent(value) => write(&mut out, value, name, 1)?,
            Field::Argument(value) => {
                out.extend(b"{\"arg0\":");
                write(&mut out, value, name, 2)?;
                out.push(b'}');
            }
            Field::Text(text) => quoted(&mut out, text),
            Field::Flag => out.extend(b"true"),
        }
    }
    out.push(b'}');
    Ok(String::from_utf8(out).expect("because all of it is text"))
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("because memory takes all");
}

/// Writes a value; what is wrong with it is said of the innermost field that has it.
fn write(out: &mut Vec<u8>, value: &ValueRef<'_>, field: &str, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("`{field}` is in more than {DEEPEST} maps and lists"));
    }
    let real = |out: &mut Vec<u8>, number: f64| {
        if !number.is_finite() {
            return Err(format!("`{field}` is {number}, and JSON has no such number"));
        }
        serde_json::to_writer(out, &number).expect("because memory takes all");
        Ok(())
    };
    match value {
        ValueRef::Nil => out.extend(b"null"),
        ValueRef::Boolean(true) => out.extend(b"true"),
        ValueRef::Boolean(false) => out.extend(b"false"),
        ValueRef::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => serde_json::to_writer(out, &number).expect("because memory takes all"),
            (None, number) => serde_json::to_writer(out, &number).expect("because memory takes all"),
        },
        ValueRef::F32(number) => real(out, f64::from(*number))?,
        ValueRef::F64(number) => real(out, *number)?,
        ValueRef::String(text) => quoted(out, text.into_str().ok_or_else(|| format!("`{field}` is no UTF-8"))?),
        ValueRef::Binary(_) => return Err(format!("`{field}` is bytes, and JSON has none")),
        ValueRef::Ext(kind, _) => return Err(format!("`{field}` has the extension type {kind} of msgpack")),
        ValueRef::Array(list) => {
            out.push(b'[');
            for (place, item) in list.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write(out, item, field, depth + 1)?;
            }
            out.push(b']');
        }
        ValueRef::Map(pairs) => {
            out.push(b'{');
            for (place, (key, value)) in pairs.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                let key = text(key).ok_or_else(|| format!("`{field}` has a key that is no text"))?;
                quoted(out, key);
                out.push(b':');
                write(out, value, key, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// What is stored once a document has come to what is there. Later fields win, and tables are joined; where it says that what has ended
/// still goes on, it was late, and only adds what is not there.
pub fn merged(before: Option<Value>, document: &Document) -> Cow<'_, str> {
    let Some(Value::Object(mut all)) = before else { return Cow::Borrowed(&document.row) };
    let fields = document.fields();
    let has_ended = |status: Option<&Value>| status.and_then(Value::as_str).map(|status| ENDS.contains(&status));
    let is_late = has_ended(fields.get("status")) == Some(false) && has_ended(all.get("status")) == Some(true);
    for (name, value) in fields {
        match (all.get_mut(&name), value) {
            (Some(Value::Object(there)), Value::Object(new)) if is_late => {
                let new = new.into_iter().filter(|(name, _)| !there.contains_key(name)).collect::<Vec<_>>();
                there.extend(new);
            }
            (Some(Value::Object(there)), Value::Object(new)) => there.extend(new),
            (Some(_), _) if is_late => {}
            (_, value) => drop(all.insert(name, value)),
        }
    }
    Cow::Owned(Value::Object(all).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn packed(value: &Value) -> Vec<u8> {
        rmp_serde::to_vec(value).expect("because it is JSON")
    }

    fn document(value: &Value) -> Document {
        match read(&packed(value), false) {
            Ok(Message::Document(document)) => *document,
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn what_is_late_adds_what_is_not_there() {
        let begin = json!({"type": "task", "task_id": "t", "status": "RUNNING", "activity_id": "begin", "hostname": "h",
            "used": {"b": 2}, "generated": {"a": 0, "c": 3}});
        let end =
            json!({"type": "task", "task_id": "t", "status": "FINISHED", "activity_id": "end", "generated": {"a": 1}});
        let join = |first: &Value, then: &Value| -> Value {
            let row = merged(Some(document(first).fields().into()), &document(then)).into_owned();
            serde_json::from_str(&row).expect("because it was written as JSON")
        };
        let wanted = json!({"task_id": "t", "status": "FINISHED", "activity_id": "end", "hostname": "h", "used": {"b": 2},
            "generated": {"a": 1, "c": 3}, "finished": true, "running": true});
        assert_eq!((join(&begin, &end), join(&end, &begin)), (wanted.clone(), wanted));
        // What does not say how far it is comes after what is there.
        let more = json!({"type": "task", "task_id": "t", "activity_id": "more"});
        assert_eq!(join(&end, &more)["activity_id"], "more");
    }

    #[test]
    fn a_task_is_curated_as_flowcept_does_it() {
        let sent = json!({"type": "task", "task_id": "t", "status": "FINISHED", "used": {"workflow_id": "w", "a": {}, "b": {"c": 1}},
            "generated": [1, 2], "custom_metadata": {}, "started_at": 1.5});
        let kept = document(&sent);
        assert_eq!((kept.table, kept.id.as_str()), (Table::Tasks, "t"));
        assert_eq!(
            Value::Object(kept.fields()),
            json!({"task_id": "t", "status": "FINISHED", "used": {"b": {"c": 1}}, "generated": {"arg0": [1, 2]},
                "started_at": 1.5, "workflow_id": "w", "finished": true})
        );
        let iteration = document(&json!({"activity_id": "loop", "group_id": "g", "used": {"i": 3}}));
        assert_eq!((iteration.id.as_str(), &iteration.fields()["subtype"]), ("g3", &json!("iteration")));
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
        let merged =
            |before, document| serde_json::from_str::<Value>(&merged(before, document)).expect("because it is JSON");
        assert_eq!(merged(Some(merged(None, &start)), &finish), whole);
        assert_eq!(merged(Some(merged(None, &finish)), &start), whole);
        assert_eq!(merged(Some(whole.clone()), &finish), whole);
    }

    #[test]
    fn control_messages_are_understood() {
        let stop = json!({"type": "flowcept_control", "info": "stop_document_inserter", "exec_bundle_id": null});
        assert_eq!(read(&packed(&stop), false), Ok(Message::Stop));
        let bundle = json!({"type": "flowcept_control", "info": "stop_document_inserter", "exec_bundle_id": "b"});
        assert_eq!(read(&packed(&bundle), false), Ok(Message::Other));
        assert_eq!(read(&packed(&json!({"type": "object", "object_id": "o"})), false), Ok(Message::Other));
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
            let refused = read(&bytes, false).expect_err(why);
            assert!(refused.contains(why), "{refused}, not {why}");
        }
    }
}
