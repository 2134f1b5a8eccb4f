//! Persist nodes as processes of their own: several that share the streams, what is told of them, and how they end.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use dialtone_testkit::Postgres;
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Broker, Done, Home, Running};

const PROJECT: &str = "project-00000000-0000-4000-8000-000000000001";
const FOLDER: &str = "projects/00000000-0000-4000-8000-000000000001";

/// A broker, and persist nodes beside it.
struct Site {
    home: Home,
    broker: Broker,
    flags: Vec<String>,
}

impl Site {
    fn new(flags: &[&str]) -> Self {
        let home = Home::new();
        Self {
            broker: home.broker(&[]),
            home,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        }
    }

    fn command(&self, name: &str) -> Vec<String> {
        let (url, data) = (self.broker.ws(), format!("data-{name}"));
        let args = ["persist", "--node", name, "--url", &url, "--data", &data];
        let args = args.iter().map(|arg| (*arg).to_owned());
        args.chain(self.flags.iter().cloned()).collect()
    }

    /// A node that is ready, and the address of its monitoring server.
    fn node(&self, name: &str) -> Running {
        let args = self.command(name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let node = self.home.start(&args);
        node.until("is ready");
        node
    }

    fn run(&self, args: &[&str]) -> Done {
        let url = self.broker.ws();
        let more = ["--timeout", "60s", "--url", &url];
        self.home.run(&[args, &more].concat())
    }

    #[track_caller]
    fn all(&self, args: &[&str]) -> Vec<Value> {
        let text = self.run(&[args, &["--json"]].concat()).ok().text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// Makes this many streams, and says which nodes have them.
    fn fill(&self, count: u32) -> BTreeSet<String> {
        let mut nodes = BTreeSet::new();
        for number in 0..count {
            let name = format!("s{number}");
            let info = self.run(&["stream", "add", &name, "--json"]).ok().json();
            nodes.insert(info["node"].as_str().unwrap().to_owned());
            self.run(&["stream", "append", &name, "x"]).ok();
        }
        nodes
    }

    #[track_caller]
    fn names(&self, args: &[&str], field: &str) -> Vec<String> {
        let all = self.all(args);
        let names = all
            .iter()
            .map(|each| each[field].as_str().unwrap().to_owned());
        names.collect()
    }
}

/// What a monitoring server answers.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const STREAMS: u32 = 12;

#[test]
fn with_postgresql_a_killed_nodes_streams_are_served_by_the_others() {
    let url = Postgres::shared().database();
    let site = Site::new(&["--persist-postgres", &url, "--persist-lease", "2s"]);
    let mut nodes: Vec<_> = ["p1", "p2", "p3"]
        .map(|name| (name, site.node(name)))
        .into();
    let having = site.fill(STREAMS);
    let lost = nodes.iter().position(|(name, _)| having.contains(*name));
    let (name, node) = nodes.remove(lost.unwrap());
    node.signal(Signal::KILL);
    drop(node.end());

    // Whoever asks is answered, at the latest when the lease of the dead one has ended.
    for number in 0..STREAMS {
        let stream = format!("s{number}");
        let args = ["stream", "append", &stream, "y"];
        assert_eq!(site.run(&args).ok().text(), format!("{stream} #2\n"));
        let info = site.run(&["stream", "info", &stream, "--json"]).ok().json();
        assert_ne!(info["node"], name);
    }
    let left = site.names(&["stream", "nodes"], "node");
    assert_eq!(
        left,
        nodes.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    let shown = site.run(&["stream", "nodes"]).ok().text();
    assert!(
        shown.contains("LEASE") && shown.contains("postgres"),
        "{shown}"
    );
    assert_eq!(
        site.names(&["stream", "ls"], "stream").len() as u64,
        u64::from(STREAMS)
    );
    for (_, node) in nodes {
        node.signal(Signal::TERM);
        node.end().ok();
    }
}

#[test]
fn with_logs_each_node_keeps_its_streams_and_every_one_lists_them_all() {
    let named = ["p1", "p2", "p3"]
        .map(|name| ["--persist-nodes", name])
        .concat();
    let site = Site::new(&[&named[..], &["--persist-quota-streams", "2"]].concat());
    let mut nodes: Vec<_> = ["p1", "p2", "p3"]
        .map(|name| (name, site.node(name)))
        .into();
    let having = site.fill(STREAMS);
    assert!(having.len() > 1, "all streams are on {having:?}");
    let all = site.names(&["stream", "ls"], "stream");
    assert_eq!(all.len() as u64, u64::from(STREAMS));

    // The quota is that of all nodes together.
    let owned = |name: &str| {
        let name = format!("{FOLDER}/{name}");
        site.run(&["stream", "add", &name, "--scope", PROJECT])
    };
    owned("a").ok();
    owned("b").ok();
    for name in ["c", "d", "e", "f"] {
        owned(name).exits(1).says("2 streams of at most 2");
    }

    let lost = nodes.iter().position(|(name, _)| having.contains(*name));
    let (name, node) = nodes.remove(lost.unwrap());
    node.signal(Signal::KILL);
    drop(node.end());
    let listed = site.run(&["stream", "ls"]).exits(1).says(name);
    assert!(listed.stdout.len() > 1, "{listed:?}");
    site.run(&["stream", "verify"]).exits(1).says(name);
    let shown = site.run(&["stream", "nodes"]).ok().text();
    assert!(shown.contains("does not answer"), "{shown}");
    let _again = site.node(name);
    assert_eq!(
        site.names(&["stream", "ls", "s"], "stream").len() as u64,
        u64::from(STREAMS)
    );

    let stranger = site.command("p4");
    let stranger: Vec<&str> = stranger.iter().map(String::as_str).collect();
    site.home.run(&stranger).exits(1).says("p1, p2, p3");
}

#[test]
fn an_owner_has_no_more_than_its_quota() {
    let home = Home::new();
    let quotas = format!("[{PROJECT}]\nstreams = 9\nbytes = \"1 KiB\"\nmsgs_per_second = 1000\n");
    let quotas = home.write("quotas.toml", &quotas);
    let up = home.up(&[
        "--persist-quota-streams",
        "1",
        "--persist-quotas-file",
        &quotas,
    ]);
    let url = up.ws();
    let run = |args: &[&str]| home.run(&[args, &["--url", &url]].concat());
    let other = "account-00000000-0000-4000-8000-000000000002";
    let theirs = "accounts/00000000-0000-4000-8000-000000000002";
    run(&["stream", "add", &format!("{theirs}/a"), "--scope", other]).ok();
    run(&["stream", "add", &format!("{theirs}/b"), "--scope", other])
        .exits(1)
        .says("1 streams of at most 1");
    let ours = format!("{FOLDER}/a");
    run(&["stream", "add", &ours, "--scope", PROJECT]).ok();
    let text = "x".repeat(600);
    run(&["stream", "append", &ours, &text, "--scope", PROJECT]).ok();
    run(&["stream", "append", &ours, &text, "--scope", PROJECT])
        .exits(1)
        .says("bytes of at most 1024");
    // The hub has none.
    run(&["stream", "add", "a"]).ok();
    run(&["stream", "add", "b"]).ok();
    let wrong = home.write("wrong.toml", "[hub]\nstreams = 1\n");
    home.run(&["up", "--persist-quotas-file", &wrong])
        .exits(2)
        .says("the hub has no quota");
}

#[test]
fn quotas_are_read_again_by_both_kinds_of_node() {
    let quotas = |bytes: &str| format!("[{PROJECT}]\nbytes = \"{bytes}\"\n");
    let home = Home::new();
    let file = home.write("quotas.toml", &quotas("10"));
    let up = home.up(&["--persist-quotas-file", &file, "--log-level", "info"]);
    let alone = Site::new(&["--persist-quotas-file", "quotas.toml"]);
    alone.home.write("quotas.toml", &quotas("10"));
    let node = alone.node("p1");
    let name = format!("{FOLDER}/a");
    for (home, url, node) in [
        (&home, up.ws(), &up.running),
        (&alone.home, alone.broker.ws(), &node),
    ] {
        let append = || {
            let append = ["stream", "append", &name, "12345678"];
            home.run(&[&append[..], &["--scope", PROJECT, "--url", &url]].concat())
        };
        home.run(&["stream", "add", &name, "--scope", PROJECT, "--url", &url])
            .ok();
        append().ok();
        append().exits(1).says("of at most 10");
        home.write("quotas.toml", &quotas("1 KiB"));
        node.signal(Signal::HUP);
        node.until("reloaded");
        append().ok();
        home.write("quotas.toml", &quotas("many"));
        node.signal(Signal::HUP);
        node.until("stay");
        append().ok();
    }
}

#[test]
fn a_node_by_itself_is_watched() {
    let site = Site::new(&["--persist-monitor", "127.0.0.1:0"]);
    let args = site.command("p1");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let node = site.home.start(&args);
    let ready = node.until("is ready");
    let address = ready.rsplit_once("http://").unwrap().1.to_owned();
    site.fill(2);
    assert!(get(&address, "/healthz").ends_with("ok\n"));
    assert!(get(&address, "/readyz").ends_with("ready\n"));
    let metrics = get(&address, "/metrics");
    for line in [
        "dialtone_persist_streams 2\n",
        "dialtone_persist_records 2\n",
        "dialtone_persist_records_appended_total 2\n",
        "dialtone_persist_commit_seconds_count 2\n",
        "dialtone_persist_failed 0\n",
        "# TYPE dialtone_persist_commit_seconds histogram\n",
    ] {
        assert!(metrics.contains(line), "{line:?}: {metrics}");
    }
    let page = get(&address, "/persistz?pretty");
    let page: Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&page["node"], &page["streams"]), (&"p1".into(), &2.into()));
    assert_eq!(page["commit_latency"]["count"], 2, "{page}");
    assert!(get(&address, "/").contains("/persistz"));
    assert!(get(&address, "/connz").starts_with("HTTP/1.1 404"));
    node.signal(Signal::TERM);
    node.end().ok();
}

#[test]
fn up_shows_persist_beside_its_broker() {
    let home = Home::new();
    let up = home.up(&[]);
    let url = up.ws();
    home.run(&["stream", "add", "a", "--url", &url]).ok();
    let address = up.monitor().trim_start_matches("http://");
    let metrics = get(address, "/metrics");
    for line in ["dialtone_persist_streams 1\n", "dialtone_connections "] {
        assert!(metrics.contains(line), "{line:?}: {metrics}");
    }
    assert!(get(address, "/persistz").contains("\"backend\":\"log\""));
    assert!(get(address, "/readyz").ends_with("ready\n"));
}

/// Runs a command that cannot write files of more than a few megabytes, as on a disk that fails.
fn short_of_disk(home: &Home, args: &[&str]) -> Running {
    let plain = home.command(args);
    let mut command = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
    command
        .args(["-c", script])
        .arg(plain.get_program())
        .args(plain.get_args());
    for (name, value) in plain.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.current_dir(home.path());
    let pipe = std::process::Stdio::piped;
    command
        .stdin(std::process::Stdio::null())
        .stdout(pipe())
        .stderr(pipe());
    Running::new(command.spawn().unwrap())
}

/// Appends until the store fails.
fn append_too_much(home: &Home, url: &str) {
    home.run(&["stream", "add", "a", "--url", url]).ok();
    // Bytes that do not become fewer.
    let mut state = 88_172_645_463_325_252_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(3_000_000)
    .collect();
    let args = [
        "stream",
        "append",
        "a",
        "-",
        "--encoding",
        "raw",
        "--timeout",
        "5s",
        "--url",
        url,
    ];
    let refused = home.run_with(&args, &bytes);
    assert_ne!(refused.code, Some(0), "{refused:?}");
}

#[test]
fn up_ends_with_an_error_when_its_store_has_failed() {
    let home = Home::new();
    let args = [
        "up",
        "--no-hub",
        "--json",
        "--listen",
        "ws://127.0.0.1:0",
        "--monitor",
        "off",
    ];
    let up = Broker::new(short_of_disk(&home, &args));
    append_too_much(&home, &up.ws());
    up.running
        .end()
        .exits(1)
        .says("persist has failed")
        .says("segment-0000000001.log");
}

#[test]
fn a_node_ends_with_an_error_when_its_store_has_failed() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    let node = short_of_disk(&home, &["persist", "--url", &url, "--data", "data"]);
    node.until("is ready");
    append_too_much(&home, &url);
    node.end().exits(1).says("persist has failed");
}

#[test]
fn settings_of_persist_are_checked() {
    let home = Home::new();
    for (flag, value, says) in [
        ("--persist-segment-len-max", "3KiB", "from 4 KiB to 2 GiB"),
        ("--persist-compact-live-percent", "96", "at most 95"),
        ("--persist-compact-bytes-per-second", "1", "at least 64 KiB"),
        ("--persist-node", "a b", "1 to 64 letters"),
        ("--persist-streams-open-max", "0", "at least 1"),
        ("--persist-workers", "65", "at most 64"),
    ] {
        home.run(&["persist", flag, value]).exits(2).says(says);
    }
    home.run(&["broker", "--persist-lease", "3s"])
        .exits(2)
        .says("--persist-lease means nothing to a broker");
}
