//! A settings file to begin with, from the table. Flowcept's Python reads it as well, so a key that has no value is a comment: what
//! is `~` there it takes for a value.

use super::table::{KEYS, Key};

/// The sample: of what most change, or of all.
pub fn text(is_full: bool) -> String {
    let mut out = String::from(
        "# Settings of flowcept; Flowcept's Python reads them too. Who may read this file has the passwords in it.\n\
         # Each can be given as a variable of the environment that is named in [], which goes before this file.\n",
    );
    let keys: Vec<&Key> = KEYS.iter().filter(|key| is_full || key.is_common).collect();
    // Values as they are kept here, and whether one under this section is no comment.
    let has_value = |section: &str| {
        let inside = |key: &&&Key| key.name.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        keys.iter().filter(inside).any(|key| key.default != "~")
    };
    let mut open: Vec<&str> = Vec::new();
    for key in &keys {
        let words: Vec<&str> = key.name.split('.').collect();
        let (name, sections) = words.split_last().expect("because a name has a word");
        if open.first() != sections.first() || sections.is_empty() {
            out.push('\n');
        }
        let shared = open.iter().zip(sections).take_while(|(one, other)| one == other).count();
        for depth in shared..sections.len() {
            let mark = if has_value(&sections[..=depth].join(".")) { "" } else { "# " };
            out.push_str(&format!("{}{mark}{}:\n", "  ".repeat(depth), sections[depth]));
        }
        open = sections.to_vec();
        let mark = if key.default == "~" { "# " } else { "" };
        let value = if key.default == "~" { "" } else { key.default };
        let says = match key.unused {
            Some(why) => format!("not used: {why}"),
            None => key.meaning.to_string(),
        };
        let variable = key.variable.map(|name| format!(" [{name}]")).unwrap_or_default();
        out.push_str(&format!("{}{mark}{name}: {value}  # {says}{variable}\n", "  ".repeat(sections.len())));
    }
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
