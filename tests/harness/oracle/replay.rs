//! Steps 2 and 3: the events replayed into raw images, and these folded. See the oracle's own
//! documentation.

use super::lines::{What, join, lexical, noted, program, quoted, real_parent, split, value};
use super::{Image, Seen};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Regular,
    Pipe,
    Other,
}

/// An image before folding.
#[derive(Default)]
struct Raw {
    image: Image,
    /// Written files, and files created or truncated by an open that nobody wrote through.
    wrote: BTreeSet<String>,
    made: BTreeSet<String>,
    /// What a fork image before this one created or truncated: generated, yet not its own act.
    inherited: BTreeSet<String>,
    /// The program and what was mapped executable.
    code: BTreeSet<String>,
    pipes_written: BTreeSet<String>,
    moved_bytes: bool,
    forked: bool,
    next: Option<usize>,
    /// The names by which this image knows files, and those of them renamed since: new → first.
    names: BTreeSet<String>,
    renamed: HashMap<String, String>,
}

struct Process {
    raw: usize,
    table: usize,
    cwd: String,
}

/// An open file description.
#[derive(Default)]
struct Open {
    path: String,
    made: Vec<(usize, String)>,
    written: bool,
}

#[derive(Default)]
struct Replay {
    raws: Vec<Raw>,
    leaders: HashMap<u32, u32>,
    processes: HashMap<u32, Process>,
    /// Descriptor → (open file, close on exec).
    tables: Vec<HashMap<i64, (usize, bool)>>,
    opens: Vec<Open>,
    /// Whether a path exists, as far as the trace and the listing tell.
    known: BTreeMap<String, bool>,
    special: HashSet<String>,
    kinds: HashMap<String, Kind>,
    pipe_readers: HashMap<String, BTreeSet<u32>>,
    pipe_makers: HashMap<String, u32>,
}

/// See [`super::parse_with`].
pub(super) fn reduce(text: &str, existing: &BTreeSet<String>) -> Seen {
    let events = join(text);
    let known = existing.iter().map(|path| (path.clone(), true)).collect();
    let mut replay = Replay { known, ..Replay::default() };
    let first_cwd = text.split_once("AT_FDCWD").and_then(|(_, rest)| noted(rest.lines().next()?)).unwrap_or_default();
    for event in &events {
        // What is no regular file may be gone by now: ask the trace first.
        let What::Call { name, args, .. } = &event.what else { continue };
        let all = args.join(" ");
        if name.starts_with("mknod") && all.contains("S_IFIFO") {
            let dir = noted(&args[0]).unwrap_or_else(|| first_cwd.clone());
            let path = args.iter().find_map(|arg| quoted(arg)).unwrap_or_default();
            let path = if path.starts_with('/') { path } else { format!("{dir}/{path}") };
            replay.special.insert(lexical(&path));
        } else if name.contains("stat")
            && ["S_IFIFO", "S_IFSOCK", "S_IFCHR", "S_IFBLK"].iter().any(|kind| all.contains(kind))
        {
            replay.special.extend(noted(&args[0]).filter(|_| !args[0].starts_with("AT_FDCWD")));
        }
    }
    for event in &events {
        let tid = event.tid;
        if !replay.leaders.contains_key(&tid) {
            // The root, in the shape of strace's own child before the first exec.
            let root = Raw { image: Image { pid: tid, fork_only: true, ..Image::default() }, ..Raw::default() };
            replay.raws.push(root);
            replay.tables.push(HashMap::new());
            let process =
                Process { raw: replay.raws.len() - 1, table: replay.tables.len() - 1, cwd: first_cwd.clone() };
            replay.processes.insert(tid, process);
            replay.leaders.insert(tid, tid);
        }
        let pid = replay.leaders[&tid];
        match &event.what {
            What::End(code) => {
                if let Some(process) = replay.processes.get(&pid).filter(|_| pid == tid) {
                    replay.raws[process.raw].image.exit = Some(*code);
                    replay.processes.remove(&pid);
                }
                replay.leaders.remove(&tid);
            }
            What::Call { name, args, result } if replay.processes.contains_key(&pid) => {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                replay.call(tid, pid, name, &args, result);
            }
            What::Call { .. } => {}
        }
    }
    replay.fold()
}

impl Replay {
    fn fork(&mut self, parent_tid: u32, child: u32, call: &str) {
        let pid = self.leaders[&parent_tid];
        if call.contains("CLONE_THREAD") {
            self.leaders.insert(child, pid);
            return;
        }
        let Some(parent) = self.processes.get(&pid) else { return };
        let (raw, cwd, mut table) = (parent.raw, parent.cwd.clone(), parent.table);
        self.raws[raw].forked = true;
        let argv = self.raws[raw].image.argv.clone();
        let image = Image { pid: child, argv, parent: Some(raw), fork_only: true, ..Image::default() };
        self.raws.push(Raw { image, ..Raw::default() });
        if !call.contains("CLONE_FILES") {
            self.tables.push(self.tables[table].clone());
            table = self.tables.len() - 1;
        }
        self.leaders.insert(child, child);
        self.processes.insert(child, Process { raw: self.raws.len() - 1, table, cwd });
    }

    fn exec(&mut self, pid: u32, path: &str, argv: &str) {
        self.leaders.retain(|tid, leader| *leader != pid || *tid == pid); // the other threads are gone
        let path = if path == "/proc/self/exe" {
            self.raws[self.processes[&pid].raw].code.first().cloned().unwrap_or_default()
        } else {
            program(path)
        };
        let process = self.processes.get_mut(&pid).expect("because the caller has seen it");
        let before = std::mem::replace(&mut process.raw, self.raws.len());
        let mut table = self.tables[process.table].clone();
        table.retain(|_, (_, cloexec)| !*cloexec);
        process.table = self.tables.len();
        self.tables.push(table);
        self.raws[before].next = Some(self.raws.len());
        let argv = argv.strip_prefix('[').and_then(|argv| argv.strip_suffix(']')).unwrap_or(argv);
        let argv = format!("argv({argv}) = 0");
        let argv = split(&argv).map(|(_, words, _)| words.into_iter().filter_map(quoted).collect()).unwrap_or_default();
        let image = Image { pid, argv, parent: self.raws[before].image.parent, ..Image::default() };
        let mut raw = Raw { image, ..Raw::default() };
        if self.kind(&path) == Kind::Regular {
            raw.image.used.insert(path.clone());
        }
        raw.code.insert(path.clone());
        raw.names.insert(path);
        self.raws.push(raw);
    }

    fn kind(&mut self, path: &str) -> Kind {
        if path.starts_with("pipe:[") {
            return Kind::Pipe;
        }
        let skipped = ["/proc/", "/sys/"].iter().any(|dir| path.starts_with(dir));
        if !path.starts_with('/') || skipped || path.starts_with("/dev/") && !path.starts_with("/dev/shm/") {
            return Kind::Other;
        }
        if let Some(kind) = self.kinds.get(path) {
            return *kind;
        }
        let kind = match std::fs::symlink_metadata(path).map(|meta| meta.file_type()) {
            Ok(kind) if kind.is_fifo() => Kind::Pipe,
            Ok(kind) if kind.is_file() || kind.is_symlink() => Kind::Regular, // a link came later
            Ok(_) => Kind::Other,
            Err(_) if self.special.contains(path) => Kind::Pipe,
            Err(_) => Kind::Regular,
        };
        self.kinds.insert(path.to_owned(), kind);
        kind
    }

    /// The name by which the image knows the file at `path`: its first, whatever it is called now.
    fn name(&mut self, raw: usize, path: &str) -> String {
        let raw = &mut self.raws[raw];
        let name = raw.renamed.get(path).cloned().unwrap_or_else(|| path.to_owned());
        raw.names.insert(name.clone());
        name
    }

    /// The open file behind a descriptor; one that came from outside appears on first sight.
    fn open_file(&mut self, table: usize, arg: &str) -> usize {
        let fd = value(arg).unwrap_or(-1);
        if let Some((open, _)) = self.tables[table].get(&fd) {
            return *open;
        }
        self.opens.push(Open { path: noted(arg).unwrap_or_default(), ..Open::default() });
        self.tables[table].insert(fd, (self.opens.len() - 1, false));
        self.opens.len() - 1
    }

    /// Bytes (maybe none) came in through a descriptor.
    fn take(&mut self, pid: u32, arg: &str, bytes: i64) {
        let (raw, Some(path)) = (self.processes[&pid].raw, noted(arg)) else { return };
        let kind = self.kind(&path);
        if kind == Kind::Regular {
            let name = self.name(raw, &path);
            self.raws[raw].image.used.insert(name);
        }
        self.raws[raw].moved_bytes |= kind != Kind::Other && bytes > 0;
        if kind == Kind::Pipe {
            self.pipe_readers.entry(path).or_default().insert(pid);
        }
    }

    /// Bytes went out through a descriptor.
    fn put(&mut self, pid: u32, arg: &str, bytes: i64) {
        let (raw, Some(path)) = (self.processes[&pid].raw, noted(arg)) else { return };
        match self.kind(&path) {
            _ if bytes <= 0 => {}
            Kind::Other => {}
            Kind::Pipe => drop(self.raws[raw].pipes_written.insert(path)),
            Kind::Regular => {
                self.raws[raw].moved_bytes = true;
                self.wrote(pid, raw, arg, &path);
            }
        }
    }

    fn wrote(&mut self, pid: u32, raw: usize, arg: &str, path: &str) {
        let name = self.name(raw, path);
        self.raws[raw].wrote.insert(name);
        let open = self.open_file(self.processes[&pid].table, arg);
        self.opens[open].made.clear(); // because what its creator began is this writer's now
        self.opens[open].written = true;
    }

    /// The absolute path that a path argument names, relative to `dir` (as noted) or the cwd.
    fn path(&self, pid: u32, dir: Option<&str>, arg: &str) -> Option<String> {
        let path = quoted(arg)?;
        let base = dir.and_then(noted).unwrap_or_else(|| self.processes[&pid].cwd.clone());
        if let Some(fd) = path.strip_prefix("/proc/self/fd/").or(path.strip_prefix("/dev/fd/")) {
            let table = &self.tables[self.processes[&pid].table];
            return table.get(&fd.parse().ok()?).map(|(open, _)| self.opens[*open].path.clone());
        }
        Some(match path.as_str() {
            "" => base, // AT_EMPTY_PATH
            path if path.starts_with('/') => path.to_owned(),
            path => format!("{base}/{path}"),
        })
    }

    /// A rename or a link: the images that live now go on calling the file by its first name.
    fn moved(&mut self, raw: usize, old: &str, new: &str, is_link: bool) {
        let below = format!("{old}/");
        for process in self.processes.values() {
            let raw = &mut self.raws[process.raw];
            let first = raw.renamed.get(old).cloned().or_else(|| raw.names.get(old).cloned());
            raw.renamed.remove(new);
            raw.renamed.extend(first.map(|first| (new.to_owned(), first)));
            let inside = raw.names.range(below.clone()..).take_while(|name| name.starts_with(&below));
            let inside = inside.map(|name| (format!("{new}/{}", &name[below.len()..]), name.clone()));
            let inside: Vec<_> = inside.collect();
            raw.renamed.extend(inside);
            if !is_link {
                raw.renamed.remove(old);
            }
        }
        self.raws[raw].image.moved.insert((old.to_owned(), new.to_owned()));
        let inside = self.known.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
        let inside: Vec<_> = inside.map(|(path, known)| (format!("{new}/{}", &path[below.len()..]), *known)).collect();
        self.known.extend(inside);
        self.known.insert(new.to_owned(), true);
        self.known.insert(old.to_owned(), is_link);
    }

    fn opened(&mut self, pid: u32, flags: &str, result: &str, path: String) {
        let (fd, raw) = (value(result).unwrap_or(-1), self.processes[&pid].raw);
        let had = |flag: &str| flags.contains(flag);
        let made = had("O_TMPFILE")
            || had("O_CREAT") && (had("O_EXCL") || self.known.get(&path) != Some(&true))
            || had("O_TRUNC") && (had("O_WRONLY") || had("O_RDWR"));
        let mut open = Open { path: path.clone(), ..Open::default() };
        if made && self.kind(&path) == Kind::Regular {
            if had("O_EXCL") {
                self.raws[raw].renamed.remove(&path); // because it is surely another file than before
            }
            open.made.push((raw, self.name(raw, &path)));
        }
        self.known.insert(path, true);
        self.opens.push(open);
        self.tables[self.processes[&pid].table].insert(fd, (self.opens.len() - 1, had("O_CLOEXEC")));
    }

    fn call(&mut self, tid: u32, pid: u32, name: &str, args: &[&str], result: &str) {
        let Some(got) = value(result) else { return };
        let arg = |at: usize| args.get(at).copied().unwrap_or("");
        let (raw, table) = (self.processes[&pid].raw, self.processes[&pid].table);
        if arg(0).starts_with("AT_FDCWD")
            && let Some(cwd) = noted(arg(0))
        {
            self.processes.get_mut(&pid).expect("because it was found above").cwd = cwd;
        }
        let is_at = name.ends_with("at") || name.ends_with("at2") || matches!(name, "statx" | "newfstatat");
        let (dir, first) =
            if is_at && !matches!(name, "stat" | "lstat" | "fstat") { (Some(arg(0)), arg(1)) } else { (None, arg(0)) };
        if got < 0 {
            if result.contains("ENOENT")
                && let Some(path) = self.path(pid, dir, first)
            {
                self.known.insert(lexical(&path), false);
            }
            return;
        }
        match name {
            "fork" | "vfork" | "clone" | "clone3" => self.fork(tid, got as u32, &args.join(",")),
            "execve" => self.exec(pid, &self.path(pid, None, arg(0)).unwrap_or_default(), arg(1)),
            "execveat" => self.exec(pid, &self.path(pid, dir, arg(1)).unwrap_or_default(), arg(2)),
            "unshare" if arg(0).contains("CLONE_FILES") => {
                self.tables.push(self.tables[table].clone());
                self.processes.get_mut(&pid).expect("because it was found above").table = self.tables.len() - 1;
            }
            "open" | "openat" | "openat2" | "creat" => {
                let Some(path) = noted(result) else { return };
                let flags = match name {
                    "creat" => "O_WRONLY|O_CREAT|O_TRUNC",
                    "open" => arg(1),
                    _ => arg(2),
                };
                self.opened(pid, flags, result, path);
            }
            "memfd_create" => {
                self.opened(pid, arg(1).replace("MFD_", "O_").as_str(), result, noted(result).unwrap_or_default())
            }
            "close" => drop(self.tables[table].remove(&value(arg(0)).unwrap_or(-1))),
            "close_range" => {
                let (from, to) = (value(arg(0)).unwrap_or(0), value(arg(1)).unwrap_or(i64::MAX));
                let only_marks = arg(2).contains("CLOEXEC");
                self.tables[table]
                    .iter_mut()
                    .filter(|(fd, _)| (from..=to).contains(*fd))
                    .for_each(|(_, entry)| entry.1 = true);
                self.tables[table].retain(|fd, _| only_marks || !(from..=to).contains(fd));
            }
            "dup" | "dup2" | "dup3" => {
                let entry = (self.open_file(table, arg(0)), arg(2).contains("O_CLOEXEC"));
                if !(name == "dup2" && value(arg(0)) == Some(got)) {
                    self.tables[table].insert(got, entry);
                }
            }
            "fcntl" if arg(1).starts_with("F_DUPFD") => {
                let entry = (self.open_file(table, arg(0)), arg(1).contains("CLOEXEC"));
                self.tables[table].insert(got, entry);
            }
            "fcntl" | "ioctl" if matches!(arg(1), "F_SETFD" | "FIOCLEX" | "FIONCLEX") => {
                self.open_file(table, arg(0));
                let entry = self.tables[table].get_mut(&value(arg(0)).unwrap_or(-1));
                entry.expect("because open_file made it").1 = arg(1) == "FIOCLEX" || arg(2).contains("FD_CLOEXEC");
            }
            "ioctl" if arg(1).contains("FICLONE") => {
                self.take(pid, args[2..].join(",").rsplit("src_fd=").next().unwrap_or(""), 1);
                self.put(pid, arg(0), 1);
            }
            "pipe" | "pipe2" => {
                for end in arg(0).trim_matches(['[', ']']).split(',') {
                    self.tables[table].remove(&value(end.trim()).unwrap_or(-1));
                    self.open_file(table, end.trim());
                    self.pipe_makers.extend(noted(end).map(|path| (path, pid)));
                    if arg(1).contains("O_CLOEXEC") {
                        self.tables[table].entry(value(end.trim()).unwrap_or(-1)).and_modify(|entry| entry.1 = true);
                    }
                }
            }
            "read" | "pread64" | "readv" | "preadv" | "preadv2" => self.take(pid, arg(0), got),
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "vmsplice" => self.put(pid, arg(0), got),
            "sendfile" | "copy_file_range" | "splice" | "tee" => {
                let (from, to) = match name {
                    "sendfile" => (1, 0),
                    "tee" => (0, 1),
                    _ => (0, 2),
                };
                self.take(pid, arg(from), got);
                self.put(pid, arg(to), got);
            }
            "mmap" => {
                let Some(path) = noted(arg(4)).filter(|_| {
                    arg(3).contains("MAP_PRIVATE") || arg(2).contains("PROT_READ") || arg(2).contains("PROT_WRITE")
                }) else {
                    return;
                };
                if self.kind(&path) != Kind::Regular {
                    return;
                }
                let name = self.name(raw, &path);
                let (raw, protection) = (&mut self.raws[raw], arg(2));
                if protection.contains("PROT_EXEC") {
                    raw.code.insert(name.clone());
                }
                if arg(3).contains("MAP_SHARED") && protection.contains("PROT_WRITE") {
                    raw.image.mapped_shared.insert(name.clone());
                }
                raw.image.used.insert(name);
            }
            "truncate" => {
                let path = self.path(pid, None, arg(0)).unwrap_or_default();
                let path = Path::new(&path)
                    .canonicalize()
                    .map_or(real_parent(&path), |real| real.to_string_lossy().into_owned());
                if self.kind(&path) == Kind::Regular {
                    let name = self.name(raw, &path);
                    self.raws[raw].made.insert(name);
                }
            }
            "ftruncate" | "fallocate" => {
                let Some(path) = noted(arg(0)) else { return };
                if self.kind(&path) != Kind::Regular {
                    return;
                }
                let open = self.open_file(table, arg(0));
                if name == "fallocate" || self.opens[open].written {
                    return self.wrote(pid, raw, arg(0), &path);
                }
                let made = (raw, self.name(raw, &path));
                self.opens[open].made.push(made);
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let (to, to_dir) = if is_at { (arg(3), Some(arg(2))) } else { (arg(1), None) };
                let (Some(old), Some(new)) = (self.path(pid, dir, first), self.path(pid, to_dir, to)) else { return };
                let (old, new) = (real_parent(&old), real_parent(&new));
                self.moved(raw, &old, &new, name.starts_with("link"));
                if arg(4).contains("RENAME_EXCHANGE") {
                    self.raws[raw].image.moved.insert((new, old.clone()));
                    self.known.insert(old, true);
                }
            }
            "unlink" | "unlinkat" => {
                if let Some(path) = self.path(pid, dir, first) {
                    self.known.insert(real_parent(&path), false);
                }
            }
            "chdir" | "fchdir" => {
                let to = if name == "chdir" { self.path(pid, None, arg(0)) } else { noted(arg(0)) };
                self.processes.get_mut(&pid).expect("because it was found above").cwd = to.unwrap_or_default();
            }
            _ if (name.contains("stat") || name.contains("access")) && !arg(0).ends_with("(deleted)") => {
                let path = if name == "fstat" { noted(first) } else { self.path(pid, dir, first) };
                self.known.extend(path.map(|path| (lexical(&path), true)));
            }
            _ => {}
        }
    }

    /// Folds preparing fork images and launchers into what they exec, and numbers what is left.
    fn fold(mut self) -> Seen {
        for open in std::mem::take(&mut self.opens) {
            for (raw, name) in open.made {
                self.raws[raw].made.insert(name);
            }
        }
        let mut merged = vec![None; self.raws.len()];
        for at in 0..self.raws.len() {
            let pid = self.raws[at].image.pid;
            let private = |pipe: &String| {
                // A here-document: the process fills a pipe for itself. Maybe it never reads it.
                let readers = self.pipe_readers.get(pipe);
                let others = readers.is_some_and(|readers| readers.iter().any(|reader| *reader != pid));
                !others && (readers.is_some() || self.pipe_makers.get(pipe) == Some(&pid))
            };
            let filled = !self.raws[at].pipes_written.iter().all(private);
            let Some(next) = self.raws[at].next else { continue };
            let (head, tail) = self.raws.split_at_mut(next); // an image's next comes after it
            let (raw, next_raw) = (&mut head[at], &mut tail[0]);
            let library = |path: &String| {
                let places = ["/etc/", "/usr/lib", "/lib", "/usr/share/locale"];
                raw.code.contains(path) || places.iter().any(|place| path.starts_with(place))
            };
            let folds = if raw.image.fork_only {
                !raw.moved_bytes && !filled && !raw.forked
            } else {
                let idle = raw.made.is_empty() && raw.wrote.is_empty() && raw.image.moved.is_empty();
                !raw.forked && idle && raw.image.mapped_shared.is_empty() && raw.image.used.iter().all(library)
            };
            if !folds {
                next_raw.image.before = Some(at);
                if raw.image.fork_only {
                    let unwritten = raw.made.difference(&raw.wrote).cloned().collect();
                    raw.made = raw.made.difference(&unwritten).cloned().collect();
                    next_raw.inherited.extend(unwritten);
                }
                continue;
            }
            merged[at] = Some(next);
            next_raw.image.before = raw.image.before;
            next_raw.image.used.append(&mut raw.image.used);
            next_raw.image.moved.append(&mut raw.image.moved);
            next_raw.image.mapped_shared.append(&mut raw.image.mapped_shared);
            next_raw.code.append(&mut raw.code);
            next_raw.inherited.append(&mut raw.inherited);
            next_raw.inherited.append(&mut raw.made);
            next_raw.inherited.append(&mut raw.wrote);
        }
        // Only images that never forked were merged, and `before` names unmerged ones: all the
        // references are to images that stay, so renumbering is enough.
        let mut numbers = vec![0; merged.len()];
        let mut images = Vec::new();
        for (at, mut raw) in self.raws.into_iter().enumerate() {
            numbers[at] = images.len();
            if merged[at].is_none() {
                raw.image.generated = [raw.made, raw.wrote, raw.inherited].into_iter().flatten().collect();
                raw.image.parent = raw.image.parent.map(|parent| numbers[parent]);
                raw.image.before = raw.image.before.map(|before| numbers[before]);
                images.push(raw.image);
            }
        }
        Seen { images }
    }
}
