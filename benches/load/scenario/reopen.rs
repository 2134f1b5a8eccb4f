//! A server with many streams that ends and is started again: how long until it answers, and what it then has in memory.

use super::ask::Asker;
use super::shared::incompressible;
use crate::error::LoadError;
use crate::meter::Meter;
use crate::report::Report;
use crate::server::Server;
use crate::wire::streams;

/// Streams with a record each.
#[derive(Debug, Clone, Copy)]
pub struct Reopen {
    /// How many.
    pub streams: usize,
}

/// Payload of the one record of each stream, in bytes.
const SIZE: usize = 256;

/// The count is of streams, the memory what the server has more than it had without any. It is ready when it has
/// answered a question about the last of them.
///
/// # Errors
/// When the server refuses something, or does not come back.
pub fn run(server: &mut Server, scenario: Reopen) -> Result<Report, LoadError> {
    let pid = server.target().pid();
    let empty = memory_kib(pid)?;
    let mut asker = Asker::new(server.target())?;
    asker.make_streams(scenario.streams)?;
    let (format, payload) = (asker.format(), incompressible(SIZE));
    asker.ask(scenario.streams, |stream, reply, frames| {
        let (subject, request) = streams::append(format, stream, &payload, true);
        format.publish(frames, &subject, Some(reply), &request);
    })?;
    asker.close();
    let began = server.restart()?;
    let meter = Meter::start(server.target().pid().as_slice())?;
    let mut asker = Asker::new(server.target())?;
    asker.await_stream(scenario.streams.saturating_sub(1))?;
    let opened = began.elapsed();
    let usage = meter.read()?;
    asker.close();
    let growth = memory_kib(server.target().pid())?.cast_signed() - empty.cast_signed();
    let mut report =
        Report::new("streams", scenario.streams as u64, usage).with_memory(Some(growth));
    report.open_ms = Some(opened.as_secs_f64() * 1e3);
    // The clock of the meter began when the server was ready, and most of the work was done by then.
    (report.per_cpu_sec, report.cpu_us_each) = (None, None);
    Ok(report)
}

/// The resident memory of a process.
fn memory_kib(pid: Option<u32>) -> Result<u64, LoadError> {
    let usage = Meter::start(pid.as_slice())?.read()?;
    Ok(usage.server.map_or(0, |server| server.rss_kib))
}
