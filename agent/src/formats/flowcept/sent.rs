//! Values as they are sent: bounded, without what is empty, and such that MongoDB takes them as they are. It does not know what they
//! say.

use serde_json::Value;

/// At most so many bytes as JSON, cut between characters.
pub(super) fn bounded(value: &str, bytes: usize) -> String {
    let mut left = bytes;
    let end = value.char_indices().find(|(_, c)| {
        let size = match c {
            '"' | '\\' => 2,
            c if c.is_ascii_control() => 6,
            c => c.len_utf8(),
        };
        let full = size > left;
        left = left.saturating_sub(size);
        full
    });
    end.map_or_else(|| value.to_string(), |(end, _)| format!("{}…", &value[..end]))
}

/// What nobody is told.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn is_evaluated(text: &str) -> bool {
    text.trim_start_matches('\u{200b}').starts_with('$')
}

/// As it is sent: without what is null or empty, keys and values such that MongoDB takes them as they are.
pub(super) fn clean(mut value: Value) -> Value {
    clean_in_place(&mut value);
    value
}

fn clean_in_place(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(clean_in_place);
            map.retain(|_, value| !is_nothing(value));
            if map.keys().any(|key| key.contains('.') || key.starts_with('$')) {
                *map = std::mem::take(map).into_iter().map(|(key, value)| (clean_key(&key), value)).collect();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(clean_in_place),
        Value::String(text) if is_evaluated(text) => text.insert(0, '\u{200b}'),
        _ => {}
    }
}

fn clean_key(key: &str) -> String {
    let key = key.replace('.', "\u{ff0e}");
    key.strip_prefix('$').map(|rest| format!("\u{ff04}{rest}")).unwrap_or(key)
}

/// Bytes of a value as it is sent, with a comma.
pub(super) fn size(value: &Value) -> usize {
    length(value).0 + 1
}

/// Bytes of a value as it is sent, and whether it is sent inside of a map.
fn length(value: &Value) -> (usize, bool) {
    let sum = |count: usize, bytes: usize| bytes + count.max(1) - 1 + "[]".len();
    match value {
        Value::Null => ("null".len(), false),
        Value::Bool(is) => (if *is { "true".len() } else { "false".len() }, true),
        Value::Number(number) => (number.to_string().len(), true),
        Value::String(text) => (text_length(text) + if is_evaluated(text) { '\u{200b}'.len_utf8() } else { 0 }, true),
        Value::Array(list) => (sum(list.len(), list.iter().map(|value| length(value).0).sum()), !list.is_empty()),
        Value::Object(map) => {
            let wider = '\u{ff0e}'.len_utf8() - ".".len();
            let pairs = map.iter().filter_map(|(key, value)| {
                let (bytes, is_sent) = length(value);
                let escaped = key.matches('.').count() + usize::from(key.starts_with('$'));
                is_sent.then(|| text_length(key) + escaped * wider + ":".len() + bytes)
            });
            let (count, bytes) = pairs.fold((0, 0), |(count, all), bytes| (count + 1, all + bytes));
            (sum(count, bytes), count > 0)
        }
    }
}

/// Bytes of a text in JSON.
fn text_length(text: &str) -> usize {
    text.bytes().map(json_width).sum::<usize>() + "\"\"".len()
}

/// Bytes that one byte of a text takes in JSON.
fn json_width(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        #[test]
        fn a_size_is_that_of_what_is_sent(value in any_value()) {
            prop_assert_eq!(size(&value), clean(value).to_string().len() + 1);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[$.a\u{200b}\n\u{1}\"\u{e4}\u{7f}]{0,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from);
            // Keys of a document do not become equal.
            let map = proptest::collection::btree_map("[$.]{0,2}[a-z\"]{2}", inner, 0..5);
            prop_oneof![list, map.prop_map(|map| Value::Object(map.into_iter().collect()))]
        })
    }

    #[test]
    fn the_escape_can_be_taken_back() {
        for (value, sent) in
            [("$a", "\u{200b}$a"), ("\u{200b}$a", "\u{200b}\u{200b}$a"), ("\u{200b}a", "\u{200b}a"), ("a$", "a$")]
        {
            assert_eq!(clean(json!(value)), json!(sent));
        }
    }
}
