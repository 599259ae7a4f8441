//! The settings file: YAML, each value with its line. What is wrong is named by line and key, all of it at once. The file may be
//! anybody's: it is bounded, and nothing in it stands for more than is written there.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use marked_yaml::types::{MarkedMappingNode, MarkedScalarNode};
use marked_yaml::{LoadError, LoaderOptions, Marker, Node, parse_yaml_with_options};
use serde_json::{Map, Value};

use super::table::{KEYS, Key, Kind, find};
use super::value::{is_none, plain, scalar};
use super::{Variables, Wrong};

/// Flowcept's sample has 9 kB.
const MOST_BYTES: u64 = 128 << 10;
/// Address space for a parser that goes as deep as the text; memory only as far as it is used.
const STACK: usize = 512 << 20;
/// Maps and lists in one another.
const DEEPEST: usize = 32;
/// Names that are less alike are no help.
const ALIKE: f64 = 0.6;

/// A value of the file.
pub(super) struct Entry {
    pub(super) key: &'static Key,
    /// Null where `~` stands: as if the key were not there.
    pub(super) value: Value,
    pub(super) line: usize,
    /// Where a scalar begins: its number of characters from the begin of the file, and what it is there.
    pub(super) source: Option<(usize, String)>,
}

/// What a file says.
#[derive(Default)]
pub(super) struct Content {
    pub(super) entries: Vec<Entry>,
    pub(super) sections: Vec<Section>,
}

/// A section, and its line.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) line: usize,
    /// The line and the indent of its first key, if it has one.
    pub(super) first: Option<(usize, usize)>,
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String, String> {
    // A pipe would wait for who writes into it.
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let read = || {
        let file = options.open(path)?;
        let mut bytes = Vec::new();
        let is_file = file.metadata()?.is_file();
        if is_file {
            file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        }
        Ok((is_file, bytes))
    };
    let (is_file, bytes) = read().map_err(|why: io::Error| match why.kind() {
        io::ErrorKind::NotFound => "there is no such file; `flowcept init-settings` writes one".to_string(),
        io::ErrorKind::PermissionDenied => "it may not be read; give yourself the right, or name another".into(),
        _ => format!("it cannot be read: {why}"),
    })?;
    if !is_file {
        return Err("this is no file; name another".into());
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it has more than {} kB, which no settings have", MOST_BYTES >> 10));
    }
    String::from_utf8(bytes).map_err(|why| {
        let line = 1 + why.as_bytes()[..why.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        format!("line {line} is no UTF-8")
    })
}

/// What the text of a file says; all that is wrong with it.
pub(super) fn read(text: &str, variables: Variables<'_>) -> Result<Content, Vec<Wrong>> {
    // Of nothing but comments the parser makes no map.
    if text.lines().all(|line| matches!(line.trim(), "" | "---") || line.trim_start().starts_with('#')) {
        return Ok(Content::default());
    }
    // Who asks for variables has them here, for the parser runs in a thread of its own.
    let wanted = names(text).into_iter().map(|name| (name, variables(name)));
    let wanted: Vec<(&str, Option<String>)> = wanted.collect();
    let work = || {
        let options = LoaderOptions::default().error_on_duplicate_keys(true).prevent_coercion(true);
        let node = parse_yaml_with_options(0, text, options).map_err(|error| vec![unreadable(&error)])?;
        let mut reader = Reader { variables: &wanted, content: Content::default(), wrong: Vec::new() };
        if let Some(top) = node.as_mapping() {
            reader.section("", top);
        }
        if reader.wrong.is_empty() { Ok(reader.content) } else { Err(reader.wrong) }
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|why| vec![(None, format!("it cannot be read: {why}"))])?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn unreadable(error: &LoadError) -> Wrong {
    let at = |marker: &Marker| Some(marker.line());
    match error {
        LoadError::TopLevelMustBeMapping(marker) | LoadError::TopLevelMustBeSequence(marker) => {
            (at(marker), "settings are keys with values, as `mq:`".into())
        }
        LoadError::UnexpectedAnchor(marker) => {
            (at(marker), "anchors (&) and aliases (*) are not taken: write the value where it belongs".into())
        }
        LoadError::UnexpectedTag(marker) => (at(marker), "tags (!) are not taken".into()),
        LoadError::MappingKeyMustBeScalar(marker) => (at(marker), "a key is a word".into()),
        LoadError::ScanError(marker, error) => (at(marker), format!("this is no YAML: {}", error.info())),
        LoadError::DuplicateKey(keys) => {
            let first = keys.prev_key.span().start().map_or(0, Marker::line);
            let what = format!("{} is there already, in line {first}: remove one", keys.key.as_str());
            (line(keys.key.span().start()), what)
        }
    }
}

fn line(marker: Option<&Marker>) -> Option<usize> {
    marker.map(Marker::line)
}

const BEGIN: &str = "${oc.env:";

/// The variables that a text asks for.
fn names(text: &str) -> Vec<&str> {
    let asked = text.split(BEGIN).skip(1).filter_map(|rest| rest.split_once('}'));
    asked.map(|(inside, _)| inside.split_once(',').map_or(inside, |(name, _)| name).trim()).collect()
}

struct Reader<'a> {
    variables: &'a [(&'a str, Option<String>)],
    content: Content,
    wrong: Vec<Wrong>,
}

impl Reader<'_> {
    fn section(&mut self, prefix: &str, section: &MarkedMappingNode) {
        for (key, node) in section.iter() {
            let name = if prefix.is_empty() { key.as_str().to_string() } else { format!("{prefix}.{}", key.as_str()) };
            let at = line(key.span().start());
            if let Some(key) = find(&name) {
                match self.value(key, node) {
                    Ok(value) => {
                        let source = node.as_scalar().and_then(|s| Some((s.span().start()?.character(), s.as_str())));
                        let source = source.map(|(start, text)| (start, text.to_string()));
                        self.content.entries.push(Entry { key, value, line: at.unwrap_or(0), source });
                    }
                    Err(why) => self.wrong.push((at, why)),
                }
                continue;
            }
            let is_section = KEYS.iter().any(|key| key.name.strip_prefix(&*name).is_some_and(|r| r.starts_with('.')));
            match node {
                Node::Mapping(inner) if is_section => {
                    let first = inner.iter().next().and_then(|(key, _)| key.span().start().copied());
                    let first = first.map(|marker| (marker.line(), marker.column() - 1));
                    self.content.sections.push(Section { name: name.clone(), line: at.unwrap_or(0), first });
                    self.section(&name, inner);
                }
                Node::Scalar(text) if is_section && text.may_coerce() && is_none(text.as_str()) => {
                    self.content.sections.push(Section { name, line: at.unwrap_or(0), first: None });
                }
                _ if is_section => self.wrong.push((at, format!("{name} is a section: its keys belong under it"))),
                _ => self.wrong.push((at, unknown(&name))),
            }
        }
    }

    fn value(&self, key: &Key, node: &Node) -> Result<Value, String> {
        match (node, key.kind) {
            (Node::Scalar(text), _) if text.may_coerce() && is_none(text.as_str()) => Ok(Value::Null),
            (Node::Scalar(text), _) => scalar(key, &self.resolved(text)?),
            (Node::Sequence(list), Kind::List) => {
                let texts = list.iter().map(|item| match item {
                    Node::Scalar(text) => Ok(Value::from(self.resolved(text)?)),
                    _ => Err(format!("{} wants a list of texts", key.name)),
                });
                texts.collect::<Result<Vec<_>, _>>().map(Value::from)
            }
            (Node::Mapping(_), Kind::Map) => self.tree(node, 0),
            // Says what is wanted.
            _ => match key.kind {
                Kind::Text => Err(format!("{} wants a text", key.name)),
                _ => scalar(key, "a list or a map"),
            },
        }
    }

    fn tree(&self, node: &Node, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(format!("maps and lists may be {DEEPEST} deep"));
        }
        Ok(match node {
            Node::Scalar(text) if text.may_coerce() => plain(&self.resolved(text)?),
            Node::Scalar(text) => self.resolved(text)?.into(),
            Node::Sequence(list) => {
                list.iter().map(|item| self.tree(item, depth + 1)).collect::<Result<Vec<_>, _>>()?.into()
            }
            Node::Mapping(map) => {
                let pairs = map.iter().map(|(key, node)| Ok((key.as_str().to_string(), self.tree(node, depth + 1)?)));
                pairs.collect::<Result<Map<_, _>, String>>()?.into()
            }
        })
    }

    /// With what it asks of the environment.
    fn resolved(&self, scalar: &MarkedScalarNode) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = scalar.as_str();
        while let Some((before, asked)) = rest.split_once("${") {
            let (inside, after) = asked.split_once('}').ok_or("a ${ has no }")?;
            let inside = inside.strip_prefix("oc.env:").ok_or("of ${…} there is only ${oc.env:NAME} here")?;
            let (name, default) = inside.split_once(',').map_or((inside, None), |(name, rest)| (name, Some(rest)));
            let name = name.trim();
            let found = self.variables.iter().find(|(asked, _)| *asked == name).and_then(|(_, value)| value.as_deref());
            let value = found
                .or(default.map(str::trim))
                .ok_or_else(|| format!("the environment has no {name}; set it, or write ${{oc.env:{name},DEFAULT}}"))?;
            out.push_str(before);
            out.push_str(value);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// With the known name that is most like it.
fn unknown(name: &str) -> String {
    let sections = KEYS.iter().filter_map(|key| key.name.rsplit_once('.')).map(|(section, _)| section);
    let known = KEYS.iter().map(|key| key.name).chain(sections);
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
    // The last word weighs as much as the whole: a key in the wrong section is near to itself.
    let likeness = |known: &str| {
        strsim::normalized_damerau_levenshtein(known, name)
            + strsim::normalized_damerau_levenshtein(&last(known), &last(name))
    };
    let nearest = known.map(|known| (likeness(known) / 2.0, known)).max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((alike, nearest)) if alike >= ALIKE => format!("there is no setting {name}; did you mean {nearest}?"),
        _ => format!("there is no setting {name}; `flowcept show-settings` lists those that there are"),
    }
}
