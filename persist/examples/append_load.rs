//! Writers that append as fast as answers come:
//! `cargo run --release -p dialtone-persist --example append_load -- URL WRITERS STREAMS BYTES SECONDS [PID]`.
//!
//! Prints acknowledged appends per second with their latencies, and with `PID` the CPU time of that process per append.

use std::time::{Duration, Instant};

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{
    self, Append, Appended, Config, Create, Created, Outcome, Record, Request,
};
use dialtone_client::{Client, Encoding, Options};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Load {
    url: String,
    writers: usize,
    streams: usize,
    payload: Vec<u8>,
    length: Duration,
    pid: Option<u32>,
}

fn arguments() -> Option<Load> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next()?;
    let mut number = || arguments.next()?.parse::<usize>().ok();
    let (writers, streams, bytes, seconds) = (number()?, number()?, number()?, number()?);
    Some(Load {
        url,
        writers,
        streams,
        payload: vec![b'x'; bytes],
        length: Duration::from_secs(seconds as u64),
        pid: number().and_then(|pid| u32::try_from(pid).ok()),
    })
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example that prints its figures")]
async fn main() -> Result<(), Failure> {
    let load = arguments().ok_or("URL WRITERS STREAMS BYTES SECONDS [PID]")?;
    let client = Options::new(load.url.as_str()).connect().await?;
    for stream in 0..load.streams {
        let create = Create {
            stream: name(stream),
            config: Config::default(),
            exist_ok: true,
        };
        ask::<Created>(&client, Request::Create(create)).await?;
    }
    let cpu_before = load.pid.and_then(cpu);
    let (began, end) = (Instant::now(), Instant::now() + load.length);
    let writers = (0..load.writers).map(|writer| {
        let stream = name(writer % load.streams);
        write(&client, stream, &load.payload, end)
    });
    let mut latencies: Vec<Duration> = Vec::new();
    for written in futures_util::future::join_all(writers).await {
        latencies.extend(written?);
    }
    let elapsed = began.elapsed();
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    println!(
        "{} appends of {} B by {} writers on {} streams: {:.0}/s, p50 {:?}, p99 {:?}",
        latencies.len(),
        load.payload.len(),
        load.writers,
        load.streams,
        per(latencies.len(), elapsed),
        at(50),
        at(99),
    );
    if let (Some(before), Some(after)) = (cpu_before, load.pid.and_then(cpu)) {
        let each = 1e6 / per(latencies.len(), after.saturating_sub(before));
        println!("CPU of the process: {each:.2} µs per append");
    }
    client.drain().await?;
    Ok(())
}

fn name(stream: usize) -> String {
    format!("load/{stream}")
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

async fn write(
    client: &Client,
    stream: String,
    payload: &[u8],
    end: Instant,
) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    let append = Request::Append(Append {
        stream,
        records: vec![Record::new(payload)],
        ..Append::default()
    });
    let request = wire::encode(&append, Encoding::MessagePack)?;
    while Instant::now() < end {
        let began = Instant::now();
        let answer = client.request(Owner::Hub.call_subject(), &request).await?;
        let appended: Appended =
            wire::decode(answer.into_result()?.payload(), Encoding::MessagePack)?;
        if let Some(Outcome::Refused(fault)) = appended.results.into_iter().next() {
            return Err(fault.into());
        }
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

async fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: Request,
) -> Result<T, Failure> {
    let request = wire::encode(&request, Encoding::MessagePack)?;
    let answer = client.request(Owner::Hub.call_subject(), request).await?;
    Ok(wire::decode(
        answer.into_result()?.payload(),
        Encoding::MessagePack,
    )?)
}

/// The CPU time that a process has taken, from `/proc`.
fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // A tick has been 10 ms on every Linux for decades.
    Some(Duration::from_millis(ticks * 10))
}
