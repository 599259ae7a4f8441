//! Step 1: strace's lines read, and the halves of calls joined. See the oracle's own documentation.

use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A call with both halves joined, or an end.
pub(super) struct Event {
    pub(super) tid: u32,
    /// What the events are ordered by: the line of the end, for forks that of the start.
    key: usize,
    pub(super) what: What,
}

pub(super) enum What {
    Call { name: String, args: Vec<String>, result: String },
    End(i32),
}

/// Splits `name(args) = result` at its top-level commas.
pub(super) fn split(call: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = call.find('(')?;
    let (bytes, mut at, mut from, mut depth) = (call.as_bytes(), open + 1, open + 1, 0);
    let mut args = Vec::new();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            // A path after a descriptor; strace escapes the angle brackets in it. Not a shift.
            b'<' if bytes.get(at + 1) == Some(&b'<') => at += 1,
            b'<' => at += call.get(at..)?.find('>')?,
            b'(' | b'[' | b'{' => depth += 1,
            b')' if depth == 0 => {
                args.push(call.get(from..at)?.trim());
                let result = call.get(at + 1..)?.trim_start().strip_prefix('=')?.trim();
                return Some((&call[..open], args, result));
            }
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                args.push(call.get(from..at)?.trim());
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Undoes strace's C-like escapes.
fn decode(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let rest = &bytes[at + 1..];
        if bytes[at] != b'\\' || rest.is_empty() {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let run = |from: &[u8], most: usize, radix: u32| {
            from.iter().take(most).take_while(|c| (**c as char).is_digit(radix)).count()
        };
        let (skip, digits, radix) =
            if rest[0] == b'x' { (1, run(&rest[1..], 2, 16), 16) } else { (0, run(rest, 3, 8), 8) };
        at += if digits > 0 { 1 + skip + digits } else { 2 };
        let digits = std::str::from_utf8(&bytes[at.min(bytes.len()) - digits..at.min(bytes.len())]).unwrap_or("");
        out.push(match u32::from_str_radix(digits, radix) {
            Ok(value) => value as u8,
            Err(_) => match rest[0] {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'f' => 12,
                b'v' => 11,
                other => other,
            },
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Joins the halves of calls, and orders the events for the replay.
pub(super) fn join(text: &str) -> Vec<Event> {
    let mut halves: HashMap<u32, (usize, String)> = HashMap::new();
    let (mut events, mut lost) = (Vec::new(), Vec::new());
    // Each process's and thread's first line, and those whose fork tells of them.
    let (mut seen, mut firsts, mut born) = (HashSet::new(), Vec::new(), HashSet::new());
    // First line of each life that goes on, first and last of those that ended.
    let mut begun: HashMap<u32, usize> = HashMap::new();
    let mut ended: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
    for (line_number, line) in text.lines().enumerate() {
        let Some((tid, rest)) = line.trim_start().split_once(char::is_whitespace) else { continue };
        let (Ok(tid), rest) = (tid.parse::<u32>(), rest.trim_start()) else { continue };
        begun.entry(tid).or_insert(line_number);
        if seen.insert(tid) {
            firsts.push((line_number, tid));
        }
        if let Some(end) = rest.strip_prefix("+++ ") {
            if let Some((_, by)) = end.split_once("superseded by execve in pid ") {
                // A thread that execs takes over the process: its call comes back as the leader's
                // (unless its first half has said so already: `<pid changed to …>`).
                let by = by.trim_end_matches(" +++").parse().unwrap_or(tid);
                if let Some(half) = halves.remove(&by) {
                    halves.insert(tid, half);
                }
                continue;
            }
            ended.entry(tid).or_default().push((begun.remove(&tid).unwrap_or(line_number), line_number));
            let what = What::End(exit_code(end));
            events.push(Event { tid, key: line_number, what });
            continue;
        }
        if let Some(half) = rest.strip_suffix("<unfinished ...>") {
            halves.insert(tid, (line_number, half.trim_end().to_owned()));
            continue;
        }
        if let Some((half, leader)) = rest.strip_suffix(" ...>").and_then(|rest| rest.rsplit_once("<pid changed to ")) {
            halves.insert(leader.parse().unwrap_or(tid), (line_number, half.trim_end().to_owned()));
            continue;
        }
        let (start, call) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let Some((_, tail)) = resumed.split_once(" resumed>") else { continue };
                let Some((start, half)) = halves.remove(&tid) else { continue };
                (start, half + tail)
            }
            None => (line_number, rest.to_owned()),
        };
        let Some((name, args, result)) = split(&call) else { continue };
        let mut key = line_number;
        if is_fork(name) {
            // A child that gets the number of a process that ended while this fork was under way
            // begins after that end.
            match value(result) {
                None => lost.push((start, tid, call.clone())),
                Some(child) => {
                    born.insert(child as u32);
                    let lives = ended.get(&(child as u32)).map_or(&[][..], Vec::as_slice);
                    let before = lives.iter().find(|life| (life.0..life.1).contains(&start));
                    key = before.map_or(start, |life| life.1);
                    if lives.last().is_none_or(|life| life.1 <= key) {
                        begun.entry(child as u32).or_insert(key); // it may have no line of its own yet
                    }
                }
            }
        }
        let args = args.into_iter().map(str::to_owned).collect();
        let what = What::Call { name: name.to_owned(), args, result: result.to_owned() };
        events.push(Event { tid, key, what });
    }
    let forks = halves.into_iter().filter(|(_, (_, call))| call.split('(').next().is_some_and(is_fork));
    lost.extend(forks.map(|(tid, (start, call))| (start, tid, call)));
    lost.sort();
    // A fork whose parent was killed in it (or that the trace's end cut off) tells no child: it is
    // the parent of the next process that comes from nowhere. The first of all is the root.
    for (line_number, tid) in firsts.into_iter().skip(1).filter(|(_, tid)| !born.contains(tid)) {
        if let Some(at) = lost.iter().rposition(|half| half.0 < line_number) {
            let (start, parent, call) = lost.remove(at);
            let what = What::Call { name: "fork".to_owned(), args: vec![call], result: tid.to_string() };
            events.push(Event { tid: parent, key: start, what });
        }
    }
    events.sort_by_key(|event| event.key); // stable: an end stays before the fork that waited for it
    events
}

fn is_fork(name: &str) -> bool {
    matches!(name, "fork" | "vfork" | "clone" | "clone3")
}

/// The code in `exited with N +++` or `killed by SIGX (core dumped) +++`.
fn exit_code(end: &str) -> i32 {
    let word = end.strip_prefix("exited with ").or(end.strip_prefix("killed by ")).unwrap_or("");
    let word = word.split(' ').next().unwrap_or("");
    const NAMES: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP \
                         TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";
    match word.strip_prefix("SIG") {
        None => word.parse().unwrap_or(-1),
        Some(name) => match name.strip_prefix("RT_") {
            Some(number) => 128 + 32 + number.parse::<i32>().unwrap_or(0),
            None => 129 + NAMES.split_whitespace().position(|known| known == name).map_or(-1, |at| at as i32),
        },
    }
}

/// The number that an argument or result begins with (`3</etc/passwd>`, `0x7f…`, `-1 ENOENT`).
pub(super) fn value(text: &str) -> Option<i64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return Some(i64::from_str_radix(hex.split(|c: char| !c.is_ascii_hexdigit()).next()?, 16).unwrap_or(i64::MAX));
    }
    let end = text.char_indices().find(|(at, c)| !(c.is_ascii_digit() || *at == 0 && *c == '-'));
    text[..end.map_or(text.len(), |(at, _)| at)].parse().ok()
}

/// The path that `-y` put after a descriptor.
pub(super) fn noted(text: &str) -> Option<String> {
    let (path, after) = text.split_once('<')?.1.split_once('>')?;
    let path = decode(path);
    // strace 6.1 puts the mark behind the bracket, others before it.
    let (path, deleted) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path.to_owned(), true),
        None => (path, after.trim_start().starts_with("(deleted)")),
    };
    Some(match path.rsplit_once("/#") {
        // from O_TMPFILE; the number is the inode's
        Some((dir, number)) if deleted && number.parse::<u64>().is_ok() => format!("{dir}/#tmp"),
        _ => path,
    })
}

/// A quoted argument's text.
pub(super) fn quoted(text: &str) -> Option<String> {
    let (from, to) = (text.find('"')?, text.rfind('"')?);
    Some(decode(text.get(from + 1..to)?))
}

/// `path` without `.`, `..` and doubled slashes.
pub(super) fn lexical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `path` with its directory resolved, if that (still) exists: the kernel's own view of a name.
pub(super) fn real_parent(path: &str) -> String {
    let real = Path::new(path).parent().and_then(|parent| parent.canonicalize().ok());
    match (real, Path::new(path).file_name()) {
        (Some(parent), Some(name)) if !path.ends_with("..") => parent.join(name).to_string_lossy().into_owned(),
        _ => lexical(path),
    }
}

/// The file that the kernel really starts for `path`: symlinks and `#!` lines followed.
pub(super) fn program(path: &str) -> String {
    let mut path = path.to_owned();
    for _ in 0..5 {
        let Ok(real) = Path::new(&path).canonicalize() else { return real_parent(&path) };
        path = real.to_string_lossy().into_owned();
        let mut head = Vec::new();
        if let Ok(file) = std::fs::File::open(&real) {
            let _ = std::io::Read::read_to_end(&mut std::io::Read::take(file, 256), &mut head); // no head, no `#!`
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let Some(script) = head.strip_prefix("#!") else { break };
        match script.lines().next().and_then(|line| line.split_whitespace().next()) {
            Some(interpreter) => path = interpreter.to_owned(),
            None => break,
        }
    }
    path
}
