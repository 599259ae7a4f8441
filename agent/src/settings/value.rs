//! What a scalar or a variable says, by the kind of its key. It never repeats what was given: that may be a secret.

use serde_json::{Number, Value, json};

use super::table::{Key, Kind};

/// Words for true; Flowcept takes them too.
const YES: [&str; 6] = ["true", "yes", "y", "t", "on", "1"];
const NO: [&str; 6] = ["false", "no", "n", "f", "off", "0"];

/// A value that is no list and no map. Numbers and words may stand in quotes, as what a variable gives does.
pub(super) fn scalar(key: &Key, text: &str) -> Result<Value, String> {
    let wants = |what: &str| Err(format!("{} wants {what}", key.name));
    let word = text.trim();
    match key.kind {
        Kind::Flag if YES.iter().any(|yes| yes.eq_ignore_ascii_case(word)) => Ok(true.into()),
        Kind::Flag if NO.iter().any(|no| no.eq_ignore_ascii_case(word)) => Ok(false.into()),
        Kind::Flag => wants("true or false"),
        Kind::Whole(least) => match word.parse::<i64>() {
            Ok(number) if number >= least => Ok(number.into()),
            _ => wants(&format!("a whole number that is not below {least}")),
        },
        Kind::Port => match word.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port.into()),
            _ => wants("a port, a whole number from 1 to 65535"),
        },
        Kind::Number => match word.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(number.into()),
            _ => wants("a number that is not below 0"),
        },
        Kind::OneOf(words) => match words.iter().find(|known| known.eq_ignore_ascii_case(word)) {
            Some(known) => Ok((*known).into()),
            None => wants(&format!("one of {}", words.join(", "))),
        },
        Kind::Text => Ok(text.into()),
        Kind::List => wants("a list, as [a, b]"),
        Kind::Map => wants("keys with values under it"),
    }
}

/// What a variable of the environment says.
pub(super) fn variable(key: &Key, text: &str) -> Result<Value, String> {
    match key.kind {
        Kind::List => serde_json::from_str::<Vec<String>>(text)
            .map(|list| json!(list))
            .map_err(|_| format!("{} wants a JSON list of texts", key.name)),
        _ => scalar(key, text),
    }
}

/// Whether a scalar without quotes is none.
pub(super) fn is_none(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A scalar without quotes and without a kind, as YAML has it.
pub(super) fn plain(text: &str) -> Value {
    match text {
        none if is_none(none) => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => match (text.parse::<i64>(), text.parse::<f64>().ok().and_then(Number::from_f64)) {
            (Ok(whole), _) => whole.into(),
            (_, Some(number)) => number.into(),
            _ => text.into(),
        },
    }
}
