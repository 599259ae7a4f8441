//! Rules of the house that neither rustc nor clippy can check. It reads files and changes none.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, bail};

/// The files that say `unsafe`; no others may, and these must, so that the list does not outlive its reasons.
const UNSAFE: [&str; 22] = [
    "probes/wire/src/read.rs",
    "probes/src/probes.rs",
    "agent/src/cli.rs",
    "benches/whole/main.rs",
    "agent/src/session/launch.rs",
    "agent/src/store/index.rs",
    "agent/src/sinks/lmdb.rs",
    "agent/src/capture/spool/volumes.rs",
    "preload/src/lib.rs",
    "preload/src/raw.rs",
    "preload/src/real.rs",
    "preload/src/segment.rs",
    "preload/src/control.rs",
    "preload/src/descriptors.rs",
    "preload/src/environment.rs",
    "preload/src/inherit.rs",
    "preload/src/lifecycle.rs",
    "preload/src/hooks.rs",
    "preload/src/hooks/exec.rs",
    "preload/src/hooks/file.rs",
    "preload/src/hooks/process.rs",
    "preload/src/hooks/stream.rs",
];

/// Where every Rust file says at its top what it does.
const DOCUMENTED: [&str; 6] = ["agent/", "probes/", "preload/", "tests/", "benches/", "xtask/"];

/// Languages whose files have one subject each; the others are data.
const SOURCES: [&str; 5] = [".rs", ".c", ".h", ".py", ".sh"];
const MOST_LINES: usize = 800;

/// What belongs into an issue, or into one machine only.
const UNWANTED: [&str; 3] = ["/work/", "TODO", "FIXME"];
const THIS_FILE: &str = "xtask/src/tidy.rs";
const LAYER_TABLE: &str = "agent/src/lib.rs";

/// Prints every breach on stderr, and fails where there is one.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = texts(root)?;
    let mut breaches = Vec::new();
    for (path, text) in &files {
        breaches.extend(file(path, text));
    }
    breaches.extend(unsafe_files(&files));
    breaches.extend(layers(&files));
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    match breaches.len() {
        0 => Ok(()),
        1 => bail!("one rule of the house is broken: see above"),
        count => bail!("{count} rules of the house are broken: see above"),
    }
}

/// Text files by path: those that git tracks, and new ones that it does not ignore.
type Texts = BTreeMap<String, String>;

fn texts(root: &Path) -> Result<Texts> {
    // A checkout that belongs to somebody else is as good, since nothing in it is run.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("start git")?;
    if !output.status.success() {
        bail!("git does not list the files here: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut texts = Texts::new();
    for path in String::from_utf8(output.stdout).context("a path is not UTF-8")?.split_terminator('\0') {
        let full = root.join(path);
        if !fs::symlink_metadata(&full).is_ok_and(|m| m.is_file()) {
            continue; // Deleted and not yet committed, or a link to a file that is read by its own name.
        }
        match fs::read_to_string(&full) {
            Ok(text) => drop(texts.insert(path.to_string(), text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        }
    }
    Ok(texts)
}

/// The rules that look at one file.
fn file(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if path.ends_with(".rs") && DOCUMENTED.iter().any(|d| path.starts_with(d)) && !text.starts_with("//!") {
        breaches.push(format!("{path}:1: does not begin with `//!`, what it does and what it does not"));
    }
    if path == "mod.rs" || path.ends_with("/mod.rs") {
        breaches.push(format!("{path}: is `foo.rs` beside `foo/` here"));
    }
    let lines = text.lines().count();
    let in_tests = path.rsplit('/').skip(1).any(|folder| folder == "tests");
    if lines > MOST_LINES && !in_tests && SOURCES.iter().any(|s| path.ends_with(s)) {
        breaches.push(format!("{path}: has {lines} lines, thus more than one subject (at most {MOST_LINES})"));
    }
    if path != THIS_FILE {
        for (number, line) in text.lines().enumerate() {
            for word in UNWANTED.iter().filter(|w| line.contains(**w)) {
                breaches.push(format!("{path}:{}: contains {word}", number + 1));
            }
        }
    }
    breaches
}

/// The files that say `unsafe` are those in the list.
fn unsafe_files(files: &Texts) -> Vec<String> {
    let mut breaches = Vec::new();
    for (path, text) in files.iter().filter(|(p, _)| p.ends_with(".rs")) {
        if says_unsafe(text) && !UNSAFE.contains(&path.as_str()) {
            breaches.push(format!("{path}: says `unsafe`, and is not in the list in {THIS_FILE}"));
        }
    }
    for path in UNSAFE {
        if !files.get(path).is_some_and(|text| says_unsafe(text)) {
            breaches.push(format!("{path}: does not say `unsafe` any more: take it off the list in {THIS_FILE}"));
        }
    }
    breaches
}

fn says_unsafe(text: &str) -> bool {
    code(text).lines().flat_map(words).any(|word| word == "unsafe")
}

/// Inside the agent an upper layer uses a lower one, never the reverse.
fn layers(files: &Texts) -> Vec<String> {
    let Some(layers) = files.get(LAYER_TABLE).and_then(|text| layer_table(text)) else {
        return vec![format!(
            "{LAYER_TABLE}: has no table of layers, a line `//! layers:` and one `//! upper > lower`"
        )];
    };
    let layer = |module: &str| layers.iter().position(|l| l.iter().any(|m| m == module));
    let mut breaches = Vec::new();
    for (path, text) in files {
        let Some(user) = path.strip_prefix("agent/src/").and_then(|p| p.strip_suffix(".rs")) else { continue };
        let user = user.split('/').next().unwrap_or(user);
        if ["lib", "main"].contains(&user) {
            continue;
        }
        let Some(own) = layer(user) else {
            breaches.push(format!("{path}: `{user}` is in no layer of the table in {LAYER_TABLE}"));
            continue;
        };
        for (line, used) in crate_uses(&code(text)) {
            if layer(&used).is_some_and(|of_used| of_used < own) {
                breaches.push(format!("{path}:{line}: `{user}` uses `{used}`, which lies in a layer above"));
            }
        }
    }
    breaches
}

/// The modules of each layer, uppermost first, from the lines after `//! layers:` up to the first that has none.
fn layer_table(text: &str) -> Option<Vec<Vec<String>>> {
    let mut docs = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    docs.find(|line| *line == "layers:")?;
    let opening = |line: &&str| line.is_empty() || line.starts_with("```");
    let lines: Vec<&str> = docs.skip_while(opening).take_while(|line| !opening(line)).collect();
    let layers: Vec<Vec<String>> =
        lines.join(" ").split('>').map(|layer| layer.split_whitespace().map(String::from).collect()).collect();
    let named = |word: &String| word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit());
    let whole = layers.len() > 1 && layers.iter().all(|layer| !layer.is_empty() && layer.iter().all(named));
    whole.then_some(layers)
}

/// Line and first name of each `crate::name` and of each name in `crate::{…}`; `code` has no comments and strings.
fn crate_uses(code: &str) -> Vec<(usize, String)> {
    let mut uses = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let line = 1 + code[..at].matches('\n').count();
        let path = &code[at + "crate::".len()..];
        match path.strip_prefix('{') {
            None => uses.extend(words(path).next().map(|name| (line, name.to_string()))),
            Some(group) => uses.extend(group_heads(group).into_iter().map(|name| (line, name))),
        }
    }
    uses
}

/// The first name of each path in `a::B, c::{d, e}, f}…`, up to the brace that closes the group.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.extend(words(&group[start..at]).next().map(String::from));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Rust source with its comments left out, its strings and characters empty, and its lines where they were.
fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !out.ends_with(is_word) || is_prefixed(&out)) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (left_out, after) = rest.split_at(length);
        out.push(' ');
        out.extend(left_out.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    out
}

/// The length of a comment in `/* */`, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of `r"…"` or `r#"…"#`.
fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('r')?.trim_start_matches('#');
    let hashes = text.len() - 1 - inner.len();
    let inner = inner.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(inner.find(&end).map_or(text.len(), |at| 2 + hashes + at + end.len()))
}

/// Whether the `r` that follows continues `br"` or `cr"`.
fn is_prefixed(before: &str) -> bool {
    before.strip_suffix(['b', 'c']).is_some_and(|b| !b.ends_with(is_word))
}

/// The length of a literal between two `quote`s.
fn quoted(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// Whether the quote opens a character and not the name of a lifetime.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    characters.next() == Some('\\') || characters.next() == Some('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Texts {
        files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
    }

    #[test]
    fn code_has_no_comments_and_literals() {
        let check = |source: &str, expect: &str| {
            let words: Vec<String> = words(&code(source)).map(String::from).collect();
            assert_eq!(words.join(" "), expect, "{source}");
        };
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"a "b \" c" d"#, "a d");
        check(r##"a r#"b " c"# d br"e\" f"##, "a d b f");
        check(r"a '\'' b '\u{7f}' c 'd' e", "a b c e");
        check("fn f<'a>(x: &'a str) -> &'static str { '\"' }", "fn f a x a str static str");
        check("r#type = for\"x\"", "r type for");
        check("\"never closed", "");
        assert_eq!(code("a /*\n\n*/ \"\n\" b").matches('\n').count(), 3);
    }

    #[test]
    fn only_code_says_unsafe() {
        let check = |source: &str, expect: bool| assert_eq!(says_unsafe(source), expect, "{source}");
        check("let x = unsafe { y };", true);
        check("unsafe extern \"C\" fn f() {}", true);
        check("#![expect(unsafe_code, reason = \"unsafe is needed\")]", false);
        check("// unsafe\n/* unsafe */ let x = \"unsafe\";", false);
        check("clippy::undocumented_unsafe_blocks", false);
    }

    #[test]
    fn unsafe_files_are_those_in_the_list() {
        let listed = UNSAFE.map(|path| (path, "unsafe {}"));
        assert_eq!(unsafe_files(&texts(&listed)), Vec::<String>::new());
        let mut other = listed;
        other[0] = ("xtask/src/main.rs", "unsafe {}");
        let breaches = unsafe_files(&texts(&other));
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert!(breaches[0].starts_with("xtask/src/main.rs: says"), "{breaches:?}");
        assert!(breaches[1].starts_with("probes/wire/src/read.rs: does not say"), "{breaches:?}");
    }

    #[test]
    fn the_table_is_read_from_the_docs() {
        let check = |text: &str, expect: Option<&str>| {
            let table = layer_table(text).map(|t| t.iter().map(|l| l.join("+")).collect::<Vec<_>>().join(" "));
            assert_eq!(table.as_deref(), expect, "{text}");
        };
        check(
            "//! Title.\n//!\n//! layers:\n//! cli > session serve > store\n\nmod cli;",
            Some("cli session+serve store"),
        );
        check("//! layers:\n//!\n//! ```text\n//! a > b\n//! > c d\n//! ```\n//! More > prose.", Some("a b c+d"));
        check("//! layers:\n//! a > b\n//!\n//! c > d", Some("a b"));
        check("//! Title.\nmod cli;", None);
        check("//! layers:\n\nmod cli;", None);
        check("//! layers:\n//! a > > b", None);
        check("//! layers:\n//! Upper ones may use lower ones.", None);
        check("mod cli;\n//! layers:\n//! a > b", None);
    }

    #[test]
    fn uses_of_the_crate_are_found() {
        let check = |source: &str, expect: &str| {
            let uses: Vec<String> =
                crate_uses(source).into_iter().map(|(line, name)| format!("{line}:{name}")).collect();
            assert_eq!(uses.join(" "), expect, "{source}");
        };
        check("use crate::store::Log;\npub(crate) use crate::cli;", "1:store 2:cli");
        check(
            "use crate::{store::{log, index}, cli, formats as f,\n    output::tree};",
            "1:store 1:cli 1:formats 1:output",
        );
        check("\nlet x = crate::store::open(crate::settings::path());", "2:store 2:settings");
        check("use other_crate::store; use super::x; pub(crate) fn f() {}", "");
    }

    #[test]
    fn a_lower_layer_may_not_use_an_upper() {
        let lib = "//! layers:\n//! cli > query keeper > store\nmod cli;";
        let check = |path: &str, text: &str, expect: &str| {
            let breaches = layers(&texts(&[(LAYER_TABLE, lib), (path, text)]));
            assert_eq!(breaches.join(" | "), expect, "{path}: {text}");
        };
        check("agent/src/cli/run.rs", "use crate::{query, store};", "");
        check("agent/src/query.rs", "use crate::keeper; use crate::query::x; use crate::Root;", "");
        check("agent/src/store.rs", "//! crate::cli\n// use crate::cli;", "");
        check(
            "agent/src/store/log.rs",
            "//! A log.\nuse crate::{cli};",
            "agent/src/store/log.rs:2: `store` uses `cli`, which lies in a layer above",
        );
        check("agent/src/new.rs", "", "agent/src/new.rs: `new` is in no layer of the table in agent/src/lib.rs");
        check("agent/src/main.rs", "use crate::cli;", "");
        assert_eq!(layers(&texts(&[(LAYER_TABLE, "//! Title.")])).len(), 1);
    }

    #[test]
    fn each_file_keeps_the_rules() {
        let check = |path: &str, text: &str, expect: usize| {
            let breaches = file(path, text);
            assert_eq!(breaches.len(), expect, "{breaches:?}");
        };
        let long = "//! x\n".repeat(801);
        check("agent/src/a.rs", "//! What.", 0);
        check("agent/src/a.rs", "mod b;", 1);
        check("agent/src/mod.rs", "//! What.", 1);
        check("agent/src/command.rs", &long, 1);
        check("agent/src/a.rs", &long["//! x\n".len()..], 0);
        check("agent/provenance/src/tests/a.rs", &long, 0);
        check("agent/provenance/src/tests.rs", &long, 1);
        check("Cargo.lock", &long, 0);
        check("README.md", "a TODO and a FIXME\n/work/x", 3);
        check(THIS_FILE, "//! TODO", 0);
    }
}
