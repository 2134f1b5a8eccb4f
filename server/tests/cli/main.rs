//! The real binary, end to end: brokers on free ports, clients beside them, exit codes and signals.
//!
//! Nothing sleeps: a test waits for a line of output, or for a process to end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod archive;
mod cluster;
mod conat;
mod configuration;
mod contexts;
mod crash;
mod damaged;
mod edge;
mod exit_codes;
mod founding;
mod full;
mod help;
mod hub;
mod hub_services;
mod hub_work;
mod linked;
mod messaging;
mod namespaces;
mod nodes;
mod persist;
mod process;
mod project;
mod proxy;
mod rolling;
mod signals;
mod site;
mod streams;
mod structures;
mod watching;
