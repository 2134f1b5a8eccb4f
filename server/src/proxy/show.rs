//! A proxy's configuration as TOML for people: the sample, and what was resolved.

use super::projects::Site;
use super::settings::{FIELDS, Layer, Settings};
use crate::config::{append, enter};

const PROJECTS: &str = r#"
# Who may come: the SHA-256 hashes of tokens, made by `dialtone passwd --token`. A token is the value of one of the
# cookies above, or a key.
#[[user]]
#name = "ann"
#tokens = ["sha256:…"]

# Projects, and where their servers are. `ports` is a list or "all"; `public` lets everybody in: "read" or "write".
#[[project]]
#id = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f"
#address = "127.0.0.1"
#ports = [8080]
#servers = { jupyterlab = 8888 }
#raw = 8090
#files = "/home/ann"
#public = "no"
#readers = []
#writers = ["ann"]
"#;

/// A file with every setting at its default, commented out and explained.
pub(crate) fn sample() -> String {
    let mut out = String::from(
        "# Configuration of `dialtone proxy`.\n\
         # Every setting is shown with its default. Flags go before environment variables, those\n\
         # before this file. Check it with: dialtone config check --proxy --config FILE\n",
    );
    let defaults = Layer::default().resolve();
    let mut table = "";
    for (field, (value, _)) in FIELDS.iter().zip(defaults.shown()) {
        enter(&mut out, &mut table, field.table());
        append(
            &mut out,
            format_args!(
                "\n# {}\n# Flag --{}, environment {}.\n#{} = {value}\n",
                field.doc,
                field.flag(),
                field.env(),
                field.leaf()
            ),
        );
    }
    out.push_str(PROJECTS);
    out
}

/// Every setting with its value and its origin, and how many projects there are.
pub(crate) fn resolved(settings: &Settings, site: &Site) -> String {
    let (mut out, mut table) = (String::new(), "");
    for (field, (value, origin)) in FIELDS.iter().zip(settings.shown()) {
        enter(&mut out, &mut table, field.table());
        let line = format!("{} = {value}", field.leaf());
        append(&mut out, format_args!("{line:40}  # {origin}\n"));
    }
    let (projects, tokens) = site.counts();
    append(
        &mut out,
        format_args!("\n# projects: {projects}, tokens: {tokens}\n"),
    );
    out
}
