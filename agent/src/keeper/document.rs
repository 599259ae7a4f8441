//! A message of a queue → a document as Flowcept's consumer stores it, or why it cannot be one. Pure.
//!
//! Messages are Flowcept's, ours or its own: msgpack maps with text as keys (reference: Flowcept 1.0.3, `document_inserter.py`,
//! `curate_task_msg`). Where its consumer loses a whole batch for one message, that one is refused here, with the reason. A message
//! becomes its row in one pass: what is in it is looked at where it lies, and written as JSON once.

use std::borrow::Cow;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::msgpack::{self, next, whole};
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
    written(&fields(bytes)?, Leaves::default(), bytes.len())
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
            let to_all = get(&fields, "exec_bundle_id").is_none_or(|id| value(id) == msgpack::Value::Nil);
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
    let is_time = |time: &[u8]| {
        use msgpack::Value as Is;
        matches!(value(time), Is::Integer(_) | Is::Unsigned(_) | Is::Real(_) | Is::Nil)
    };
    if let Some(time) = TIMES.iter().find(|time| get(&fields, time).is_some_and(|value| !is_time(value))) {
        return Err(format!("`{time}` is no number of seconds"));
    }
    if table == Table::Tasks {
        curate(&mut fields)?;
    }
    let leaves = Leaves { empty: drops_empty, ..Leaves::default() };
    fields.retain(|(_, field)| !matches!(field, Field::Sent(value) if leaves.out(value)));
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
    let row = written(&fields, leaves, bytes.len())?;
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
    /// A value as it came.
    Sent(&'a [u8]),
    /// A map as it came, without maps in it that have nothing in them, and `used` without its `workflow_id`; none where nothing is left.
    Table(&'a [u8]),
    /// A value as the only field, `arg0`, of a map.
    Argument(&'a [u8]),
    /// A text that was not sent.
    Text(String),
    /// `true`, which was not sent.
    Flag,
}

fn fields(message: &[u8]) -> Result<Fields<'_>, String> {
    let mut bytes = message;
    if bytes.len() > LARGEST {
        return Err(format!("it has {} bytes, and a document at most {LARGEST}", bytes.len()));
    }
    let torn = |why| format!("it is no msgpack: {why}");
    let is_last = |rest: &[u8]| match rest.len() {
        0 => Ok(()),
        more => Err(format!("{more} bytes follow the message")),
    };
    let msgpack::Value::Map(count) = next(&mut bytes).map_err(torn)? else {
        let mut rest = message;
        whole(&mut rest).map_err(torn)?;
        is_last(rest)?;
        return Err("it is no map".into());
    };
    // Each has two bytes at least.
    let mut fields = Fields::with_capacity(count.min(bytes.len() / 2));
    for _ in 0..count {
        let key = next(&mut bytes).map_err(torn)?;
        let key = key.text().ok_or("the message has a key that is no text")?;
        fields.push((key.into(), Field::Sent(whole(&mut bytes).map_err(torn)?)));
    }
    is_last(bytes)?;
    Ok(fields)
}

/// What a value is, of those in a message that is whole.
fn value(mut bytes: &[u8]) -> msgpack::Value<'_> {
    next(&mut bytes).expect("because the message is whole")
}

fn text(bytes: &[u8]) -> Option<&str> {
    value(bytes).text()
}

/// What is in a map; none where a value is none.
fn pairs(mut bytes: &[u8]) -> Option<impl Iterator<Item = (&[u8], &[u8])>> {
    let msgpack::Value::Map(count) = value(bytes) else { return None };
    next(&mut bytes).ok()?;
    let mut one = move || whole(&mut bytes).expect("because the message is whole");
    Some((0..count).map(move |_| (one(), one())))
}

/// What was sent under a name.
fn get<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a [u8]> {
    fields.iter().rev().find(|(key, _)| key == name).and_then(|(_, field)| match field {
        Field::Sent(value) => Some(*value),
        _ => None,
    })
}

/// A task as it is stored.
fn curate(fields: &mut Fields<'_>) -> Result<(), String> {
    let has = |fields: &Fields<'_>, name: &str| fields.iter().any(|(key, _)| key == name);
    let of_used = |name: &str| pairs(get(fields, "used")?)?.find(|(key, _)| text(key) == Some(name));
    let (workflow, step) = (of_used("workflow_id"), of_used("i"));
    if let Some((_, id)) = workflow.filter(|_| !has(fields, "workflow_id")) {
        fields.push(("workflow_id".into(), Field::Sent(id)));
    }
    if let Some(group) = get(fields, "group_id").and_then(text) {
        if !has(fields, "subtype") {
            fields.push(("subtype".into(), Field::Text("iteration".into())));
        }
        let is_iteration = get(fields, "subtype").is_none_or(|subtype| text(subtype) == Some("iteration"));
        if let Some((_, step)) = step.filter(|_| is_iteration && !has(fields, "task_id")) {
            let mut number = Vec::new();
            write(&mut number, &mut &*step, b"i", 1, Leaves::default())?;
            let step = text(step).map_or_else(|| String::from_utf8_lossy(&number), Cow::Borrowed);
            fields.push(("task_id".into(), Field::Text(format!("{group}{step}"))));
        }
    }
    let status = if get(fields, "finished").map(value) == Some(msgpack::Value::Boolean(true)) {
        fields.retain(|(key, _)| key != "status");
        fields.push(("status".into(), Field::Text("FINISHED".into())));
        Some("FINISHED")
    } else {
        get(fields, "status").and_then(text)
    };
    for (_, field) in fields.iter_mut().filter(|(key, _)| TABLES.contains(&&**key)) {
        if let Field::Sent(sent) = *field {
            *field = if pairs(sent).is_some() { Field::Table(sent) } else { Field::Argument(sent) };
        }
    }
    // As its row is: without a type, and with its status as a key, too.
    let flag = status.map(str::to_lowercase);
    fields.retain(|(key, _)| key != "type" && flag.as_deref() != Some(key));
    fields.extend(flag.map(|flag| (flag.into(), Field::Flag)));
    Ok(())
}

/// The field of a table of a task's that is one of the task itself.
fn lifted(table: &str) -> Option<&'static str> {
    (table == "used").then_some("workflow_id")
}

/// What is left out of maps.
#[derive(Clone, Copy, Default)]
struct Leaves<'a> {
    /// What is null or empty text.
    empty: bool,
    /// Maps that have nothing in them but maps like them.
    hollow: bool,
    /// A field, here and not further in.
    lifted: Option<&'a str>,
}

impl Leaves<'_> {
    /// Whether a value is left out for what it is.
    fn out(self, bytes: &[u8]) -> bool {
        self.empty && matches!(value(bytes), msgpack::Value::Nil | msgpack::Value::Text([]))
    }
}

/// As text that every reader takes; of a message of so many bytes it is hardly longer.
fn written(fields: &Fields<'_>, leaves: Leaves<'_>, bytes: usize) -> Result<String, String> {
    let mut out = Vec::with_capacity(bytes + bytes / 2);
    out.push(b'{');
    for (name, field) in fields {
        let before = out.len();
        if before > 1 {
            out.push(b',');
        }
        json(&mut out, name);
        out.push(b':');
        match field {
            Field::Sent(value) => drop(write(&mut out, &mut &**value, name.as_bytes(), 1, leaves)?),
            Field::Table(table) => {
                let leaves = Leaves { hollow: true, lifted: lifted(name), ..leaves };
                if write(&mut out, &mut &**table, name.as_bytes(), 1, leaves)? {
                    out.truncate(before);
                }
            }
            Field::Argument(value) => {
                out.extend(b"{\"arg0\":");
                write(&mut out, &mut &**value, name.as_bytes(), 2, Leaves::default())?;
                out.push(b'}');
            }
            Field::Text(text) => json(&mut out, text),
            Field::Flag => out.extend(b"true"),
        }
    }
    out.push(b'}');
    Ok(String::from_utf8(out).expect("because all of it is text"))
}

/// Writes text; whether it is UTF-8.
fn quoted(out: &mut Vec<u8>, text: &[u8]) -> bool {
    if is_plain(text) {
        out.push(b'"');
        out.extend(text);
        out.push(b'"');
        return true;
    }
    std::str::from_utf8(text).map(|text| json(out, text)).is_ok()
}

/// Whether it is in JSON as it is.
fn is_plain(text: &[u8]) -> bool {
    let byte = |byte: &u8| matches!(byte, b' '..=b'~') & !matches!(byte, b'"' | b'\\');
    // Eight at a time, without a branch for each; what is left over with some that were looked at before.
    let eight = |eight: &[u8; 8]| eight.iter().fold(true, |is, one| is & byte(one));
    match (text.as_chunks(), text.last_chunk()) {
        ((chunks, _), Some(last)) => chunks.iter().fold(true, |is, chunk| is & eight(chunk)) & eight(last),
        _ => text.iter().fold(true, |is, one| is & byte(one)),
    }
}

fn json(out: &mut Vec<u8>, scalar: impl serde::Serialize) {
    serde_json::to_writer(out, &scalar).expect("because memory takes all");
}

/// Writes the value that comes next; whether it is a map that is left out where it is. What is wrong with it is said of the innermost
/// field that has it.
// Most values are scalars: inlined, they cost no call.
#[inline(always)]
fn write(out: &mut Vec<u8>, bytes: &mut &[u8], field: &[u8], depth: usize, leaves: Leaves<'_>) -> Result<bool, String> {
    match next(bytes)? {
        _ if depth > DEEPEST => return Err(wrong(field, &format!("is in more than {DEEPEST} maps and lists"))),
        msgpack::Value::List(count) => list(out, bytes, count, field, depth)?,
        msgpack::Value::Map(count) => return map(out, bytes, count, field, depth, leaves),
        msgpack::Value::Nil => out.extend(b"null"),
        msgpack::Value::Boolean(is) => json(out, is),
        msgpack::Value::Integer(number) => json(out, number),
        msgpack::Value::Unsigned(number) => json(out, number),
        msgpack::Value::Real(number) if number.is_finite() => json(out, number),
        msgpack::Value::Text(text) if quoted(out, text) => {}
        none => return Err(wrong(field, &unwritable(none))),
    }
    Ok(false)
}

fn wrong(field: &[u8], what: &str) -> String {
    format!("`{}` {what}", String::from_utf8_lossy(field))
}

/// Why JSON does not have a value.
#[cold]
fn unwritable(value: msgpack::Value<'_>) -> String {
    match value {
        msgpack::Value::Real(number) => format!("is {number}, and JSON has no such number"),
        msgpack::Value::Text(_) => "is no UTF-8".into(),
        msgpack::Value::Extension(kind) => format!("has the extension type {kind} of msgpack"),
        _ => "is bytes, and JSON has none".into(),
    }
}

fn list(out: &mut Vec<u8>, bytes: &mut &[u8], count: usize, field: &[u8], depth: usize) -> Result<(), String> {
    out.push(b'[');
    for place in 0..count {
        if place > 0 {
            out.push(b',');
        }
        write(out, bytes, field, depth + 1, Leaves::default())?;
    }
    out.push(b']');
    Ok(())
}

fn map(
    out: &mut Vec<u8>,
    bytes: &mut &[u8],
    count: usize,
    field: &[u8],
    depth: usize,
    leaves: Leaves<'_>,
) -> Result<bool, String> {
    out.push(b'{');
    let (begin, inner) = (out.len(), Leaves { lifted: None, ..leaves });
    let mut is_hollow = leaves.hollow;
    for _ in 0..count {
        let here = *bytes;
        let key = next(bytes)?;
        if !matches!(key, msgpack::Value::Text(_)) {
            *bytes = here;
            whole(bytes)?;
        }
        let is_lifted = leaves.lifted.is_some() && key.text() == leaves.lifted;
        if is_lifted || leaves.out(bytes) {
            is_hollow &= is_lifted;
            whole(bytes)?;
            continue;
        }
        let before = out.len();
        if before > begin {
            out.push(b',');
        }
        let (is_text, name) = match key {
            msgpack::Value::Text(key) => (quoted(out, key), key),
            _ => (false, field),
        };
        out.push(b':');
        if write(out, bytes, name, depth + 1, inner)? {
            out.truncate(before);
            continue;
        }
        if !is_text {
            return Err(wrong(field, "has a key that is no text"));
        }
        is_hollow = false;
    }
    out.push(b'}');
    Ok(is_hollow)
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

    /// Wherever in it something stands that is escaped.
    #[test]
    fn text_is_written_as_others_write_it() {
        for length in 0..30 {
            for (place, odd) in (0..length).flat_map(|place| (0..=127_u8).map(move |odd| (place, odd))) {
                let mut text = vec![b'a'; length];
                text[place] = odd;
                let mut out = Vec::new();
                assert!(quoted(&mut out, &text));
                let wanted = json!(String::from_utf8(text).expect("because it is ASCII")).to_string();
                assert_eq!(String::from_utf8_lossy(&out), wanted);
            }
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
        let losses = rmpv::Value::Map(vec![(0.into(), rmpv::Value::Nil), (1.into(), "".into())]);
        let generated = rmpv::Value::Map(vec![("losses".into(), losses), ("loss".into(), 0.5.into())]);
        let pairs = vec![("task_id".into(), "t".into()), ("stdout".into(), "".into()), ("generated".into(), generated)];
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(pairs)).expect("because memory takes all");
        let Ok(Message::Document(kept)) = read(&bytes, true) else { panic!("what is left has text as keys") };
        assert_eq!(kept.row, r#"{"task_id":"t","generated":{"losses":{},"loss":0.5}}"#);
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
