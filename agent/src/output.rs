//! How answers look to a person. It does not ask the questions.

pub mod run;
pub mod tree;

use std::io::IsTerminal;

/// Files under one node beyond which a terminal gets a count instead of some.
const FOLD: usize = 20;

/// How a tree is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// Long lists are folded.
    pub fold: bool,
}

impl Style {
    /// For stdout as it is: colours and folding for a person only.
    pub fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { colour: terminal && std::env::var_os("NO_COLOR").is_none(), fold: terminal }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
