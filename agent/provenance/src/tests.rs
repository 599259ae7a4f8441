//! Promises of SEMANTICS.md on observations written as text. The expected texts were written by hand.
//!
//! Notation, a fact a line, ten nanoseconds apart (or `@N` first): `fork PARENT CHILD`, `exec BEFORE IMAGE PROGRAM ARGS…`,
//! `end IMAGE [CODE]`, `read|write|create|cut|map IMAGE PATH [OPENFILE]` (a `write` that follows says the bytes of a
//! `create`), `until IMAGE r|w PATH TIME`, `close IMAGE r|w PATH`, `send|receive IMAGE PIPE`, `rename IMAGE OLD NEW`,
//! `link IMAGE OLD NEW`, `unlink IMAGE PATH`. A path is its own file unless `PATH=FILE` says which.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::identity::{FileKey, FilesystemId, ImageNo, ProcessKey};
use crate::lineage::{Lineage, Provenance};
use crate::observation::*;
use crate::quantity::{BootNs, ByteCount, Pid, UnixNs};
use crate::relation::Manner;
use crate::role::Role;

mod promises;
mod properties;

fn key(process: u32, digest: u64) -> ProcessKey {
    ProcessKey { boot: 1, pid_namespace: 1, tgid: process, start_ticks: u64::from(process), digest }
}

#[derive(Default)]
struct Reader {
    files: HashMap<String, u64>,
}

impl Reader {
    fn file(&mut self, word: &str, magic: u32) -> (Arc<str>, FileKey) {
        let (path, name) = word.split_once('=').unwrap_or((word, word));
        let next = self.files.len() as u64 + 1;
        let inode = *self.files.entry(name.to_string()).or_insert(next);
        let filesystem = FilesystemId { magic, host: 1, volume: 1 };
        (path.into(), FileKey { filesystem, inode, generation: 0 })
    }

    fn observations(&mut self, text: &str) -> Vec<Observation> {
        let mut list = Vec::new();
        let mut next = 0;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            next += 10;
            if let Some(at) = words[0].strip_prefix('@') {
                next = at.parse().expect("because tests write numbers");
                words.remove(0);
            }
            let at = BootNs(next);
            let number = |i: usize| words[i].parse::<u64>().expect("because tests write numbers");
            let image = |i: usize| ImageNo(number(i));
            let touched = |access, path: Option<Arc<str>>, file, kind, created, truncated| {
                Observation::Touched(Box::new(Touched {
                    image: image(1),
                    file,
                    kind,
                    access,
                    at,
                    path,
                    nameless: false,
                    created,
                    truncated,
                    executable: false,
                    uncertain: false,
                    open_file: words.get(3).map_or(0, |w| w.parse().expect("because tests write numbers")),
                    state: FileState { size: ByteCount(1), mtime: UnixNs(1), ctime: UnixNs(1), links: 1 },
                }))
            };
            let summed = |access, file, bytes, first: BootNs, last: BootNs, last_close| {
                let state = FileState::default();
                let (image, bytes) = (image(1), ByteCount(bytes));
                Observation::Summed(Summed { image, file, access, at, bytes, calls: 1, first, last, last_close, state })
            };
            let access = |word: &str| if word == "r" { Access::Read } else { Access::Write };
            match words[0] {
                "fork" => list.push(Observation::Forked(Forked {
                    image: image(2),
                    parent: Some(image(1)).filter(|i| i.0 > 0),
                    process: key(number(2) as u32, 0),
                    pid: Pid(number(2) as u32),
                    at,
                    shares_memory: false,
                })),
                "exec" => {
                    let (path, file) = self.file(words[3], 0xEF53);
                    list.push(Observation::Execed(Box::new(Execed {
                        image: image(2),
                        previous: image(1),
                        process: key(number(1) as u32, number(2)),
                        pid: Pid(1),
                        at,
                        executable: file,
                        state: FileState::default(),
                        executable_path: path,
                        asked: words[3].into(),
                        directory: "/d".into(),
                        arguments: words[3..].iter().map(|w| (*w).into()).collect(),
                        arguments_cut: 0,
                        environment: Arc::default(),
                        credentials: Credentials::default(),
                        costs: Costs::default(),
                    })));
                }
                "end" => list.push(Observation::Ended(Ended {
                    image: image(1),
                    at,
                    code: words.get(2).map_or(0, |w| w.parse().expect("because tests write numbers")),
                    costs: Costs::default(),
                })),
                verb @ ("read" | "write" | "create" | "cut" | "map") => {
                    let (path, file) = self.file(words[2], 0xEF53);
                    let kind = FileKind::Regular;
                    match verb {
                        "read" => list.push(touched(Access::Read, Some(path), file, kind, false, false)),
                        "map" => list.push(touched(Access::Map, Some(path), file, kind, false, false)),
                        "write" => list.push(touched(Access::Write, Some(path), file, kind, false, false)),
                        _ => list.push(touched(Access::Write, Some(path), file, kind, verb == "create", verb == "cut")),
                    }
                    match verb {
                        "read" => list.push(summed(Access::Read, file, 5, at, at, false)),
                        "write" => list.push(summed(Access::Write, file, 5, at, at, false)),
                        _ => {}
                    }
                }
                "until" => {
                    let (_, file) = self.file(words[3], 0xEF53);
                    list.push(summed(access(words[2]), file, 5, at, BootNs(number(4)), false));
                }
                "close" => {
                    let (_, file) = self.file(words[3], 0xEF53);
                    let mut o = summed(access(words[2]), file, 0, at, at, true);
                    if let Observation::Summed(s) = &mut o {
                        s.calls = 0;
                    }
                    list.push(o);
                }
                verb @ ("send" | "receive") => {
                    let (_, file) = self.file(words[2], 0x5049_5045);
                    let access = if verb == "send" { Access::Write } else { Access::Read };
                    list.push(touched(access, None, file, FileKind::Pipe, false, false));
                    list.push(summed(access, file, 7, at, at, false));
                }
                verb @ ("rename" | "link" | "unlink") => {
                    let (old_path, file) = self.file(words[2], 0xEF53);
                    let new = words.get(3).map(|w| self.file(w, 0xEF53));
                    let naming = match verb {
                        "rename" => Naming::Rename,
                        "link" => Naming::Link,
                        _ => Naming::Unlink,
                    };
                    list.push(Observation::Named(Box::new(Named {
                        image: image(1),
                        at,
                        naming,
                        file: Some(file),
                        directory: false,
                        replaced: new.as_ref().map(|n| n.1).filter(|n| *n != file),
                        old_path,
                        new_path: new.map(|n| n.0),
                        state: FileState { links: 1, ..FileState::default() },
                        inferred: false,
                    })));
                }
                other => panic!("no fact is called {other}"),
            }
        }
        list
    }
}

fn told(text: &str) -> Provenance {
    let mut lineage = Lineage::default();
    for observation in Reader::default().observations(text) {
        lineage.apply(observation);
    }
    lineage.tell()
}

/// One line an activity: its name, what it used (`<`), revised (`~`), generated (`>`), heard (`|`) and moved (`=`).
fn text(p: &Provenance) -> String {
    let mut out = String::new();
    for (i, a) in p.activities.iter().enumerate() {
        let mut words = Vec::new();
        let version = |e: crate::entity::EntityNo| p.entity(e).version;
        for u in p.used.iter().filter(|u| u.activity.0 as usize == i && u.manner != Manner::Executed) {
            let mark = if u.manner == Manner::Revised { '~' } else { '<' };
            words.push(format!("{mark}{}@{}", u.path, version(u.entity)));
        }
        for g in p.generated.iter().filter(|g| g.activity.0 as usize == i) {
            let temporary = if g.role == Role::Temporary { "!" } else { "" };
            words.push(format!(">{}@{}{temporary}", g.path, version(g.entity)));
        }
        for f in p.informed.iter().filter(|f| f.informed.0 as usize == i) {
            words.push(format!("|{}:{}", f.via.name(), p.activity(f.informant).name));
        }
        for m in p.moved.iter().filter(|m| m.activity.0 as usize == i) {
            words.push(format!("={}→{}", p.entity(m.entity).names[0].path, m.new_path));
        }
        let fork = if a.subtype == crate::activity::Subtype::Fork { "+" } else { "" };
        let _ = writeln!(out, "{}{fork}{}{}", a.name, if words.is_empty() { "" } else { " " }, words.join(" "));
    }
    out
}

fn check(observations: &str, expected: &str) {
    let expected: String =
        expected.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    assert_eq!(text(&told(observations)), expected);
}
