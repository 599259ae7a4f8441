//! `flowcept init-settings`, `show-settings` and `config-profile`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::capture::redact::{REDACTED, is_secret_name, without_password};
use crate::exit_code;
use crate::settings::table::KEYS;
use crate::settings::{self, Origin, Settings, profile, sample};

/// The file that is meant.
fn place(named: Option<PathBuf>) -> Result<PathBuf> {
    settings::path(named).context("HOME is not set: name a file with --settings")
}

/// Writes a settings file to begin with, which nobody else may read.
pub(super) fn init(named: Option<PathBuf>, is_full: bool, yes: bool) -> Result<ExitCode> {
    let path = place(named)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("make {}", folder.display()))?;
    }
    let old = PathBuf::from(format!("{}.old", path.display()));
    if yes {
        match std::fs::rename(&path, &old) {
            Ok(()) => println!("what was there is kept as {}", old.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("keep {} as {}", path.display(), old.display())),
        }
    }
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
    match file.and_then(|mut file| file.write_all(sample::text(is_full).as_bytes())) {
        Ok(()) => println!("wrote {}", path.display()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already: --yes writes another and keeps this one as {}", path.display(), old.display())
        }
        Err(error) => return Err(error).with_context(|| format!("write {}", path.display())),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints all settings, without secrets.
pub(super) fn show(settings: &Settings, as_json: bool) -> Result<ExitCode> {
    let rows = KEYS.iter().map(|key| {
        let value = settings.get(key.name).0;
        let hidden = key.is_secret && !value.is_null();
        let value = if hidden { REDACTED.into() } else { without_secrets(value) };
        (key, value, settings.get(key.name).1)
    });
    if as_json {
        let rows: Value = rows
            .map(|(key, value, origin)| {
                let origin = match origin {
                    Origin::Default => json!("default"),
                    Origin::Variable(name) => json!({"variable": name}),
                    Origin::File(line) => json!({"file": settings.file(), "line": line}),
                };
                json!({"key": key.name, "value": value, "origin": origin, "unused": key.unused})
            })
            .collect();
        println!("{rows}");
        return Ok(ExitCode::SUCCESS);
    }
    match settings.file() {
        Some(path) => println!("settings of {}", path.display()),
        None => println!("no settings file; `flowcept init-settings` writes one"),
    }
    for (key, value, origin) in rows {
        let value = match value {
            Value::Null => "~".into(),
            Value::String(text) => text,
            value => value.to_string(),
        };
        let origin = match origin {
            Origin::Default => "default".into(),
            Origin::Variable(name) => name.to_string(),
            Origin::File(line) => format!("line {line}"),
        };
        let unused = key.unused.map(|why| format!("  not used: {why}")).unwrap_or_default();
        let row = format!("{:<46} {value:<24} {origin:<12}{unused}", key.name);
        println!("{}", row.trim_end());
    }
    warn_of_readers(settings);
    Ok(ExitCode::SUCCESS)
}

/// Says on stderr that others can read the passwords in the file.
pub(super) fn warn_of_readers(settings: &Settings) {
    let has_secret = |key: &str| {
        let (value, origin) = settings.get(key);
        let is_given = matches!(origin, Origin::File(_)) && value != "?";
        is_given && (settings::is_secret(key) || without_secrets(value) != *value)
    };
    let Some(path) = settings.file() else { return };
    let is_open = std::fs::metadata(path).is_ok_and(|facts| facts.mode() & 0o077 != 0);
    if let Some(key) = KEYS.iter().find(|key| is_open && has_secret(key.name)) {
        let (name, path) = (key.name, path.display());
        eprintln!("flowcept: others can read {path}, which has {name}: chmod 600 {path}");
    }
}

/// What is under a key of the user's own may be a secret by its name, or a URL with one.
fn without_secrets(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let pairs = map.iter().map(|(name, value)| {
                let hidden = is_secret_name(name) && !value.is_null();
                (name.clone(), if hidden { REDACTED.into() } else { without_secrets(value) })
            });
            Value::Object(pairs.collect())
        }
        Value::Array(list) => list.iter().map(without_secrets).collect(),
        Value::String(text) => without_password(text.clone()).into(),
        other => other.clone(),
    }
}

/// Changes the file to a profile.
pub(super) fn apply(named: Option<PathBuf>, name: &str, yes: bool) -> Result<ExitCode> {
    let path = place(named)?;
    let text = match std::fs::exists(&path) {
        Ok(false) => String::new(),
        _ => settings::text(&path)?,
    };
    let wanted = profile::PROFILES.iter().find(|(known, _)| *known == name).map(|(_, wanted)| *wanted);
    let wanted = wanted.context("there is no such profile")?;
    let variable = &settings::variable;
    let changes = settings::named(&path, profile::changes(&text, wanted, variable))?;
    if changes.is_empty() {
        println!("{} is so already", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} changes:", path.display());
    for change in &changes {
        println!("  {}: {} -> {}", change.name, change.from.as_deref().unwrap_or("(not there)"), change.to);
    }
    let changed = settings::named(&path, profile::changed(&text, &changes, variable))?;
    if !yes && !agreed()? {
        println!("nothing is changed");
        return Ok(ExitCode::from(exit_code::FAILED));
    }
    replace(&path, &changed).with_context(|| format!("write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to be asked: give --yes");
    }
    print!("Apply these changes? (y/N): ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// As a whole, with the rights that it has; one that is new nobody else may read. A link stays one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let part = PathBuf::from(format!("{}.part", path.display()));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    if let Ok(facts) = std::fs::metadata(&path) {
        file.set_permissions(facts.permissions())?;
    }
    file.sync_data()?;
    Ok(std::fs::rename(part, path)?)
}
