//! What an archive gives back: the log of a node that lost its disk, and a stream as it was.

use dialtone_testkit::s3::{REGION, S3};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Broker, Done, Home};

/// A place for an archive, and the flags that say where it is.
struct Site {
    home: Home,
    place: Vec<String>,
}

impl Site {
    fn folder() -> Self {
        let place = ["--persist-archive", "archive"];
        Self {
            home: Home::new(),
            place: place.map(str::to_owned).to_vec(),
        }
    }

    fn s3(server: &S3) -> Self {
        server.bucket("archive");
        let home = Home::new();
        let keys = home.write("archive.keys", "test\ntest\n");
        let endpoint = server.endpoint();
        let place = [
            "--persist-archive",
            "s3://archive/site/p1",
            "--persist-archive-endpoint",
            &endpoint,
            "--persist-archive-region",
            REGION,
            "--persist-archive-keys-file",
            &keys,
        ];
        Self {
            place: place.map(str::to_owned).to_vec(),
            home,
        }
    }

    fn with<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let place = self.place.iter().map(String::as_str);
        args.iter().copied().chain(place).collect()
    }

    /// A node with this data folder, which archives when it stops.
    fn up(&self, data: &str) -> Broker {
        let flags = ["--data", data, "--persist-archive-interval", "1h"];
        self.home.up(&self.with(&flags))
    }

    #[track_caller]
    fn stop(up: Broker) {
        up.running.signal(Signal::TERM);
        up.running.end().ok();
    }

    #[track_caller]
    fn append(&self, up: &Broker, text: &str) {
        let url = up.ws();
        let args = ["stream", "append", "notes", text, "--url", &url];
        self.home.run(&args).ok();
    }

    #[track_caller]
    fn lines(&self, up: &Broker, stream: &str) -> String {
        let url = up.ws();
        let args = ["stream", "read", stream, "--lines", "--url", &url];
        self.home.run(&args).ok().text()
    }

    fn archived(&self, args: &[&str]) -> Done {
        self.home.run(&self.with(args))
    }

    /// The states in the archive, the newest first.
    #[track_caller]
    fn points(&self) -> Vec<Value> {
        let text = self.archived(&["stream", "points", "--json"]).ok().text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// Two states in the archive: one record, and two. The time of the first.
    fn two_states(&self) -> String {
        let up = self.up("data");
        let url = up.ws();
        let add = ["stream", "add", "notes", "--max-msgs", "9", "--url", &url];
        self.home.run(&add).ok();
        self.append(&up, "one");
        Self::stop(up);
        let first = self.points()[0]["time"].as_str().unwrap().to_owned();
        let up = self.up("data");
        self.append(&up, "two");
        Self::stop(up);
        first
    }
}

fn goes_back(site: &Site) {
    let first = site.two_states();
    let points = site.points();
    let shown = site.archived(&["stream", "points"]).ok().text();
    assert_eq!(shown.lines().count(), 1 + points.len(), "{shown}");
    let one = ["stream", "points", "-n", "1", "--json"];
    assert_eq!(site.archived(&one).ok().json(), points[0]);

    let restore = ["stream", "restore", "--data", "new", "--json"];
    let restored = site.archived(&restore).ok().json();
    assert_eq!(restored["generation"], points[0]["generation"]);
    site.archived(&restore).exits(1).says("is not empty");
    let up = site.up("new");
    assert_eq!(site.lines(&up, "notes"), "one\ntwo\n");

    let url = up.ws();
    let copy = [
        "stream", "copy", "notes", "before", "--at", &first, "--url", &url,
    ];
    let text = site.archived(&copy).ok().text();
    assert!(
        text.starts_with("copied 1 record of notes to before, as of "),
        "{text}"
    );
    assert_eq!(site.lines(&up, "before"), "one\n");
    site.archived(&copy).exits(1).says("before");
    Site::stop(up);

    let earlier = ["stream", "restore", "--data", "old", "--at", &first];
    let text = site.archived(&earlier).ok().text();
    assert!(text.contains(&first), "{text}");
    // It goes on from there, and so does its archive.
    let up = site.up("old");
    assert_eq!(site.lines(&up, "notes"), "one\n");
    site.append(&up, "other");
    Site::stop(up);
    let newest = ["stream", "restore", "--data", "newest"];
    site.archived(&newest).ok();
    let up = site.up("newest");
    assert_eq!(site.lines(&up, "notes"), "one\nother\n");
    Site::stop(up);
}

#[test]
fn a_folder_gives_back_the_log_and_the_stream_of_a_time() {
    goes_back(&Site::folder());
}

#[test]
fn a_store_that_speaks_s3_gives_back_the_log_and_the_stream_of_a_time() {
    let server = S3::start();
    goes_back(&Site::s3(&server));
}

#[test]
fn a_stream_is_copied_as_it_is() {
    let home = Home::new();
    let up = home.up(&[]);
    let url = up.ws();
    let run = |args: &[&str]| home.run(&[args, &["--url", &url]].concat());
    run(&["stream", "add", "notes", "--max-age", "1h"]).ok();
    for text in ["one", "two", "three"] {
        run(&["stream", "append", "notes", text, "-k", text]).ok();
    }
    run(&["stream", "rm", "notes", "--seq", "3"]).ok();
    let copied = run(&["stream", "copy", "notes", "more/notes", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&copied["records"], &copied["last_seq"]),
        (&2.into(), &3.into())
    );
    let json = |stream: &str| {
        let text = run(&["stream", "read", stream, "--json"]).ok().text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    assert_eq!(json("notes"), json("more/notes"));
    let info = run(&["stream", "info", "more/notes", "--json"]).ok().json();
    assert_eq!(info["config"]["max_age"], 3_600_000, "{info}");
    assert_eq!(
        run(&["stream", "append", "more/notes", "four"]).ok().text(),
        "more/notes #4\n"
    );
}

#[test]
fn what_cannot_be_given_back_is_named() {
    let site = Site::folder();
    let home = &site.home;
    let nowhere = ["stream", "restore", "--data", "new"];
    home.run(&nowhere).exits(2).says("no archive is named");
    site.archived(&nowhere)
        .exits(1)
        .says("there is no archive in archive");
    std::fs::create_dir(home.path().join("archive")).unwrap();
    site.archived(&nowhere)
        .exits(1)
        .says("the archive is empty");
    site.archived(&["stream", "points"])
        .ok()
        .says("nothing was archived");
    let when = ["stream", "restore", "--at", "yesterday"];
    site.archived(&when).exits(2).says("2026-11-26T14:30:00Z");
    home.run(&["stream", "points", "--persist-archive", "ftp://x"])
        .exits(2)
        .says("ftp://x");

    site.two_states();
    let early = [
        "stream",
        "restore",
        "--data",
        "new",
        "--at",
        "1999-12-31T23:59:59Z",
    ];
    site.archived(&early).exits(1).says("nothing of that time");
    let up = site.up("data");
    let url = up.ws();
    let copy = |more: &[&str]| {
        let args = [&["stream", "copy"], more, &["--url", &url]].concat();
        site.archived(&args)
    };
    copy(&["absent", "x", "--at", "now"])
        .exits(1)
        .says("no stream absent at that time");
    copy(&["absent", "x"]).exits(1).says("absent");
    copy(&["notes", "a//b"]).exits(2).says("normalised path");
    copy(&["notes", "x", "--scratch", "/tmp"])
        .exits(2)
        .says("--at");
    copy(&["notes", "x", "--at", "now", "--scratch", "missing"])
        .exits(1)
        .says("missing");
    // Nothing of what failed is left.
    let streams = home
        .run(&["stream", "ls", "--json", "--url", &url])
        .ok()
        .json();
    assert_eq!(streams["stream"], "notes");
}
