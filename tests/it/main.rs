//! Real programs under the real binary, by feature.

mod both;
mod brokers;
mod calls;
mod chaos;
mod deployment;
mod ecosystem;
mod export;
mod files;
mod fuzz;
mod hooks;
mod identity;
mod inside;
mod loss;
mod oracle;
mod mongodb;
mod preload;
mod queues;
mod run;
mod settings;
mod sinks;
mod spool;
mod streams;
mod suites;
mod telemetry;
mod terminal;
mod workloads;
