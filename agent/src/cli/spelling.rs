//! The spelling of Flowcept's own command line, whose commands are flags, for the commands that both have. Of ours nothing is changed.

use std::ffi::OsString;

/// What Flowcept's commands are called here.
const COMMANDS: [(&str, &str); 9] = [
    ("--query", "query"),
    ("--get-task", "query"),
    ("--workflow-count", "workflow-count"),
    ("--stream-messages", "stream"),
    ("--start-consumption-services", "consume"),
    ("--init-settings", "init-settings"),
    ("--show-settings", "show-settings"),
    ("--config-profile", "config-profile"),
    ("--check-services", "check-services"),
];

/// Our words for what was typed.
pub fn ours(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map_while(|word| word.to_str()).collect();
    // With a word of ours first it is ours.
    let is_theirs = words.len() + 1 == arguments.len() && words.first().is_some_and(|word| word.starts_with("--"));
    match translated(&words).filter(|_| is_theirs) {
        Some(words) => arguments[..1].iter().cloned().chain(words.into_iter().map(OsString::from)).collect(),
        None => arguments,
    }
}

fn translated(words: &[&str]) -> Option<Vec<String>> {
    let (flag, command) = words.iter().find_map(|word| COMMANDS.iter().find(|(theirs, _)| theirs == word))?;
    let mut out = vec![(*command).to_string()];
    let mut rest = words.iter().filter(|word| *word != flag);
    while let Some(word) = rest.next() {
        match *word {
            // Here these have no flag.
            "--filter" | "--workflow-id" => out.extend(rest.next().map(|value| (*value).to_string())),
            "--task-id" => out.extend(rest.next().map(|id| serde_json::json!({"task_id": id}).to_string())),
            "--keys-to-show" => out.push("--project".into()),
            // A list in JSON.
            "--project" => {
                let value = rest.next()?;
                let names: Vec<String> = serde_json::from_str(value).unwrap_or_else(|_| vec![(*value).to_string()]);
                out.extend(["--project".to_string(), names.join(",")]);
            }
            word => out.push(word.to_string()),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let words = ["flowcept"].into_iter().chain(line.split(' ')).map(OsString::from);
        let words: Vec<String> = ours(words).into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words[1..].join(" ")
    }

    #[test]
    fn commands_of_both_are_taken_in_both_spellings() {
        let cases = [
            ("--query --filter {} --limit 2", "query {} --limit 2"),
            ("--filter {\"a\":1} --query --project [\"a\",\"b\"] --sort -a", "query {\"a\":1} --project a,b --sort -a"),
            ("--get-task --task-id x", "query {\"task_id\":\"x\"}"),
            ("--workflow-count --workflow-id w", "workflow-count w"),
            ("--stream-messages --keys-to-show a,b", "stream --project a,b"),
            ("--start-consumption-services", "consume"),
            ("--init-settings --full -y", "init-settings --full -y"),
            ("--config-profile mq-only -y", "config-profile mq-only -y"),
            ("--show-settings", "show-settings"),
            ("--check-services", "check-services"),
        ];
        for (theirs, wanted) in cases {
            assert_eq!(spelled(theirs), wanted);
        }
    }

    #[test]
    fn what_is_ours_stays() {
        for line in ["run -- tool --query --filter x", "query {}", "--store s show last", "--version", "--nothing"] {
            assert_eq!(spelled(line), line);
        }
    }
}
