//! Real programs under the real binary, by feature.

mod files;
mod identity;
mod loss;
mod oracle;
mod run;
