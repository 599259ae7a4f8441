//! Trees in text and in Graphviz's dot. It does not know where they come from.

use std::collections::HashSet;
use std::fmt::Write as _;

use flowcept_provenance::role::Role;

use super::{FOLD, Style};
use crate::query::{Node, What};

/// The tree under `node`, a line a node.
pub fn text(node: &Node, style: Style) -> String {
    let mut out = String::new();
    line(node, style, &mut out);
    below(node, "", style, &mut out);
    out
}

fn below(node: &Node, indent: &str, style: Style, out: &mut String) {
    let files = node.children.iter().filter(|c| matches!(c.what, What::File { .. }) && c.children.is_empty()).count();
    let mut leaves = 0;
    let mut shown: Vec<Option<&Node>> = Vec::new();
    for child in &node.children {
        if style.fold && files > FOLD && matches!(child.what, What::File { .. }) && child.children.is_empty() {
            leaves += 1;
            if leaves > FOLD / 2 {
                continue;
            }
        }
        shown.push(Some(child));
    }
    if style.fold && files > FOLD {
        shown.push(None);
    }
    for (i, child) in shown.iter().enumerate() {
        let last = i + 1 == shown.len();
        let (branch, next) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        out.push_str(indent);
        out.push_str(branch);
        match child {
            Some(child) => {
                line(child, style, out);
                below(child, &format!("{indent}{next}"), style, out);
            }
            None => {
                let _ = writeln!(out, "… and {} more files (not folded when piped)", files - FOLD / 2);
            }
        }
    }
}

fn line(node: &Node, style: Style, out: &mut String) {
    match &node.what {
        What::File { path, role, .. } => {
            let _ = write!(out, "{}", style.paint("36", path));
            if *role == Role::Temporary {
                out.push_str(" (temporary)");
            } else if *role != Role::Data {
                let _ = write!(out, " ({})", role.name().replace('_', " "));
            }
        }
        What::Task { name, command, .. } => {
            let _ = write!(out, "{}", style.paint("1", name));
            if command != name {
                let _ = write!(out, "  [{command}]");
            }
            if node.via != "by" && node.via != "used by" && !node.via.is_empty() {
                let _ = write!(out, " ({})", node.via.replace('_', " "));
            }
        }
    }
    if node.again {
        out.push_str(" (see above)");
    }
    out.push('\n');
}

/// The same as a graph; control edges are dotted.
pub fn dot(node: &Node) -> String {
    let mut out = String::from("digraph lineage {\n  rankdir=LR;\n");
    let mut seen = HashSet::new();
    nodes(node, &mut seen, &mut out);
    out.push_str("}\n");
    out
}

fn id_of(node: &Node) -> &str {
    match &node.what {
        What::File { entity, .. } => entity,
        What::Task { id, .. } => id,
    }
}

fn nodes(node: &Node, seen: &mut HashSet<String>, out: &mut String) {
    let quote = |s: &str| format!("{:?}", s);
    if seen.insert(id_of(node).to_string()) {
        let (label, shape) = match &node.what {
            What::File { path, .. } => (path, "note"),
            What::Task { command, .. } => (command, "box"),
        };
        let _ = writeln!(out, "  {} [label={}, shape={shape}];", quote(id_of(node)), quote(label));
    }
    for child in &node.children {
        nodes(child, seen, out);
        let control = ["started", "exit_status"].iter().any(|v| child.via.starts_with(v));
        let style = if control { "dotted" } else { "solid" };
        let edge = format!(
            "  {} -> {} [label={}, style={style}];\n",
            quote(id_of(node)),
            quote(id_of(child)),
            quote(child.via)
        );
        if seen.insert(edge.clone()) {
            out.push_str(&edge);
        }
    }
}

/// The same for programs.
pub fn json(node: &Node) -> serde_json::Value {
    let mut value = match &node.what {
        What::File { path, entity, role } => {
            serde_json::json!({"file": {"path": path, "entity": entity, "role": role.name()}})
        }
        What::Task { id, name, command, workflow } => {
            serde_json::json!({"task": {"task_id": id, "activity_id": name, "command": command, "workflow_id": **workflow}})
        }
    };
    if let Some(object) = value.as_object_mut() {
        if !node.via.is_empty() {
            object.insert("via".into(), node.via.into());
        }
        if node.again {
            object.insert("again".into(), true.into());
        }
        if !node.children.is_empty() {
            object.insert("children".into(), node.children.iter().map(json).collect());
        }
    }
    value
}
