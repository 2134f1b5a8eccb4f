//! Checking a configuration, and where each value comes from.

use std::time::Duration;

use dialtone_transport::tls::authority::Authority;
use serde_json::Value;

use crate::process::{Broker, Home};

#[test]
fn check_shows_every_value_with_its_origin() {
    let home = Home::new();
    let file = home.write(
        "d.toml",
        "threads = 3\n[limits]\nmessage_len_max = \"1 MiB\"\n[log]\nlevel = \"debug\"\n",
    );
    let mut command = home.command(&["config", "check", "--config", &file, "--drain-grace", "3s"]);
    let output = command
        .env("DIALTONE_THREADS", "2")
        .env("DIALTONE_LOG", "info")
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    let squeezed: Vec<String> = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "threads = 2 # env DIALTONE_THREADS".to_owned(),
        "drain_grace = \"3s\" # flag --drain-grace".to_owned(),
        format!("message_len_max = \"1 MiB\" # file {file}:3:1"),
        "level = \"info\" # env DIALTONE_LOG".to_owned(),
        "fragmented_max = 64 # default".to_owned(),
    ] {
        assert!(squeezed.contains(&line), "{line:?} is missing:\n{shown}");
    }
}

#[test]
fn check_names_what_is_wrong_by_line() {
    let home = Home::new();
    let users = home.write(
        "users.toml",
        "[[user]]\nname = \"a\"\npassword = \"plain\"\n",
    );
    let text = format!(
        "users = {users:?}\nlisten = [\"http://x\"]\n[limits]\nframes_max = 3\n[tls]\ncert = \"c.pem\"\n"
    );
    let file = home.write("d.toml", &text);
    home.run(&["config", "check", "--config", &file])
        .exits(1)
        .says(&format!(
            "{file}:2:10: listen: scheme \"http\" is not known"
        ))
        .says(&format!(
            "{file}:4:1: limits.frames_max: no setting has this name"
        ))
        .says(&format!("{file}:6:1: tls.cert: needs tls.key as well"))
        .says(&format!("{users}:3:"))
        .says("dialtone passwd")
        .says("4 things are wrong");
    home.run(&["broker", "--config", &file])
        .exits(2)
        .says(&format!("{file}:4:1"))
        .says("dialtone config check");
}

#[test]
fn check_names_the_place_of_mistakes_that_show_late() {
    let home = Home::new();
    let text = "users = \"no.toml\"\n[limits]\nframe_len_max = 1000\n[outbox]\nmax = 1000\n";
    let file = home.write("d.toml", text);
    home.run(&["config", "check", "--config", &file])
        .exits(1)
        .says(&format!("{file}:1:1: users: cannot read the users"))
        .says(&format!("{file}:3:1: limits.fragment_len_max: "))
        .says(&format!("{file}:5:1: outbox.high: "));
}

#[test]
fn the_sample_is_a_configuration() {
    let home = Home::new();
    let sample = home.run(&["config", "sample"]).ok().text();
    assert!(sample.contains("# Flag --listen, environment DIALTONE_LISTEN."));
    let file = home.write("d.toml", &sample);
    home.run(&["config", "check", "--config", &file]).ok();
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let home = Home::new();
    home.run(&["config", "check", "--config", "no.toml"])
        .exits(1)
        .says("no.toml:1:1: cannot be read");
}

#[test]
fn the_ready_file_says_what_the_first_line_says() {
    let home = Home::new();
    let path = home.path().join("ready.json");
    let broker = home.up(&["--ready-file", path.to_str().unwrap()]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n"), "{text:?}");
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file, broker.ready);
    assert_eq!(broker.ready["urls"].as_array().unwrap().len(), 3);
    assert!(!broker.ws().ends_with(":0/"), "the real port is told");
}

/// Writes a certificate that is valid for so long, with its key.
fn write_certificate(home: &Home, validity: Duration) {
    let issued = Authority::generate("test")
        .unwrap()
        .issue("n1", validity)
        .unwrap();
    home.write("cert.pem", &issued.certificate_pem);
    home.write("key.pem", &issued.key_pem);
}

#[test]
fn a_certificate_that_has_ended_is_told_and_replaced_without_a_restart() {
    let home = Home::new();
    write_certificate(&home, Duration::ZERO);
    let text = "listen = [\"ws://127.0.0.1:0\", \"wss://127.0.0.1:0\"]\n\
                [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    let file = home.write("d.toml", text);
    home.run(&["config", "check", "--config", &file])
        .ok()
        .says(&format!(
            "warning: {file}:3:1: tls.cert: the certificate for wss and quic ended at "
        ))
        .says("clients refuse it");
    let broker = Broker::new(home.start(&["broker", "--json", "--config", &file]));
    let told = broker
        .running
        .until("the certificate for wss and quic ended at ");
    assert!(told.contains("ERROR"), "{told}");

    write_certificate(&home, Duration::from_hours(20 * 24));
    broker.running.signal(rustix::process::Signal::HUP);
    broker.running.until("certificate replaced");
    let told = broker
        .running
        .until("the certificate for wss and quic ends in 19 days, at ");
    assert!(told.contains("WARN"), "{told}");
    let status = home
        .run(&["request", "--url", &broker.ws(), "sys.status", ""])
        .ok()
        .json();
    let ends = status["certificate_ends"].as_u64().map(Duration::from_secs);
    let left = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .abs_diff(ends.unwrap());
    assert!(left <= Duration::from_hours(20 * 24), "{status}");
    assert!(left > Duration::from_hours(19 * 24), "{status}");
}

#[test]
fn a_broker_without_a_certificate_says_so() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let status = home
        .run(&["request", "--url", &broker.ws(), "sys.status", ""])
        .ok()
        .json();
    assert_eq!(status["certificate_ends"], Value::Null);
}

#[test]
fn the_development_certificate_outlives_a_restart() {
    let home = Home::new();
    let first = home.up(&[]).fingerprint().to_owned();
    assert_eq!(home.up(&[]).fingerprint(), first);
    assert!(home.path().join(".local/share/dialtone").is_dir());
}

#[test]
fn an_invitation_says_what_to_try() {
    let home = Home::new();
    let up = home.start(&[
        "up",
        "--listen",
        "ws://127.0.0.1:0",
        "--monitor",
        "off",
        "--hub-listen",
        "127.0.0.1:0",
    ]);
    assert!(up.line().contains("is ready."));
    let lines: Vec<_> =
        std::iter::from_fn(|| Some(up.line()).filter(|line| !line.contains("Ctrl-C"))).collect();
    let sub = lines
        .iter()
        .find(|line| line.contains("dialtone sub --url ws://127.0.0.1:"))
        .unwrap();
    assert!(sub.ends_with("'greet.>'"), "{lines:?}");
}
