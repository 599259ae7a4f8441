//! The oracle: what `strace -f` saw of a command, reduced to the terms our product tells.
//!
//! [`observe`] runs a command under strace and [`parse_with`] reduces the trace to [`Seen`]: for
//! each program image (from exec to exit or next exec) the regular files it used and generated,
//! and the process tree. It works in three steps:
//!
//! 1. *Join* (`lines.rs`): `<unfinished ...>` and `resumed` halves become one event per call. A
//!    fork event takes the place of its first half, since the child may speak before the parent's
//!    call returns.
//! 2. *Replay* (`replay.rs`): the events run through a small model of processes, descriptor
//!    tables and open files, which gives raw images: one per exec and one per fork.
//! 3. *Fold* (`replay.rs`): fork images that only prepared an exec, and launchers such as `env`,
//!    are merged into the image they exec.
//!
//! Nothing here shares code with the product, so that both cannot be wrong in the same way.
// Each test binary that includes the harness uses only a part of it, and from a private module.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

// The explicit paths hold whether this file is reached by `mod oracle;` or by `#[path]`.
#[path = "oracle/lines.rs"]
mod lines;
#[path = "oracle/replay.rs"]
mod replay;
#[cfg(test)]
#[path = "oracle/tests.rs"]
mod tests;

/// All that a run showed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The images, in order of start.
    pub images: Vec<Image>,
}

/// One program image: a process from an exec (or a fork) to its exit or next exec.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Image {
    /// Process id (never a thread's).
    pub pid: u32,
    /// The arguments as given to execve; for a fork image those of the image that forked it.
    pub argv: Vec<String>,
    /// Index of the image that forked this image's process; none for the root's process.
    pub parent: Option<usize>,
    /// Index of the (unfolded) image of the same process that exec'd this one.
    pub before: Option<usize>,
    /// True for an image that began with a fork and not with an exec.
    pub fork_only: bool,
    /// Regular files whose content could influence the image.
    pub used: BTreeSet<String>,
    /// Regular files created, truncated or written.
    pub generated: BTreeSet<String>,
    /// Files mapped shared and writable: they are in `used`, and not for that in `generated`.
    pub mapped_shared: BTreeSet<String>,
    /// Renames and hard links, old → new.
    pub moved: BTreeSet<(String, String)>,
    /// Exit code, 128 + signal if killed; none if the image ended by exec or outlived the trace.
    pub exit: Option<i32>,
}

/// The calls that the replay looks at; `?` lets strace skip those that an architecture lacks.
const CALLS: &str = "execve,execveat,?fork,?vfork,clone,?clone3,unshare,?open,openat,?openat2,?creat,close,\
?close_range,dup,?dup2,dup3,fcntl,ioctl,?pipe,pipe2,?memfd_create,read,pread64,readv,preadv,?preadv2,write,pwrite64,\
writev,pwritev,?pwritev2,sendfile,?copy_file_range,splice,tee,vmsplice,mmap,truncate,ftruncate,fallocate,?rename,\
?renameat,?renameat2,?link,linkat,?unlink,unlinkat,?mknod,mknodat,chdir,fchdir,?stat,?lstat,?newfstatat,fstat,?statx,\
?access,faccessat,?faccessat2";

/// Runs `command` under strace in `dir` with `env` added to the environment, and reduces it.
pub fn observe(command: &[&str], dir: &Path, env: &[(&str, &str)]) -> io::Result<Seen> {
    let dir = dir.canonicalize()?;
    let existing = listing(&dir)?;
    Ok(parse_with(&trace(command, &dir, env)?, &existing))
}

/// Runs `command` under strace and returns the trace. Standard input is empty, standard output
/// and error are pipes: `grep` and others act differently if they see `/dev/null`.
pub fn trace(command: &[&str], dir: &Path, env: &[(&str, &str)]) -> io::Result<String> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("oracle-{}-{number}.strace", std::process::id()));
    // Scripts are often given as one long word, which must come back unabridged.
    let longest = command.iter().map(|word| word.len() + 1).max().unwrap_or(0).max(4096);
    let done = Command::new("strace")
        .args(["-f", "-y", "-s", &longest.to_string(), "-e", &format!("trace={CALLS}"), "-o"])
        .arg(&file)
        .arg("--")
        .args(command)
        .current_dir(dir)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()?;
    let bytes = std::fs::read(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file); // because a left-over trace harms nobody
    if bytes.is_empty() {
        return Err(io::Error::other(format!("no trace: {}", String::from_utf8_lossy(&done.stderr))));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Everything below `dir`, as full paths.
pub fn listing(dir: &Path) -> io::Result<BTreeSet<String>> {
    let (mut paths, mut todo) = (BTreeSet::new(), vec![dir.to_path_buf()]);
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
            paths.insert(entry.path().to_string_lossy().into_owned());
        }
    }
    Ok(paths)
}

/// Reduces a trace, taking it that no file existed before but those that it shows.
pub fn parse(text: &str) -> Seen {
    parse_with(text, &BTreeSet::new())
}

/// Reduces a trace; `existing` holds paths that existed before the run.
pub fn parse_with(text: &str, existing: &BTreeSet<String>) -> Seen {
    replay::reduce(text, existing)
}

/// Number of images, of uses and of generations.
pub fn counts(seen: &Seen) -> (usize, usize, usize) {
    let sum = |set: fn(&Image) -> usize| seen.images.iter().map(set).sum();
    (seen.images.len(), sum(|image| image.used.len()), sum(|image| image.generated.len()))
}

/// A text that is the same for every run: a tree with one line for each image (fork images are
/// marked), below it `r PATH` and `w PATH` lines, then what it exec'd (marked too) and its
/// children, siblings sorted by their text. `rename` sees each path and each argument.
pub fn text(seen: &Seen, rename: &dyn Fn(&str) -> String) -> String {
    let mut below: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (index, image) in seen.images.iter().enumerate() {
        below.entry(image.before.or(image.parent)).or_default().push(index);
    }
    let mut out = String::new();
    for block in blocks(seen, rename, &below, None) {
        out.push_str(&block);
    }
    out
}

/// The rendered subtrees below `parent`, sorted.
fn blocks(
    seen: &Seen,
    rename: &dyn Fn(&str) -> String,
    below: &HashMap<Option<usize>, Vec<usize>>,
    parent: Option<usize>,
) -> Vec<String> {
    let line = |word: &str| rename(word).replace('\\', "\\\\").replace('\n', "\\n");
    let mut done = Vec::new();
    for &index in below.get(&parent).into_iter().flatten() {
        let image = &seen.images[index];
        let mut block = String::new();
        block.push_str(if image.before.is_some() { "exec: " } else { "" });
        block.push_str(if image.fork_only { "(fork) " } else { "" });
        for (at, word) in image.argv.iter().enumerate() {
            let word = if at == 0 { word.rsplit('/').next().unwrap_or(word) } else { word };
            block.push_str(if at == 0 { "" } else { " " });
            block.push_str(&line(word));
        }
        block.push('\n');
        for (mark, set) in [("r", &image.used), ("w", &image.generated)] {
            // A set again, as names that differ by their random part only become one.
            for path in set.iter().map(|path| line(path)).collect::<BTreeSet<_>>() {
                block.push_str(&format!("  {mark} {path}\n"));
            }
        }
        for child in blocks(seen, rename, below, Some(index)) {
            for text in child.lines() {
                block.push_str(&format!("    {text}\n"));
            }
        }
        done.push(block);
    }
    done.sort();
    done
}

/// The default renaming: random and pid-bearing temporary names become `name*`, wherever in a
/// word they stand (`-plugin-opt=-fresolution=/tmp/ccAbCdEf.res`).
pub fn normal(word: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || "._-+~#".contains(c);
    let mut out = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len()).max(first.len_utf8());
        let (part, after) = rest.split_at(length);
        let in_tmp = out.ends_with("/tmp/") || out.ends_with("/dev/shm/");
        let renamed = if out.ends_with('/') { component(part, in_tmp) } else { None };
        // git probes the file system with `.git/tXXXXXX`.
        let probe = out.ends_with("/.git/") && part.len() == 7 && part.starts_with('t');
        let renamed = if probe { Some("t*".to_owned()) } else { renamed };
        out.push_str(renamed.as_deref().unwrap_or(part));
        rest = after;
    }
    out
}

/// The run-independent form of one path component, if it looks random.
fn component(part: &str, in_tmp: bool) -> Option<String> {
    let alnum = |c: char| c.is_ascii_alphanumeric();
    let python = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // `prefix`, then `length` random characters, then nothing or an extension.
    let random = |prefix: &str, length: usize, like: &dyn Fn(char) -> bool| {
        let tail = part.strip_prefix(prefix)?;
        let (name, extension) = tail.split_at(tail.find(|c| !like(c)).unwrap_or(tail.len()));
        (name.len() == length && (extension.is_empty() || extension.starts_with('.')))
            .then(|| format!("{prefix}*{extension}"))
    };
    let known = random("sed", 6, &alnum)
        .or_else(|| random("pymp-", 8, &python))
        .or_else(|| random("tmp.", 10, &alnum))
        .or_else(|| random("sh-thd.", 6, &alnum))
        // ar and ranlib write beside the archive.
        .or_else(|| random("st", 6, &alnum).filter(|name| name == "st*"))
        .or_else(|| ["tmp_obj_", "tmp_pack_", "tmp_idx_"].iter().find_map(|git| random(git, 6, &alnum)));
    if known.is_some() {
        return known;
    }
    // rsync: `.name.XXXXXX`
    if let Some((name, tail)) = part.rsplit_once('.')
        && name.len() > 1
        && name.starts_with('.')
        && tail.len() == 6
        && tail.chars().all(alnum)
    {
        return Some(format!("{name}.*"));
    }
    if !in_tmp {
        return None;
    }
    let known = random("cc", 6, &alnum)
        .or_else(|| random("tmp", 8, &python))
        .or_else(|| random("sort", 6, &alnum))
        .or_else(|| random("sem.mp-", 8, &python))
        .or_else(|| random("sem.", 6, &alnum))
        .or_else(|| random("psm_", 8, &alnum))
        // multiprocessing's shared arrays: a pid, then random characters.
        .or_else(|| {
            let (pid, name) = part.strip_prefix("pym-")?.split_once('-')?;
            let is_it = pid.chars().all(|c| c.is_ascii_digit()) && name.len() == 8 && name.chars().all(python);
            is_it.then(|| "pym-*-*".to_owned())
        });
    known.or_else(|| {
        // A number that stands alone in the name of a temporary file is most likely a pid.
        let words: Vec<&str> = part.split_inclusive(|c: char| "._-".contains(c)).collect();
        let star = |word: &&str| {
            let bare = word.trim_end_matches(['.', '_', '-']);
            let pid = bare.len() > 1 && bare.chars().all(|c| c.is_ascii_digit());
            if pid { format!("*{}", &word[bare.len()..]) } else { (*word).to_owned() }
        };
        Some(words.iter().map(star).collect::<String>()).filter(|name| name != part)
    })
}
