//! `dialtone rtt`: the round trip to the broker, as its ping and pong measure it.

use std::io::Write as _;
use std::time::Duration;

use dialtone_client::{Client, Status};

use super::attached::with_client;
use super::publish::unanswered;
use crate::args::Rtt;
use crate::exit::Outcome;
use crate::print::{Output, counted};

/// `dialtone rtt`
pub(super) async fn run(args: Rtt) -> Outcome {
    with_client(&args.connect, async |client| measure(&args, client).await).await
}

async fn measure(args: &Rtt, client: &Client) -> Outcome {
    let (url, node) = if let Status::Connected { url, node, .. } = &*client.status().borrow() {
        (url.to_string(), node.clone())
    } else {
        (String::new(), String::new())
    };
    let mut times = Vec::new();
    for turn in 0..args.count {
        if turn > 0 && !args.interval.get().is_zero() {
            tokio::time::sleep(args.interval.get()).await;
        }
        times.push(client.rtt().await.map_err(unanswered)?);
    }
    times.sort_unstable();
    let (min, max) = (
        times.first().copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
    );
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let mean = times.iter().sum::<Duration>() / args.count;
    let mut out = Output::stdout();
    if args.json {
        let micros = |time: Duration| (time.as_secs_f64() * 1e7).round() / 10.0;
        out.json(&serde_json::json!({
            "url": url, "node": node, "count": args.count,
            "min_us": micros(min), "median_us": micros(median), "mean_us": micros(mean), "max_us": micros(max),
        }))?;
    } else {
        let paint = out.paint;
        out.line(format_args!(
            "{}  node {node}, {}",
            paint.cyan(&url),
            counted(args.count.into(), "round trip")
        ))?;
        out.line(format_args!(
            "min {min:.1?}  median {median:.1?}  mean {mean:.1?}  max {max:.1?}"
        ))?;
    }
    Ok(out.flush()?)
}
