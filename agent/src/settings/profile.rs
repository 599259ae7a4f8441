//! Flowcept's profiles: some settings together, changed in a file of which all else stays as it is written.

use serde_json::Value;

use super::file::{self, Content};
use super::{Variables, Wrong, value};

/// A key and its value, as YAML.
pub type Setting = (&'static str, &'static str);

/// Flowcept 1.0.3's profiles.
pub const PROFILES: [(&str, &[Setting]); 5] = [
    (
        "full-online",
        &[
            ("project.db_flush_mode", "online"),
            ("mq.enabled", "true"),
            ("kv_db.enabled", "true"),
            ("databases.mongodb.enabled", "true"),
            ("databases.lmdb.enabled", "false"),
            ("db_buffer.insertion_buffer_time_secs", "5"),
        ],
    ),
    (
        "full-telemetry",
        &[
            ("telemetry_capture.cpu", "true"),
            ("telemetry_capture.per_cpu", "true"),
            ("telemetry_capture.process_info", "true"),
            ("telemetry_capture.mem", "true"),
            ("telemetry_capture.disk", "true"),
            ("telemetry_capture.network", "true"),
            ("telemetry_capture.machine_info", "true"),
            ("telemetry_capture.gpu", "~"),
        ],
    ),
    (
        "mq-only",
        &[
            ("project.db_flush_mode", "online"),
            ("mq.enabled", "true"),
            ("kv_db.enabled", "false"),
            ("databases.mongodb.enabled", "false"),
            ("databases.lmdb.enabled", "false"),
        ],
    ),
    (
        "full-offline",
        &[
            ("project.db_flush_mode", "offline"),
            ("project.dump_buffer.enabled", "true"),
            ("mq.enabled", "false"),
            ("kv_db.enabled", "false"),
            ("databases.mongodb.enabled", "false"),
            ("databases.lmdb.enabled", "false"),
        ],
    ),
    (
        "mq-only-no-flush",
        &[
            ("project.db_flush_mode", "offline"),
            ("project.dump_buffer.enabled", "true"),
            ("mq.enabled", "true"),
            ("kv_db.enabled", "false"),
            ("databases.mongodb.enabled", "false"),
            ("databases.lmdb.enabled", "false"),
        ],
    ),
];

/// A value that is to become another.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub name: &'static str,
    /// What the file says; absent where it says nothing.
    pub from: Option<String>,
    /// What it is to say.
    pub to: &'static str,
}

/// What a text has to change for these settings.
pub fn changes(text: &str, settings: &[Setting], variables: Variables<'_>) -> Result<Vec<Change>, Vec<Wrong>> {
    let content = file::read(text, variables)?;
    let changes = settings.iter().filter_map(|(name, to)| {
        let found = content.entries.iter().find(|entry| entry.key.name == *name && !entry.value.is_null());
        let wanted = found.map_or(Value::Null, |entry| value::scalar(entry.key, to).unwrap_or_default());
        let is_so = found.map_or(value::is_none(to), |entry| entry.value == wanted);
        let from = found.map(|entry| entry.value.as_str().map_or_else(|| entry.value.to_string(), String::from));
        (!is_so).then_some(Change { name, from, to })
    });
    Ok(changes.collect())
}

/// The text with these changes.
pub fn changed(text: &str, changes: &[Change], variables: Variables<'_>) -> Result<String, Vec<Wrong>> {
    changes.iter().try_fold(text.to_string(), |text, change| {
        let content = file::read(&text, variables)?;
        set(&text, &content, change.name, change.to).map_err(|line| {
            let what = format!(
                "this is written in a way that is not changed here: write {}: {} yourself",
                change.name, change.to
            );
            vec![(Some(line), what)]
        })
    })
}

/// The text with one value changed or added; else the line in which that cannot be done.
fn set(text: &str, content: &Content, name: &str, to: &str) -> Result<String, usize> {
    if let Some(entry) = content.entries.iter().find(|entry| entry.key.name == name) {
        let (start, old) = entry.source.as_ref().filter(|(_, old)| !old.is_empty()).ok_or(entry.line)?;
        let start = text.char_indices().nth(*start).map(|(at, _)| at).ok_or(entry.line)?;
        let written = [old.clone(), format!("\"{old}\""), format!("'{old}'")];
        let written = written.iter().find(|written| text[start..].starts_with(*written)).ok_or(entry.line)?;
        return Ok(format!("{}{to}{}", &text[..start], &text[start + written.len()..]));
    }
    // Into the innermost section that is there.
    let words: Vec<&str> = name.split('.').collect();
    for depth in (1..words.len()).rev() {
        let section = words[..depth].join(".");
        let Some(section) = content.sections.iter().find(|found| found.name == section) else { continue };
        let written = text.lines().nth(section.line - 1).unwrap_or_default();
        let own = written.len() - written.trim_start().len();
        let (before, indent) = match section.first {
            Some((line, indent)) if line > section.line => (line, indent),
            None if written.split('#').next().is_some_and(|written| written.trim_end().ends_with(':')) => {
                (section.line + 1, own + 2)
            }
            _ => return Err(section.line),
        };
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.insert(before - 1, nested(&words[depth..], indent, to));
        return Ok(lines.join("\n") + "\n");
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{text}{end}{}\n", nested(&words, 0, to)))
}

/// Sections in one another, and a value in the last.
fn nested(words: &[&str], indent: usize, value: &str) -> String {
    let last = words.len() - 1;
    let lines = words.iter().enumerate().map(|(depth, word)| {
        let value = if depth == last { format!(" {value}") } else { String::new() };
        format!("{}{word}:{value}", " ".repeat(indent + 2 * depth))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::sample;

    fn applied(text: &str, settings: &[Setting]) -> Result<String, Vec<Wrong>> {
        let changes = changes(text, settings, &|_| None)?;
        changed(text, &changes, &|_| None)
    }

    #[test]
    fn only_what_changes_is_written_anew() {
        let text = "# mine\nmq:\n    type: kafka # ours\n    enabled: 'no'\n\nproject: # keep\nlog:\n  log_path: x";
        let settings = [
            ("mq.enabled", "true"),
            ("mq.host", "queue"),
            ("project.dump_buffer.enabled", "true"),
            ("kv_db.enabled", "false"),
        ];
        let wanted = "# mine\nmq:\n    host: queue\n    type: kafka # ours\n    enabled: true\n\nproject: # keep\n  \
                      dump_buffer:\n    enabled: true\nlog:\n  log_path: x\nkv_db:\n  enabled: false\n";
        assert_eq!(applied(text, &settings).expect("because it can be changed"), wanted);
        assert_eq!(applied(wanted, &settings).expect("because it can be read"), wanted);
    }

    #[test]
    fn what_is_written_on_one_line_is_left_to_its_writer() {
        for text in ["mq: {type: kafka}\n", "mq: {}\n", "mq:\n  enabled:\n"] {
            let wrong = applied(text, &[("mq.enabled", "true")]).expect_err("because that is not changed here");
            assert!(wrong[0].1.ends_with("write mq.enabled: true yourself"), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn each_profile_fits_each_sample() {
        for text in [sample::text(false), sample::text(true), String::new()] {
            for (name, settings) in PROFILES {
                let text = applied(&text, settings).expect("because it can be changed");
                assert_eq!(changes(&text, settings, &|_| None), Ok(Vec::new()), "{name}");
            }
        }
    }
}
