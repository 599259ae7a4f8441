//! Real programs under the real binary, by feature.

mod calls;
mod export;
mod files;
mod identity;
mod loss;
mod oracle;
mod run;
mod terminal;
