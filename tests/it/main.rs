//! Real programs under the real binary, by feature.

mod export;
mod files;
mod identity;
mod loss;
mod oracle;
mod run;
