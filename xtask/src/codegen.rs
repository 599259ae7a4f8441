//! `probes/bpf/wire.h` from `probes/wire`. It does not know what the records mean.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The modules of `probes/wire` whose constants get their module's name as prefix, as in Rust.
const MODULES: [&str; 6] = ["header", "process", "file", "gap", "count", "call"];

/// Writes the generated files, or with `check` fails where one is not up to date.
pub(crate) fn run(root: &Path, check: bool) -> Result<()> {
    let path = root.join("probes/bpf/wire.h");
    let wanted = header(root)?;
    if check {
        let found = fs::read_to_string(&path).unwrap_or_default();
        if found != wanted {
            bail!("{} is not what probes/wire says: run `cargo xtask codegen`", path.display());
        }
    } else {
        fs::write(&path, wanted).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn header(root: &Path) -> Result<String> {
    let config = cbindgen::Config::from_file(root.join("probes/cbindgen.toml")).map_err(anyhow::Error::msg)?;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for module in MODULES {
        builder = builder.with_src(root.join(format!("probes/wire/src/{module}.rs")));
    }
    let mut bytes = Vec::new();
    builder.generate().context("read probes/wire")?.write(&mut bytes);
    let mut text = String::from_utf8(bytes).context("cbindgen wrote UTF-8")?;
    let end = text.rfind("#endif").context("cbindgen wrote an include guard")?;
    let tail = text.split_off(end);
    // Structs that are used only through local pointers do not reach BTF: their sizes are asserted here instead.
    for (name, value) in constants(root)? {
        writeln!(text, "#define {name} {value}")?;
    }
    for (name, size) in sizes(root)? {
        writeln!(text, "_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");")?;
    }
    Ok(format!("{text}\n{tail}"))
}

/// Constants and kinds, with their module's name in front, as Rust has them behind its path.
fn constants(root: &Path) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    for module in MODULES {
        let source = fs::read_to_string(root.join(format!("probes/wire/src/{module}.rs")))?;
        for line in source.lines() {
            let constant = line.strip_prefix("pub const ").and_then(|l| l.strip_suffix(';'));
            if let Some((name, value)) = constant.and_then(|c| Some((c.split_once(": ")?.0, c.split_once(" = ")?.1))) {
                out.push((format!("{}_{name}", module.to_uppercase()), value.to_string()));
            }
            let variant = line.strip_prefix("    ").and_then(|l| l.strip_suffix(',')?.split_once(" = "));
            if let Some((name, value)) =
                variant.filter(|(n, _)| module == "header" && n.chars().all(char::is_alphabetic))
            {
                out.push((format!("KIND{}", screaming(name)), value.to_string()));
            }
        }
    }
    Ok(out)
}

/// `ExecFailed` → `_EXEC_FAILED`.
fn screaming(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            out.push('_');
        }
        out.extend(c.to_uppercase());
    }
    out
}

/// Sizes by the rules of `repr(C)`, computed from the source text: fields of records are integers, arrays of them, or other records.
fn sizes(root: &Path) -> Result<Vec<(String, usize)>> {
    let mut known: Vec<(String, usize, usize)> =
        [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)].map(|(n, s)| (n.to_string(), s, s)).to_vec();
    let mut out = Vec::new();
    for module in ["header", "file", "process", "gap"] {
        let source = fs::read_to_string(root.join(format!("probes/wire/src/{module}.rs")))?;
        let mut lines = source.lines();
        while let Some(line) = lines.next() {
            let Some(name) = line.strip_prefix("pub struct ").and_then(|l| l.strip_suffix(" {")) else { continue };
            let (mut size, mut align) = (0_usize, 1);
            for field in lines.by_ref().take_while(|l| *l != "}").filter(|l| l.trim_start().starts_with("pub ")) {
                let kind = field.split_once(": ").context("a field has a type")?.1.trim_end_matches(',');
                let (kind, count) = match kind.strip_prefix('[').and_then(|k| k.strip_suffix(']')) {
                    Some(array) => {
                        let (kind, count) = array.split_once("; ").context("an array has a length")?;
                        (kind, count.parse()?)
                    }
                    None => (kind, 1),
                };
                let (_, s, a) =
                    known.iter().find(|k| k.0 == kind).with_context(|| format!("{name}: unknown type {kind}"))?;
                size = size.next_multiple_of(*a) + s * count;
                align = align.max(*a);
            }
            size = size.next_multiple_of(align);
            known.push((name.to_string(), size, align));
            out.push((name.to_string(), size));
        }
    }
    Ok(out)
}
