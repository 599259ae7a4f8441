//! A run as text: its tasks as a tree, their files by role, what was not seen.

use std::fmt::{Display, Write as _};

use flowcept_provenance::activity::{Activity, ActivityNo, Outcome};
use flowcept_provenance::groups::Groups;
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::role::Role;

use super::{FOLD, Style};
use crate::workflow::Workflow;

/// What of a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    Whole,
    /// One task and those that it started.
    Task(ActivityNo),
    /// Tasks that failed.
    Failed,
}

/// A run for a person.
pub fn text(workflow: &Workflow, told: &Provenance, part: Part, style: Style) -> String {
    let count = told.activities.len();
    let mut shown = Shown {
        told,
        style,
        used: Groups::new(count, told.used.iter().map(|u| Some(u.activity.0))),
        generated: Groups::new(count, told.generated.iter().map(|g| Some(g.activity.0))),
        children: Groups::new(count, told.activities.iter().map(|a| Some(a.previous.or(a.parent)?.0))),
        out: String::new(),
    };
    shown.line("", format_args!("workflow {}  {}  {}", workflow.id, workflow.name, workflow.status()));
    for (i, activity) in told.activities.iter().enumerate() {
        match part {
            Part::Failed if matches!(activity.outcome, Outcome::Exited(1..) | Outcome::Signalled(..)) => {
                shown.failed(i, activity);
            }
            Part::Whole if activity.previous.or(activity.parent).is_none() => shown.tree(i),
            Part::Task(task) if task.0 as usize == i => shown.tree(i),
            _ => {}
        }
    }
    shown.coverage();
    shown.out
}

struct Shown<'a> {
    told: &'a Provenance,
    style: Style,
    used: Groups,
    generated: Groups,
    children: Groups,
    out: String,
}

impl Shown<'_> {
    fn line(&mut self, indent: &str, text: impl Display) {
        let _ = writeln!(self.out, "{indent}{text}");
    }

    /// A task with all below it. Processes that fork in a chain may be as deep as there are processes: no recursion.
    fn tree(&mut self, root: usize) {
        let mut waiting = vec![(root, 0)];
        while let Some((task, depth)) = waiting.pop() {
            let activity = &self.told.activities[task];
            let outcome = match activity.outcome {
                Outcome::Exited(0) | Outcome::Replaced => String::new(),
                Outcome::Running => "  running".into(),
                other => format!("  {}", self.style.paint("31", &ending(other))),
            };
            let indent = "  ".repeat(depth);
            let command = self.style.paint("1", &activity.command_line());
            self.line(&indent, format_args!("{command}{outcome}"));
            self.files(task, &format!("{indent}  "));
            let first = waiting.len();
            waiting.extend(self.children.of(task).map(|child| (child, depth + 1)));
            waiting[first..].reverse();
        }
    }

    fn failed(&mut self, task: usize, activity: &Activity) {
        let ending = self.style.paint("31", &ending(activity.outcome));
        self.line("", format_args!("{ending}  {}", self.style.paint("1", &activity.command_line())));
        self.files(task, "    ");
        for (asked, errno) in &activity.failed_execs {
            let why = std::io::Error::from_raw_os_error(*errno as i32);
            self.line("    ", format_args!("could not execute {asked}: {why}"));
        }
    }

    fn files(&mut self, task: usize, indent: &str) {
        let told = self.told;
        let uses: Vec<_> = self.used.of(task).map(|u| &told.used[u]).collect();
        let (data, hidden): (Vec<_>, Vec<_>) =
            uses.into_iter().partition(|u| matches!(u.role, Role::Data | Role::Temporary));
        self.list(indent, "<", data.iter().map(|u| (&*u.path, "")).collect());
        let generated: Vec<_> = self.generated.of(task).map(|g| &told.generated[g]).collect();
        let mark = |role| if role == Role::Temporary { " (temporary)" } else { "" };
        self.list(indent, ">", generated.iter().map(|g| (&*g.path, mark(g.role))).collect());
        if !hidden.is_empty() {
            self.line(indent, format_args!("  and {} programs, libraries and settings", hidden.len()));
        }
    }

    fn list(&mut self, indent: &str, direction: &str, files: Vec<(&str, &str)>) {
        let shown = if self.style.fold && files.len() > FOLD { FOLD / 2 } else { files.len() };
        for (path, mark) in &files[..shown] {
            self.line(indent, format_args!("{direction} {}{mark}", self.style.paint("36", path)));
        }
        if shown < files.len() {
            let more = files.len() - shown;
            self.line(indent, format_args!("{direction} … and {more} more files (not folded when piped)"));
        }
    }

    fn coverage(&mut self) {
        let told = self.told;
        if told.gaps.is_empty() {
            self.line("", "coverage: complete");
        } else {
            self.line("", "coverage: not complete");
        }
        for gap in &told.gaps {
            let who = gap.activity.map_or_else(String::new, |a| format!(" by {}", told.activity(a).name));
            self.line("  ", format_args!("{} ×{}{who}: {}", gap.kind, gap.count, gap.why));
        }
        let b = &told.books;
        self.line("", format_args!("books: {} processes = {} ended + {} living", b.forked, b.ended, b.living));
    }
}

fn ending(outcome: Outcome) -> String {
    match outcome {
        Outcome::Running => "running".into(),
        Outcome::Exited(code) => format!("exit {code}"),
        Outcome::Signalled(signal, core) => format!("signal {signal}{}", if core { " (core dumped)" } else { "" }),
        Outcome::Replaced => "exec".into(),
    }
}
