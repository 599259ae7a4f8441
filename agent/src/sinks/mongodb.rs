//! Flowcept's MongoDB database, as its Python makes and reads it: a collection each for tasks, workflows and agents, with its indexes,
//! and one for the files of tasks ([`objects`]).
//! A document is joined with what is there by the server itself, in one step, so that keepers may write beside each other.

mod objects;

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mongodb::bson::{Bson, DateTime, Document as Row, RawArrayBuf, RawDocumentBuf, doc, rawdoc};
use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, ServerAddress, Tls};
use mongodb::sync::{Client, Database};
use serde_json::{Map, Value};

use super::table::{ENDS, TIMES, Table, as_row, key};
use super::{Sink, Undelivered};

/// To find a server, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The database where the URL names none: Flowcept's `databases.mongodb.db`.
const DATABASE: &str = "flowcept";
/// Errors of a server that are about who asks, not about what is asked.
const UNAUTHORIZED: i32 = 13;
/// Bytes of updates that are sent together, roughly: it takes 48 MB, and 100,000 updates.
const TOGETHER: usize = 8 << 20;
/// Two have made the same document at one time.
const DUPLICATE_KEY: i32 = 11000;
/// Flowcept's indexes; the first of each collection is unique.
const INDEXES: [(Table, &[&str]); 3] = [
    (Table::Tasks, &["task_id", "workflow_id", "parent_task_id", "campaign_id"]),
    (Table::Workflows, &["workflow_id", "parent_workflow_id", "campaign_id"]),
    (Table::Agents, &["agent_id"]),
];

/// What is to be joined with the row of this key.
pub type Change<'a> = (Table, &'a str, &'a Map<String, Value>);

/// A database of a server.
pub struct Mongo {
    client: Client,
    name: String,
    /// Without user and password.
    place: String,
    has_indexes: bool,
}

impl Mongo {
    /// Of `mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST…]/[DATABASE][?OPTION=VALUE&…]`, with options of MongoDB's drivers. It connects
    /// when there is something to do.
    pub fn open(url: &str) -> Result<Self> {
        let form = "it has the form mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST…]/[DATABASE][?OPTION=VALUE&…], with options of \
                    MongoDB's drivers as tls=true and tlsCAFile=FILE";
        // What the parser says may repeat the URL, and that has the password.
        ensure!(url.starts_with("mongodb://"), "this is no URL of MongoDB that flowcept can use; {form}");
        let wrong = || format!("this URL of MongoDB is wrong; {form}");
        let mut options = ClientOptions::parse(url).run().ok().with_context(wrong)?;
        options.server_selection_timeout.get_or_insert(TIMEOUT);
        options.connect_timeout.get_or_insert(TIMEOUT);
        options.app_name.get_or_insert("flowcept".into());
        let name = options.default_database.clone().unwrap_or_else(|| DATABASE.into());
        let hosts: Vec<String> = options.hosts.iter().map(ServerAddress::to_string).collect();
        let place = format!("mongodb://{}/{name}", hosts.join(","));
        if let Some(Tls::Enabled(tls)) = &options.tls {
            // What the driver says of them is OpenSSL's.
            for path in [&tls.ca_file_path, &tls.cert_key_file_path].into_iter().flatten() {
                File::open(path).with_context(|| format!("{place}: open {}", path.display()))?;
            }
        }
        let client = Client::with_options(options).ok().with_context(wrong)?;
        Ok(Self { client, name, place, has_indexes: false })
    }

    /// What it is called, without user and password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The documents of a table: all, or those of these workflows. Dates are seconds since 1970, as they were sent.
    pub fn rows(&self, table: Table, workflows: &[String], each: &mut dyn FnMut(Map<String, Value>)) -> Result<()> {
        let filter = if workflows.is_empty() {
            doc! {}
        } else {
            doc! {"workflow_id": {"$in": workflows}}
        };
        let rows = self.client.database(&self.name).collection::<Row>(table.name());
        let named = |error: mongodb::error::Error| failed(&error).of(&self.place);
        for row in rows.find(filter).projection(doc! {"_id": 0}).run().map_err(named)? {
            let row = row.map_err(named)?;
            each(row.into_iter().map(|(name, value)| (name, json(value))).collect());
        }
        Ok(())
    }

    /// Joins what is given with what is there, or makes it. Those that the server refuses, by their place in the list, with the
    /// reason; it has the others on its disk when this returns.
    pub fn join(&mut self, changes: &[Change<'_>]) -> Result<Vec<(usize, String)>, Undelivered> {
        let database = self.client.database(&self.name);
        let done = (|| {
            if !self.has_indexes {
                indexed(&database)?;
                self.has_indexes = true;
            }
            let mut refused = Vec::new();
            for (table, _) in INDEXES {
                let places = changes.iter().enumerate().filter(|(_, change)| change.0 == table).map(|(place, _)| place);
                refused.extend(joined(&database, table, changes, &places.collect::<Vec<_>>())?);
            }
            refused.extend(files_joined(&database, changes)?);
            refused.sort();
            refused.dedup_by_key(|(place, _)| *place);
            Ok(refused)
        })();
        done.map_err(|why: Undelivered| why.of(&self.place))
    }
}

fn indexed(database: &Database) -> Result<(), Undelivered> {
    let tables = INDEXES.map(|(table, fields)| (table.name(), fields));
    for (table, fields) in tables.into_iter().chain([(objects::NAME, objects::INDEXES)]) {
        let indexes = fields.iter().enumerate().map(|(place, field)| {
            let mut index = doc! {"key": {*field: 1}, "name": format!("{field}_1")};
            if place == 0 {
                index.insert("unique", true);
            }
            index
        });
        let command = doc! {"createIndexes": table, "indexes": indexes.collect::<Vec<_>>()};
        database.run_command(command).run().map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Those of one table, by their places.
fn joined(
    database: &Database,
    table: Table,
    changes: &[Change<'_>],
    places: &[usize],
) -> Result<Vec<(usize, String)>, Undelivered> {
    let (mut updates, mut refused) = (Vec::new(), Vec::new());
    for place in places {
        let (_, id, fields) = changes[*place];
        match pipeline(table, fields) {
            Ok(pipeline) => updates.push((*place, doc! {"q": {table.key(): id}, "u": pipeline, "upsert": true})),
            Err(why) => refused.push((*place, why)),
        }
    }
    refused.extend(updated(database, table.name(), updates)?);
    Ok(refused)
}

/// The files of tasks; those that are refused, by the places of their tasks.
fn files_joined(database: &Database, changes: &[Change<'_>]) -> Result<Vec<(usize, String)>, Undelivered> {
    let (mut updates, mut refused) = (Vec::new(), Vec::new());
    for (place, object) in
        changes.iter().enumerate().flat_map(|(place, c)| objects::of(c).into_iter().map(move |o| (place, o)))
    {
        match bson(Table::Workflows, objects::NAME, &object.row) {
            Ok(row) => {
                let joins = if object.is_made { "$set" } else { "$setOnInsert" };
                updates.push((place, doc! {"q": {objects::KEY: object.id}, "u": {joins: row}, "upsert": true}));
            }
            Err(why) => refused.push((place, why)),
        }
    }
    refused.extend(updated(database, objects::NAME, updates)?);
    Ok(refused)
}

/// Makes updates, each for a change of this place; those that are refused.
fn updated(database: &Database, name: &str, updates: Vec<(usize, Row)>) -> Result<Vec<(usize, String)>, Undelivered> {
    let (mut encoded, mut refused) = (Vec::with_capacity(updates.len()), Vec::new());
    for (place, update) in updates {
        match RawDocumentBuf::from_document(&update) {
            Ok(update) => encoded.push((place, update)),
            Err(why) => refused.push((place, why.to_string())),
        }
    }
    for part in parts(&encoded, |(_, update)| update.as_bytes().len()) {
        refused.extend(updated_together(database, name, part)?);
    }
    Ok(refused)
}

/// Parts of at most [`TOGETHER`] bytes, where one has not more by itself.
fn parts<T>(mut all: &[T], size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let sizes = all.iter().scan(0, |bytes, one| {
            *bytes += size(one);
            Some(*bytes)
        });
        let count = sizes.take_while(|bytes| *bytes <= TOGETHER).count().max(1);
        let (part, rest) = all.split_at_checked(count)?;
        all = rest;
        Some(part)
    })
}

fn updated_together(
    database: &Database,
    name: &str,
    updates: &[(usize, RawDocumentBuf)],
) -> Result<Vec<(usize, String)>, Undelivered> {
    let all: RawArrayBuf = updates.iter().map(|(_, update)| update.clone()).collect();
    let concern = rawdoc! {"w": "majority", "j": true};
    let command = rawdoc! {"update": name, "updates": all, "ordered": false, "writeConcern": concern};
    let answer = database.run_raw_command(command).run().map_err(|error| failed(&error))?;
    if let Ok(concern) = answer.get_document("writeConcernError") {
        return Err(Undelivered::Now(concern.get_str("errmsg").unwrap_or("it is not sure to keep it").into()));
    }
    let mut refused = Vec::new();
    for error in answer.get_array("writeErrors").into_iter().flatten().filter_map(Bson::as_document) {
        let why = error.get_str("errmsg").unwrap_or("it is refused").to_string();
        let place = error.get_i32("index").ok().and_then(|index| updates.get(usize::try_from(index).ok()?));
        match (error.get_i32("code"), place) {
            (Ok(DUPLICATE_KEY), _) | (_, None) => return Err(Undelivered::Now(why)),
            (_, Some((place, _))) => refused.push((*place, why)),
        }
    }
    Ok(refused)
}

fn failed(error: &mongodb::error::Error) -> Undelivered {
    match &*error.kind {
        ErrorKind::Authentication { .. } => Undelivered::Ever("it refuses this user and password".into()),
        ErrorKind::Command(told) if told.code == UNAUTHORIZED => {
            Undelivered::Ever(format!("it does not allow this to the user ({})", told.message))
        }
        ErrorKind::InvalidTlsConfig { message, .. } => Undelivered::Ever(message.clone()),
        ErrorKind::ServerSelection { message, .. } if message.contains("certificate verify failed") => {
            Undelivered::Ever(
                "its certificate is not trusted; tlsCAFile=FILE in the URL names who vouches for it".into(),
            )
        }
        ErrorKind::ServerSelection { message, .. } if message.contains("Authentication failed") => {
            Undelivered::Ever("it refuses this user and password".into())
        }
        // What each server said is deep in it.
        ErrorKind::ServerSelection { message, .. } => {
            let said = message.split_once("Error: Kind: ").and_then(|(_, said)| said.split(", labels:").next());
            Undelivered::Now(format!("no server answers: {}", said.unwrap_or(message)))
        }
        kind => Undelivered::Now(kind.to_string()),
    }
}

/// The update that joins a document with what is there: later fields win, and tables are joined; where it says that what has ended still
/// goes on, it was late, and only adds what is not there. Values are literal: in an update as this a text that begins with `$` would be a
/// field's name.
fn pipeline(table: Table, fields: &Map<String, Value>) -> Result<Vec<Row>, String> {
    let (mut plain, mut tables, mut late_tables) = (Row::new(), Row::new(), Row::new());
    for (name, value) in fields {
        let value = bson(table, name, value)?;
        // Only these can be named in an expression.
        let has_name = !name.starts_with('$') && !name.contains('.') && !name.is_empty();
        match &value {
            Bson::Document(new) if has_name => {
                let there = format!("${name}");
                let is_table = doc! {"$eq": [{"$type": &there}, "object"]};
                let before = doc! {"$cond": [is_table, &there, {"$literal": {}}]};
                tables.insert(name, doc! {"$mergeObjects": [&before, {"$literal": new}]});
                late_tables.insert(name, doc! {"$mergeObjects": [{"$literal": new}, before]});
            }
            _ => drop(plain.insert(name, value)),
        }
    }
    let plain = doc! {"$literal": plain};
    let goes_on = fields.get("status").and_then(Value::as_str).is_some_and(|status| !ENDS.contains(&status));
    let joined = doc! {"$mergeObjects": ["$$ROOT", &plain, tables]};
    if !goes_on {
        return Ok(vec![doc! {"$replaceWith": joined}]);
    }
    let has_ended = doc! {"$in": ["$status", ENDS.to_vec()]};
    let late = doc! {"$mergeObjects": [plain, "$$ROOT", late_tables]};
    Ok(vec![doc! {"$replaceWith": {"$cond": [has_ended, late, joined]}}])
}

/// A value as Flowcept stores it there: times of tasks as dates, to the millisecond.
fn bson(table: Table, name: &str, value: &Value) -> Result<Bson, String> {
    if let (Table::Tasks, true, Some(seconds)) = (table, TIMES.contains(&name), value.as_f64()) {
        // Python's dates have whole microseconds, the nearest; MongoDB's the milliseconds that are full.
        let micros = (seconds.fract() * 1e6).round_ties_even() as i64;
        return Ok(Bson::DateTime(DateTime::from_millis(seconds as i64 * 1000 + micros.div_euclid(1000))));
    }
    Ok(match value {
        Value::Null => Bson::Null,
        Value::Bool(b) => Bson::Boolean(*b),
        Value::String(text) => Bson::String(text.clone()),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => i32::try_from(n).map_or(Bson::Int64(n), Bson::Int32),
            (None, Some(real)) if n.is_f64() => Bson::Double(real),
            _ => return Err(format!("`{name}` is {n}, and MongoDB has no such integer")),
        },
        // A time is one at the top only.
        Value::Array(list) => {
            Bson::Array(list.iter().map(|item| bson(Table::Workflows, name, item)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let mut row = Row::new();
            for (name, value) in map {
                if name.contains('\0') {
                    return Err(format!(
                        "`{}` is a name with a zero byte in it, which MongoDB does not take",
                        name.escape_default()
                    ));
                }
                row.insert(name, bson(Table::Workflows, name, value)?);
            }
            Bson::Document(row)
        }
    })
}

/// A value as it was sent.
fn json(value: Bson) -> Value {
    match value {
        Bson::DateTime(time) => Value::from(time.timestamp_millis() as f64 / 1000.0),
        Bson::Document(row) => row.into_iter().map(|(name, value)| (name, json(value))).collect(),
        Bson::Array(list) => list.into_iter().map(json).collect(),
        other => other.into_relaxed_extjson(),
    }
}

impl Sink for Mongo {
    fn place(&self) -> &str {
        &self.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let rows: Vec<(Table, &str, Map<String, Value>)> = documents
            .iter()
            .map(|document| {
                let (table, id) = key(document);
                let mut row = document.as_object().cloned().unwrap_or_default();
                if table == Table::Tasks {
                    as_row(&mut row);
                }
                (table, id, row)
            })
            .collect();
        let changes: Vec<Change<'_>> = rows.iter().map(|(table, id, row)| (*table, *id, row)).collect();
        match self.join(&changes)?.into_iter().next() {
            None => Ok(()),
            Some((place, why)) => Err(Undelivered::Ever(format!("{}: {}: {why}", self.place, rows[place].1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(fields: &Value) -> Vec<Row> {
        pipeline(Table::Tasks, fields.as_object().expect("because it is one")).expect("because MongoDB takes all of it")
    }

    #[test]
    fn values_are_literal_and_tables_are_joined() {
        let fields = json!({"task_id": "t", "stdout": "$HOME", "used": {"$a": "$b", "c.d": 1}, "a.b": {"c": 1}, "started_at": 1.5});
        let before = doc! {"$cond": [{"$eq": [{"$type": "$used"}, "object"]}, "$used", {"$literal": {}}]};
        let plain =
            doc! {"task_id": "t", "stdout": "$HOME", "a.b": {"c": 1}, "started_at": DateTime::from_millis(1500)};
        let used = doc! {"$mergeObjects": [before, {"$literal": {"$a": "$b", "c.d": 1}}]};
        let wanted = doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"$literal": plain}, {"used": used}]}};
        assert_eq!(of(&fields), [wanted]);
    }

    #[test]
    fn a_part_has_so_many_bytes() {
        let of = |sizes: &[usize]| parts(sizes, |size| *size).map(<[usize]>::len).collect::<Vec<_>>();
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[TOGETHER, 1, TOGETHER - 1, 1, TOGETHER + 1, TOGETHER + 1]), [1, 2, 1, 1, 1]);
    }

    #[test]
    fn times_are_those_that_python_makes() {
        // What datetime.fromtimestamp(SECONDS, tz=utc) is in MongoDB.
        for (seconds, millis) in
            [(1_795_893_221.502_999_8, 1_795_893_221_503), (1.5, 1500), (0.000_999_4, 0), (2.0, 2000)]
        {
            let time = bson(Table::Tasks, "started_at", &json!(seconds));
            assert_eq!(time, Ok(Bson::DateTime(DateTime::from_millis(millis))), "{seconds}");
        }
    }

    #[test]
    fn what_is_late_adds_what_is_not_there() {
        let plain = doc! {"$literal": {"status": "RUNNING"}};
        let has_ended = doc! {"$in": ["$status", ["FINISHED", "ERROR"]]};
        let late = doc! {"$mergeObjects": [&plain, "$$ROOT", {}]};
        let joined = doc! {"$mergeObjects": ["$$ROOT", plain, {}]};
        assert_eq!(of(&json!({"status": "RUNNING"})), [doc! {"$replaceWith": {"$cond": [has_ended, late, joined]}}]);
        assert!(!of(&json!({"status": "ERROR"}))[0].to_string().contains("$cond"));
    }

    #[test]
    fn what_bson_lacks_is_refused() {
        let refused = |fields: Value| {
            pipeline(Table::Tasks, fields.as_object().expect("because it is one")).expect_err("a reason")
        };
        assert!(refused(json!({"used": {"n": u64::MAX}})).contains("`n` is 18446744073709551615"));
        assert!(refused(json!({"used": {"a\0b": 1}})).contains("zero byte"));
    }
}
