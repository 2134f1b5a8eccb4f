//! Streams, keys and objects, against a real `dialtone up`.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Broker, Done, Home};

/// A home with `dialtone up` in it, and its URL.
struct Place {
    home: Home,
    up: Broker,
    url: String,
}

impl Place {
    fn new() -> Self {
        let home = Home::new();
        let up = home.up(&[]);
        let url = up.ws();
        Self { home, up, url }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [args, &["--url", &self.url]].concat()
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Done {
        self.home.run(&self.args(args))
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok().text()
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        self.run(&[args, &["--json"]].concat()).ok().json()
    }
}

#[test]
fn records_are_appended_read_and_removed() {
    let place = Place::new();
    place
        .run(&["stream", "ls"])
        .ok()
        .says("there are no streams");
    place.ok(&["stream", "add", "notes", "--description", "what to buy"]);
    place
        .run(&["stream", "add", "notes"])
        .exits(1)
        .says("notes");
    place.ok(&["stream", "add", "notes", "--exist-ok"]);
    assert_eq!(
        place.ok(&["stream", "append", "notes", "milk"]),
        "notes #1\n"
    );
    let first = place.json(&[
        "stream", "append", "notes", "[1,2]", "--id", "x", "--header", "n=1",
    ]);
    let again = place.json(&["stream", "append", "notes", "[1,2]", "--id", "x"]);
    assert_eq!(
        (&first["seq"], &first["duplicate"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(
        (&again["seq"], &again["duplicate"]),
        (&json!(2), &json!(true))
    );
    place
        .run(&["stream", "append", "notes", "late", "--if-last-seq", "1"])
        .exits(1);
    assert_eq!(
        place.ok(&["stream", "read", "notes", "--lines"]),
        "milk\n[1,2]\n"
    );
    let second = place.json(&["stream", "read", "notes", "--from", "2"]);
    assert_eq!(second["payload"], json!([1, 2]));
    assert_eq!(second["headers"], json!({"n": 1}));
    let shown = place.ok(&["stream", "read", "notes", "--count", "1"]);
    assert!(
        shown.starts_with("#1  ") && shown.ends_with("\nmilk\n"),
        "{shown}"
    );
    place.ok(&["stream", "rm", "notes", "--seq", "1"]);
    let info = place.json(&["stream", "info", "notes"]);
    assert_eq!(
        (&info["messages"], &info["first_seq"]),
        (&json!(1), &json!(2))
    );
    place.ok(&[
        "stream",
        "edit",
        "notes",
        "--max-msgs",
        "1",
        "--discard",
        "new",
    ]);
    place.run(&["stream", "append", "notes", "more"]).exits(1);
    assert!(place.ok(&["stream", "ls"]).contains("what to buy"));
    assert!(place.ok(&["stream", "verify", "notes"]).contains("sound"));
    let all = place.ok(&["stream", "verify"]);
    assert!(all.contains("notes: ") && all.contains("sound"), "{all}");
    assert!(place.ok(&["stream", "nodes"]).contains("up"));
    place.ok(&["stream", "rm", "notes"]);
    place
        .run(&["stream", "info", "notes"])
        .exits(1)
        .says("stream ls");
    place.run(&["stream", "add", "a//b"]).exits(2);
    place.run(&["stream", "ls", "--scope", "nobody"]).exits(2);
}

#[test]
fn lines_are_appended_once_and_survive_a_killed_service() {
    let place = Place::new();
    place.ok(&["stream", "add", "log", "--duplicate-window", "1h"]);
    let lines: String = (0..25_000).fold(String::new(), |all, n| {
        all + "line " + &n.to_string() + "\n"
    });
    let lines = lines + "{\"a\": 1}\n\nlast without newline";
    let file = place.home.write("log.txt", &lines);
    let append = [
        "stream", "append", "log", "--lines", "--file", &file, "--id", "a",
    ];
    let report = place.json(&append);
    assert_eq!(
        (&report["appended"], &report["last_seq"]),
        (&json!(25_003), &json!(25_003))
    );
    place.up.running.signal(Signal::KILL);
    let Place { home, up, .. } = place;
    up.running.end();
    let up = home.up(&[]);
    let url = up.ws();
    let place = Place { home, up, url };
    assert_eq!(
        place.ok(&["stream", "read", "log", "--lines"]),
        lines + "\n"
    );
    let report = place.json(&append);
    assert_eq!(
        (&report["appended"], &report["duplicates"]),
        (&json!(0), &json!(25_003))
    );
    let input = b"one\ntwo\n";
    let done = place.home.run_with(
        &place.args(&["stream", "append", "log", "-", "--lines"]),
        input,
    );
    assert_eq!(
        done.ok().text(),
        "2 lines appended to log, #25004 to #25005\n"
    );
}

#[test]
fn a_tail_tells_what_comes_and_goes() {
    let place = Place::new();
    place.ok(&["stream", "add", "s"]);
    place.ok(&["stream", "append", "s", "before", "--record-key", "k"]);
    let tail = place
        .home
        .start(&place.args(&["stream", "tail", "s", "--json", "--count", "2"]));
    tail.until("following s");
    place.ok(&["stream", "append", "s", "1", "--record-key", "k"]);
    place.ok(&["stream", "rm", "s", "--record-key", "k"]);
    place.ok(&["stream", "append", "s", "2"]);
    assert_eq!(tail.json()["payload"], json!(1));
    let removed = tail.json();
    assert_eq!(
        (&removed["cause"], &removed["keys"]),
        (&json!("removed"), &json!([{"key": "k", "seq": 2}]))
    );
    assert_eq!(tail.json()["payload"], json!(2));
    tail.end().ok();
}

#[test]
fn consumers_share_the_work() {
    let place = Place::new();
    place.ok(&["stream", "add", "jobs"]);
    place.ok(&["stream", "consumer", "add", "jobs", "w", "--ack-wait", "1h"]);
    for job in ["a", "b"] {
        place.ok(&["stream", "append", "jobs", job]);
    }
    let next = ["stream", "consumer", "next", "jobs", "w", "--lines"];
    assert_eq!(place.ok(&[&next[..], &["--no-ack"]].concat()), "a\n");
    assert_eq!(place.ok(&next), "b\n");
    place.run(&next).exits(5);
    let info = place.json(&["stream", "consumer", "info", "jobs", "w"]);
    assert_eq!(info["ack_pending"], json!(1));
    assert!(
        place
            .ok(&["stream", "consumer", "ls", "jobs"])
            .contains('w')
    );
    place.ok(&["stream", "consumer", "rm", "jobs", "w"]);
    place
        .run(&["stream", "consumer", "rm", "jobs", "w"])
        .exits(1);
}

#[test]
fn a_stream_travels_as_a_file_and_damage_is_refused() {
    let place = Place::new();
    place.ok(&["stream", "add", "s", "--max-age", "30d"]);
    for text in ["a", "b", "c"] {
        place.ok(&["stream", "append", "s", text, "--record-key", text]);
    }
    place.ok(&["stream", "rm", "s", "--seq", "3"]);
    place.ok(&["stream", "export", "s", "s.dts"]);
    place
        .run(&["stream", "export", "s", "s.dts"])
        .exits(2)
        .says("--force");
    place.ok(&["stream", "import", "copy", "s.dts"]);
    let both = ["s", "copy"].map(|name| place.ok(&["stream", "read", name, "--json"]));
    assert_eq!(both[0], both[1]);
    assert_eq!(place.ok(&["stream", "append", "copy", "d"]), "copy #4\n");
    let path = place.home.path().join("s.dts");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() - 60;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    place
        .run(&["stream", "import", "bad", "s.dts"])
        .exits(1)
        .says("the file is damaged at byte");
    place.run(&["stream", "info", "bad"]).exits(1);
    let none = place.home.write("none.dts", "hello");
    place.run(&["stream", "import", "bad", &none]).exits(2);
}

#[test]
fn keys_are_put_watched_and_deleted() {
    let place = Place::new();
    let put = place.ok(&["kv", "put", "settings", "theme", "dark", "--history", "5"]);
    assert_eq!(put, "settings #1\n");
    let watch = place
        .home
        .start(&place.args(&["kv", "watch", "settings", "--count", "3"]));
    assert_eq!(watch.line(), "theme = \"dark\"");
    place.ok(&["kv", "put", "settings", "theme", "light"]);
    assert_eq!(watch.line(), "theme = \"light\"");
    assert_eq!(place.ok(&["kv", "get", "settings", "theme"]), "light\n");
    place
        .run(&["kv", "put", "settings", "theme", "x", "--create"])
        .exits(1);
    place
        .run(&["kv", "put", "settings", "theme", "x", "--if-seq", "1"])
        .exits(1);
    place.ok(&["kv", "put", "settings", "size", "{\"w\":1}", "--create"]);
    assert_eq!(watch.line(), "size = {\"w\":1}");
    watch.end().ok();
    assert_eq!(place.ok(&["kv", "ls", "settings"]), "size\ntheme\n");
    assert_eq!(
        place.ok(&["kv", "rm", "settings", "theme", "none"]),
        "1 key deleted\n"
    );
    place
        .run(&["kv", "get", "settings", "theme"])
        .exits(1)
        .says("kv ls");
    assert_eq!(place.ok(&["kv", "ls", "settings"]), "size\n");
    let history = place.ok(&["kv", "history", "settings", "theme", "--json"]);
    assert_eq!(history.lines().count(), 3, "{history}");
    place.ok(&["kv", "put", "settings", "theme", "again", "--create"]);
    place.ok(&["kv", "rm", "settings", "theme", "--purge"]);
    assert_eq!(place.ok(&["kv", "history", "settings", "theme"]), "");
    place.run(&["kv", "rm", "no-store", "a"]).exits(1);
}

#[test]
fn objects_go_up_and_down() {
    let place = Place::new();
    let bytes: Vec<u8> = (0..3_500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::fs::write(place.home.path().join("film.bin"), &bytes).unwrap();
    let put = place.json(&[
        "object",
        "put",
        "films",
        "film.bin",
        "--header",
        "year=1999",
    ]);
    assert_eq!(
        (&put["size"], &put["chunks"]),
        (&json!(3_500_000), &json!(4))
    );
    assert_eq!(put["metadata"], json!({"year": 1999}));
    place
        .run(&["object", "get", "films", "film.bin"])
        .exits(2)
        .says("--force");
    place.ok(&["object", "get", "films", "film.bin", "--output", "copy.bin"]);
    assert_eq!(
        std::fs::read(place.home.path().join("copy.bin")).unwrap(),
        bytes
    );
    let range = [
        "object",
        "get",
        "films",
        "film.bin",
        "-o",
        "-",
        "--range",
        "1048570..1048590",
    ];
    assert_eq!(place.run(&range).ok().stdout, bytes[1_048_570..1_048_590]);
    assert!(place.ok(&["object", "ls", "films"]).contains("film.bin"));
    place.home.write("film.bin", "another film");
    place.ok(&["object", "put", "films", "film.bin"]);
    place.ok(&["object", "get", "films", "film.bin", "--force"]);
    let info = place.json(&["object", "info", "films", "film.bin"]);
    assert_eq!(info["size"], json!(12));
    place.ok(&["object", "rm", "films", "film.bin"]);
    place.run(&["object", "rm", "films", "film.bin"]).exits(1);
    let stream = place.json(&["stream", "info", "films"]);
    assert_eq!(stream["messages"], json!(0), "no chunk remains");
}

#[test]
fn without_the_service_the_shell_is_told_at_once() {
    let home = Home::new();
    let broker = home.broker(&[]);
    home.run(&["stream", "ls", "--url", &broker.ws()])
        .exits(4)
        .says("dialtone up");
}
