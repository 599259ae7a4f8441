//! Whole programs of others, with the library and without: what they print and how they end is the same, and so is what they
//! leave in their folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use harness::host::{library, need};
use harness::run::Captured;

/// What a script left: its status, its streams, and the files of its folder that `kept` admits.
#[derive(Debug, PartialEq)]
struct Left {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    files: BTreeMap<String, Vec<u8>>,
}

fn left(output: &Output, dir: &Path, kept: &dyn Fn(&str) -> bool) -> Left {
    let text = |bytes: &[u8]| without_durations(&String::from_utf8_lossy(bytes));
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("because the script has ended").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(dir).expect("because it lies in it").to_string_lossy().into_owned();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() && kept(&name) => {
                    drop(files.insert(name, fs::read(&path).unwrap_or_default()))
                }
                _ => {}
            }
        }
    }
    Left { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr), files }
}

/// `0.35s` is another in every run.
fn without_durations(text: &str) -> String {
    let duration = |word: &str| word.strip_suffix('s').is_some_and(|n| n.parse::<f64>().is_ok());
    text.split_inclusive([' ', '\n']).map(|w| if duration(w.trim_end()) { "…s\n" } else { w }).collect()
}

/// Runs a script twice in the same folder, made anew, and compares; what was told of it with the library.
fn same(script: &str, least_files: usize, kept: &dyn Fn(&str) -> bool) -> Captured {
    same_behind("", script, least_files, kept)
}

/// The same behind other preloads, each with its colon.
fn same_behind(others: &str, script: &str, least_files: usize, kept: &dyn Fn(&str) -> bool) -> Captured {
    let base = tempfile::tempdir().expect("because tests may write temporary files");
    let dir = base.path().join("w");
    let run = |preload: &str| {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("because its parent is there");
        let captured = Captured::with(preload, &["bash", "-c", script], &dir, &[("LC_ALL", "C")]);
        let left = left(&captured.output, &dir, kept);
        (captured, left)
    };
    let (_, without) = run(others);
    let (captured, with) = run(&format!("{others}{}", library().display()));
    assert_eq!(without, with, "without the library (left) and with it (right)");
    assert_eq!(with.status, Some(0), "{with:?}");
    assert!(with.files.len() >= least_files, "{:?}", with.files.keys());
    captured
}

/// All redirections of bash(1).
#[test]
fn redirections_of_bash() {
    let script = r#"
        echo one > a; echo two >> a; cat < a; cat a 2>&1 > b; echo both &> c; echo more &>> c; echo clobber >| a
        exec 3<> a; echo x >&3; read -u 3 y; echo "y=$y"; exec 3>&-
        exec 5> five 6< b; echo to-five >&5; cat <&6; exec 7>&5 5>&-; echo again >&7; exec 7>&- 6<&-
        cat <<< "here string"; cat <<-END
		tabs go
		END
        cat <(echo substituted) > d; echo into > >(cat > e); wait $!
        { echo out; echo err >&2; } 2> err > out; (exec > sub; echo in-subshell); cat out err sub
        exec {fd}> named; echo "named" >&$fd; exec {fd}>&-; cat named
        f() { echo in f; } > of-f; f; cat of-f; while read l; do echo "[$l]"; done < b
        cat nothing-there 2> missing; echo "status $?"; set -C; echo no > a; echo "status $?"; coproc cat; echo hi >&${COPROC[1]}
        read -u ${COPROC[0]} z; echo $z; eval "exec ${COPROC[1]}>&-"; wait; ls /proc/$$/fd | wc -l; true
    "#;
    same(script, 12, &|_| true);
}

/// Its own modules for files, processes and pipes.
#[test]
fn perl() {
    if !need(&["perl"]) {
        return;
    }
    let script = r#"
        perl -e '
            open(F, ">", "a") or die; print F "line $_\n" for 1..1000; close F;
            open(F, "+<", "a") or die; seek(F, 100, 0); print F "XX"; truncate(F, 5000); close F;
            rename "a", "b"; link "b", "c"; unlink "b"; symlink "c", "s"; mkdir "d"; chdir "d";
            open(P, "-|", "sort -r ../c | head -3") or die; print while <P>; close P; print "status $?\n";
            pipe(R, W); if (!fork) { close R; print W "from child\n"; exit 3 } close W; print <R>; wait; print $? >> 8, "\n";
            print `cat ../s | wc -c`; system("echo x > y; exit 5"); print $? >> 8, "\n"; sysopen(G, "z", 0101) or die;
            syswrite(G, "abc"); close G; print -s "z", "\n"; opendir(D, ".") or die; print join(",", sort readdir D), "\n";
            exec "ls", ".." or die'
    "#;
    same(script, 3, &|_| true);
}

/// Two processes write one database at the same time.
#[test]
fn sqlite_under_two_writers() {
    if !need(&["sqlite3"]) {
        return;
    }
    let script = r#"
        sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(who, n)'
        w() { for i in $(seq 60); do sqlite3 -cmd '.timeout 20000' db "INSERT INTO t VALUES('$1', $i)"; done; }
        w a & w b & wait; sqlite3 db 'SELECT who, count(*), sum(n) FROM t GROUP BY who; PRAGMA integrity_check'
    "#;
    // Whose row comes first is chance.
    same(script, 0, &|_| false).told();
}

/// A crate of our own, built and tested without a network.
#[test]
fn cargo() {
    let script = r#"
        mkdir -p src tests; printf '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' > Cargo.toml
        echo 'pub fn add(a: u32, b: u32) -> u32 { a + b }' > src/lib.rs
        echo 'fn main() { println!("{}", small::add(1, 2)); }' > src/main.rs
        echo '#[test] fn adds() { assert_eq!(small::add(2, 2), 4) }' > tests/t.rs
        export CARGO_TARGET_DIR=$PWD/target; cargo build --offline && target/debug/small && cargo test --offline
    "#;
    same(script, 4, &|name| !name.starts_with("target/"));
}

#[test]
fn java() {
    if !need(&["javac", "java"]) {
        return;
    }
    let script = r#"
        cat > Copy.java <<'X'
            import java.nio.file.*;
            class Copy { public static void main(String[] a) throws Exception {
                Path in = Path.of(a[0]), out = Path.of(a[1]);
                Files.write(in, "words\n".getBytes()); Files.copy(in, out); Files.move(out, Path.of("moved"));
                Process p = new ProcessBuilder("sort", "moved").start();
                System.out.print(new String(p.getInputStream().readAllBytes())); System.exit(p.waitFor()); } }
X
        javac Copy.java && java -Xshare:auto Copy in out
    "#;
    same(script, 4, &|_| true);
}

#[test]
fn node() {
    if !need(&["node"]) {
        return;
    }
    let script = r#"
        node -e '
            const fs = require("fs"), { execFileSync, spawn } = require("child_process");
            fs.writeFileSync("a", "words\n".repeat(100)); fs.renameSync("a", "b"); fs.copyFileSync("b", "c");
            console.log(fs.readFileSync("c").length, execFileSync("sort", ["-u", "c"]).toString());
            fs.promises.readFile("b").then(d => fs.promises.writeFile("d", d)).then(() =>
                spawn("sh", ["-c", "cat d | wc -l; exit 4"], { stdio: "inherit" }).on("exit", c => console.log("exit", c)))'
    "#;
    same(script, 3, &|_| true);
}

/// Started, asked for a file, stopped.
#[test]
fn nginx() {
    if !need(&["nginx", "curl"]) {
        return;
    }
    let script = r#"
        mkdir -p logs tmp site; echo hello > site/index.html; port=$((20000 + RANDOM % 20000)); ulimit -c 0
        printf 'daemon on; pid %s/pid; error_log %s/logs/error; worker_processes 2; events {}\nhttp { access_log off;
            client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
            server { listen 127.0.0.1:%s; root %s/site; } }\n' "$PWD" "$PWD" $port "$PWD" > conf
        nginx -p "$PWD" -c conf 2> /dev/null; for i in 1 2 3; do curl -s --retry 20 --retry-connrefused 127.0.0.1:$port/; done
        curl -s -o /dev/null -w '%{http_code}\n' 127.0.0.1:$port/none; pid=$(cat pid); nginx -p "$PWD" -c conf -s quit 2> /dev/null
        while kill -0 $pid 2> /dev/null; do sleep 0.05; done; ls
    "#;
    same(script, 1, &|name| name.starts_with("site/"));
}

/// The sanitizer's library must come first, and the Pool's workers are forked with both.
#[test]
fn a_pool_of_python_behind_address_sanitizer() {
    if !need(&["python", "cc"]) {
        return;
    }
    let asan = std::process::Command::new("cc").arg("-print-file-name=libasan.so").output();
    let asan = String::from_utf8(asan.expect("because cc is there").stdout).expect("because paths are ASCII");
    let Some(asan) = fs::canonicalize(asan.trim()).ok() else {
        eprintln!("skipped: this compiler has no libasan");
        return;
    };
    let script = r#"
        export ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc; cat > pool.py <<'X'
from multiprocessing import Pool
def work(i):
    open(f"out{i}", "w").write(open("in").read() * i)
    return i * i
if __name__ == "__main__":
    open("in", "w").write("words\n")
    with Pool(3) as pool:
        print(pool.map(work, range(8)))
X
        python3 pool.py
    "#;
    let captured = same_behind(&format!("{}:", asan.display()), script, 9, &|_| true);
    assert!(harness::run::generated(&captured.told()).iter().any(|p| p.ends_with("/out7")));
}
