//! `dialtone top`: connections, rates and slow consumers, as the monitoring server tells them.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use crate::args::Top;
use crate::config::Environment;
use crate::exit::{Failure, Outcome};
use crate::print::Output;

mod cluster;

mod look;
use look::{Look, Monitor, Rates, Sort};

mod streams;

mod view;

/// Where the monitoring server is when nobody says where.
const MONITOR_DEFAULT: &str = "http://127.0.0.1:4490";

/// `dialtone top`
pub(super) async fn run(args: Top) -> Outcome {
    if args.cluster {
        return cluster::run(&args).await;
    }
    let address = match &args.monitor {
        Some(address) => address.clone(),
        None => {
            let context = crate::connect::context(args.connect.context.as_deref(), &Environment)?;
            context
                .and_then(|profile| profile.monitor)
                .unwrap_or_else(|| MONITOR_DEFAULT.to_owned())
        }
    };
    let monitor = Monitor::new(&address)?;
    let first = monitor.look(Sort::MessagesOut, args.connections).await.map_err(|error| {
        Failure::from(error).hint(format!("is there a monitoring server at {address}? `dialtone up` has one, `dialtone broker --monitor ADDRESS` starts one"))
    })?;
    if args.json {
        return once(&args, &monitor, &first).await;
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage("standard output is no terminal")
            .hint("--json prints one look for scripts"));
    }
    let terminal = ratatui::try_init().context("cannot use the terminal")?;
    let watched = Watch {
        args: &args,
        monitor,
        sort: Sort::MessagesOut,
        paused: false,
    }
    .run(terminal, first)
    .await;
    ratatui::restore();
    watched
}

async fn once(args: &Top, monitor: &Monitor, first: &Look) -> Outcome {
    tokio::time::sleep(args.interval.get()).await;
    let second = monitor.look(Sort::MessagesOut, args.connections).await?;
    let mut out = Output::stdout();
    out.json(&Rates::between(first, &second).to_json())?;
    Ok(out.flush()?)
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Quit,
    Pause,
    SortNext,
    SortPrevious,
    /// The terminal has another size.
    Redraw,
}

struct Watch<'a> {
    args: &'a Top,
    monitor: Monitor,
    sort: Sort,
    paused: bool,
}

impl Watch<'_> {
    async fn run(mut self, mut terminal: ratatui::DefaultTerminal, first: Look) -> Outcome {
        let mut keys = keys().context("cannot read keys")?;
        let mut rates = Rates::between(&first, &first);
        let mut before = first;
        let mut trouble: Option<String> = None;
        let period = self.args.interval.get().max(Duration::from_millis(100));
        let mut next = Instant::now() + period;
        loop {
            let screen = view::Screen {
                rates: &rates,
                sort: self.sort,
                paused: self.paused,
                trouble: trouble.as_deref(),
            };
            terminal
                .draw(|frame| screen.draw(frame))
                .context("cannot draw")?;
            let due = tokio::time::sleep_until(next.into());
            tokio::select! {
                key = keys.recv() => match key {
                    Some(Key::Quit) | None => return Ok(()),
                    Some(Key::Pause) => self.paused = !self.paused,
                    Some(Key::SortNext) => self.sort = self.sort.next(),
                    Some(Key::SortPrevious) => self.sort = self.sort.previous(),
                    Some(Key::Redraw) => {}
                },
                () = due => {
                    next = Instant::now() + period;
                    if self.paused {
                        continue;
                    }
                    match self.monitor.look(self.sort, self.args.connections).await {
                        Ok(look) => {
                            rates = Rates::between(&before, &look);
                            before = look;
                            trouble = None;
                        }
                        // The broker may come back; until then the last look stays.
                        Err(error) => trouble = Some(format!("{error:#}")),
                    }
                }
            }
        }
    }
}

/// Most keys that wait.
const KEYS_MAX: usize = 16;

/// How soon the thread that reads keys notices that nobody wants them any more.
const KEYS_POLL: Duration = Duration::from_millis(100);

/// Reads keys on a thread of its own, since the terminal can only be read by waiting.
fn keys() -> std::io::Result<mpsc::Receiver<Key>> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            while !sender.is_closed() {
                let read =
                    event::poll(KEYS_POLL).and_then(|ready| ready.then(event::read).transpose());
                let Ok(event) = read else { return };
                if let Some(key) = event.and_then(|event| understand(&event))
                    && sender.blocking_send(key).is_err()
                {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing")]
fn understand(event: &Event) -> Option<Key> {
    match event {
        Event::Resize(..) => Some(Key::Redraw),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('p' | ' ') => Some(Key::Pause),
            KeyCode::Char('s') | KeyCode::Right => Some(Key::SortNext),
            KeyCode::Left => Some(Key::SortPrevious),
            _ => None,
        },
        _ => None,
    }
}
