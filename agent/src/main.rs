//! `flowcept`: parse, dispatch, exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use flowcept_agent::{cli, exit_code};

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse_from(cli::ours(std::env::args_os()))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("flowcept: {error:#}");
            ExitCode::from(exit_code::FAILED)
        }
    }
}
