//! Settings: Flowcept's keys and ours, from the environment, a file or built in, each with where it came from. They do not know what
//! is done by them.

mod file;
pub mod places;
pub mod profile;
pub mod sample;
pub mod table;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use table::{KEYS, Kind, find};

/// Names another file than the user's own.
pub const PATH_VARIABLE: &str = "FLOWCEPT_SETTINGS_PATH";
/// Where it is true only what is built in counts, as for Flowcept.
const BUILT_IN: &str = "FLOWCEPT_USE_DEFAULT";
/// In the user's home.
const FILE: &str = ".flowcept/settings.yaml";

/// Variables of an environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is built in.
    Default,
    /// This line of the file.
    File(usize),
    /// This variable.
    Variable(&'static str),
}

/// What is wrong in a file, and in which line, if in one.
pub type Wrong = (Option<usize>, String);

/// What is wrong with the settings, a line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\nflowcept: "))]
pub struct WrongSettings(pub Vec<String>);

/// All settings.
pub struct Settings {
    path: Option<PathBuf>,
    values: BTreeMap<&'static str, (Value, Origin)>,
    has_queue_section: bool,
}

impl fmt::Debug for Settings {
    /// Values may be secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Settings").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A variable of ours; an empty one is none.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The file that is named, or that the environment names, or the user's own, whether it is there or not.
pub fn path(named: Option<PathBuf>) -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    named.or_else(|| variable(PATH_VARIABLE).map(PathBuf::from)).or_else(|| Some(home()?.join(FILE)))
}

/// The text of a settings file.
pub fn text(path: &Path) -> Result<String, WrongSettings> {
    file::text(path).map_err(|why| WrongSettings(vec![format!("the settings in {}: {why}", path.display())]))
}

/// What is wrong, with the name of the file.
pub fn named<T>(path: &Path, read: Result<T, Vec<Wrong>>) -> Result<T, WrongSettings> {
    read.map_err(|wrong| {
        let named = wrong.into_iter().map(|(line, what)| match line {
            Some(line) => format!("{}:{line}: {what}", path.display()),
            None => format!("{}: {what}", path.display()),
        });
        WrongSettings(named.collect())
    })
}

impl Settings {
    /// Those of this process. A file that is named has to be there.
    pub fn find(named: Option<PathBuf>) -> Result<Self, WrongSettings> {
        if variable(BUILT_IN).is_some_and(|value| matches!(&*value.to_lowercase(), "1" | "true" | "yes" | "y" | "t")) {
            return Self::read(None, "", &|_| None);
        }
        let is_named = named.is_some() || variable(PATH_VARIABLE).is_some();
        let path = path(named);
        match path.filter(|path| is_named || path.exists()) {
            Some(path) => {
                let text = text(&path)?;
                Self::read(Some(&path), &text, &variable)
            }
            None => Self::read(None, "", &variable),
        }
    }

    /// Those of a file with this text.
    fn read(path: Option<&Path>, text: &str, variables: Variables<'_>) -> Result<Self, WrongSettings> {
        let content = named(path.unwrap_or_else(|| "".as_ref()), file::read(text, variables))?;
        let mut values: BTreeMap<&str, (Value, Origin)> =
            KEYS.iter().map(|key| (key.name, (built_in(key), Origin::Default))).collect();
        for entry in content.entries.into_iter().filter(|entry| !entry.value.is_null()) {
            values.insert(entry.key.name, (entry.value, Origin::File(entry.line)));
        }
        let mut wrong = Vec::new();
        for key in KEYS {
            let Some((name, text)) = key.variable.and_then(|name| Some((name, variables(name)?))) else { continue };
            match value::variable(key, &text) {
                Ok(value) => drop(values.insert(key.name, (value, Origin::Variable(name)))),
                Err(why) => wrong.push(format!("{name} in the environment: {why}")),
            }
        }
        let has_queue_section = content.sections.iter().any(|section| section.name == "mq");
        if wrong.is_empty() {
            Ok(Self { path: path.map(Path::to_path_buf), values, has_queue_section })
        } else {
            Err(WrongSettings(wrong))
        }
    }

    /// The file that was read, if one was.
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A value and where it came from.
    ///
    /// # Panics
    /// Where the table has no such key.
    pub fn get(&self, name: &str) -> (&Value, Origin) {
        let (value, origin) = self.values.get(name).expect("because the table has each key that is asked for");
        (value, *origin)
    }

    /// A text, if there is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).0.as_str()
    }

    /// Whether a flag is set.
    pub fn is(&self, name: &str) -> bool {
        self.get(name).0 == &Value::Bool(true)
    }

    /// A number, if there is one.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).0.as_f64()
    }

    /// A map; what is none has nothing in it.
    pub fn map(&self, name: &str) -> serde_json::Map<String, Value> {
        self.get(name).0.as_object().cloned().unwrap_or_default()
    }

    /// Where a value came from, for people.
    pub fn origin(&self, name: &str) -> String {
        match self.get(name).1 {
            Origin::Default => "default".into(),
            Origin::Variable(name) => name.into(),
            Origin::File(line) => {
                format!("{}:{line}", self.path.as_deref().map(Path::display).map(|p| p.to_string()).unwrap_or_default())
            }
        }
    }
}

fn built_in(key: &table::Key) -> Value {
    match key.kind {
        _ if value::is_none(key.default) => Value::Null,
        Kind::List => Value::Array(Vec::new()),
        Kind::Map => Value::Object(serde_json::Map::new()),
        _ => value::scalar(key, key.default).expect("because the table's values are of their kinds"),
    }
}

/// Whether a key is a secret, or a URL that may have one.
pub fn is_secret(name: &str) -> bool {
    find(name).is_some_and(|key| key.is_secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let lookup =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        Settings::read(Some(Path::new("s.yaml")), text, &lookup).map_err(|wrong| wrong.to_string())
    }

    fn wrong(text: &str) -> String {
        read(text, &[]).expect_err("because it is wrong")
    }

    #[test]
    fn a_variable_goes_before_the_file_and_the_file_before_what_is_built_in() {
        let text = "mq:\n  host: of-file\n  channel: of-file\n  port: ~\n";
        let settings = read(text, &[("MQ_HOST", "of-variable")]).expect("because it is right");
        assert_eq!((settings.text("mq.host"), &*settings.origin("mq.host")), (Some("of-variable"), "MQ_HOST"));
        assert_eq!((settings.text("mq.channel"), &*settings.origin("mq.channel")), (Some("of-file"), "s.yaml:3"));
        assert_eq!((settings.text("mq.type"), &*settings.origin("mq.type")), (Some("redis"), "default"));
        assert_eq!(settings.get("mq.port"), (&Value::Null, Origin::Default));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let cases = [
            ("mq:\n  hots: a\n", "s.yaml:2: there is no setting mq.hots; did you mean mq.host?"),
            ("\nmq_host: a\n", "s.yaml:2: there is no setting mq_host; did you mean mq.host?"),
            (
                "project:\n  lmdb:\n    path: x\n",
                "s.yaml:2: there is no setting project.lmdb; did you mean databases.lmdb?",
            ),
            (
                "qqqqqqqq: 1\n",
                "s.yaml:1: there is no setting qqqqqqqq; `flowcept show-settings` lists those that there are",
            ),
            ("mq:\n  port: abc\n", "s.yaml:2: mq.port wants a port, a whole number from 1 to 65535"),
            ("mq:\n  port: 0\n", "s.yaml:2: mq.port wants a port, a whole number from 1 to 65535"),
            ("mq:\n  enabled: maybe\n", "s.yaml:2: mq.enabled wants true or false"),
            ("mq:\n  enabled: [true]\n", "s.yaml:2: mq.enabled wants true or false"),
            ("mq:\n  type: mofka\n", "s.yaml:2: mq.type wants one of redis, kafka, rabbitmq"),
            ("mq:\n  host: [a]\n", "s.yaml:2: mq.host wants a text"),
            (
                "db_buffer:\n  insertion_buffer_time_secs: .inf\n",
                "s.yaml:2: db_buffer.insertion_buffer_time_secs wants a number that is not below 0",
            ),
            ("mq: redis\n", "s.yaml:1: mq is a section: its keys belong under it"),
            ("mq:\n  host: a\n  host: b\n", "s.yaml:3: host is there already, in line 2: remove one"),
            (
                "mq: &a\n  host: b\n",
                "s.yaml:2: anchors (&) and aliases (*) are not taken: write the value where it belongs",
            ),
            ("- mq\n", "s.yaml:1: settings are keys with values, as `mq:`"),
            (
                "mq:\n  host: ${oc.env:NOBODY}\n",
                "s.yaml:2: the environment has no NOBODY; set it, or write ${oc.env:NOBODY,DEFAULT}",
            ),
            ("mq:\n  host: ${mq.uri}\n", "s.yaml:2: of ${…} there is only ${oc.env:NAME} here"),
        ];
        for (text, said) in cases {
            assert_eq!(wrong(text), said, "{text}");
        }
        assert!(wrong("mq:\n  host: \"a\n").starts_with("s.yaml:"), "{}", wrong("mq:\n  host: \"a\n"));
        assert_eq!(wrong("mq:\n  hots: a\n  prot: 1\n").lines().count(), 2);
        let of_variable = read("", &[("MQ_PORT", "x")]).expect_err("because it is wrong");
        assert_eq!(of_variable, "MQ_PORT in the environment: mq.port wants a port, a whole number from 1 to 65535");
    }

    #[test]
    fn what_nobody_would_write_is_refused() {
        for text in ["[".repeat(100_000), "- ".repeat(60_000), "{a: ".repeat(30_000), "? ".repeat(60_000)] {
            wrong(&text);
        }
        let deep = format!("adapters:\n  a: {}1{}\n", "[".repeat(40), "]".repeat(40));
        assert_eq!(wrong(&deep), "s.yaml:1: maps and lists may be 32 deep");
    }

    #[test]
    fn the_environment_is_asked_where_a_value_says_so() {
        let text = "mq:\n  password: ${oc.env:SECRET}\n  host: q.${oc.env:DOMAIN, example.org}\n";
        let settings = read(text, &[("SECRET", "p@ss")]).expect("because it is right");
        assert_eq!((settings.text("mq.password"), settings.text("mq.host")), (Some("p@ss"), Some("q.example.org")));
    }

    #[test]
    fn samples_say_what_is_built_in() {
        for text in [sample::text(false), sample::text(true)] {
            let settings = read(&text, &[]).expect("because it is ours");
            for key in KEYS {
                assert_eq!(settings.get(key.name).0, &built_in(key), "{}", key.name);
            }
        }
    }

    #[test]
    fn places_are_the_queue_or_else_the_databases() {
        let places =
            |text: &str, variables: &[(&str, &str)]| read(text, variables).expect("because it is right").places();
        let none: [String; 0] = [];
        assert_eq!(places("", &[]), none);
        assert_eq!(places("mq:\n  enabled: false\n", &[("MQ_HOST", "q")]), none);
        assert_eq!(places("mq:\n  host: q\n  password: p@s/s\n", &[]), ["redis://:p%40s%2Fs@q:6379"]);
        assert_eq!(places("", &[("MQ_URI", "redis://q")]), ["redis://q"]);
        assert_eq!(places("mq:\n  enabled: false\n", &[("MQ_URI", "redis://q")]), ["redis://q"]);
        assert_eq!(places("", &[("MQ_URI", "redis://q"), ("MQ_ENABLED", "false")]), none);
        assert_eq!(places("mq:\n  type: kafka\n", &[]), ["kafka://localhost:9092"]);
        assert_eq!(
            places("mq:\n  type: kafka\n  username: u\n  password: p\n  port: 1\n", &[]),
            ["kafka://u:p@localhost:1"]
        );
        assert_eq!(places("mq:\n  type: rabbitmq\n  host: ::1\n", &[]), ["amqp://guest:guest@[::1]:5672/"]);
        assert_eq!(
            places("mq:\n  type: rabbitmq\n  vhost: a b\n  username: u\n", &[("MQ_ENABLED", "1")]),
            ["amqp://u:guest@localhost:5672/a%20b"]
        );
        assert_eq!(places("mq:\n  same_as_kvdb: true\nkv_db:\n  host: k\n  password: p\n", &[]), ["redis://:p@k:6379"]);
        let databases = "databases:\n  lmdb:\n    enabled: true\n  mongodb:\n    enabled: true\n    db: d\n";
        assert_eq!(places(databases, &[]), ["lmdb:flowcept_lmdb", "mongodb://localhost:27017/d"]);
        assert_eq!(places(&format!("{databases}mq:\n  host: q\n"), &[]), ["redis://q:6379"]);
        assert_eq!(places(databases, &[("MONGO_URI", "mongodb://m/e")])[1], "mongodb://m/e");
        let file = "project:\n  dump_buffer:\n    enabled: true\n";
        assert_eq!(places(file, &[]), ["jsonl:flowcept_buffer.jsonl"]);
    }
}
