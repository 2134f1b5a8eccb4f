//! What accounts and projects may have: the settings, and the file with quotas of some.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use dialtone_client::persist::Owner;
use dialtone_persist::{Quota, Quotas};
use serde::{Deserialize, Deserializer};

use crate::config::{Settings, Size};

/// What is said of one scope; what is missing has no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Entry {
    streams: u64,
    #[serde(deserialize_with = "size")]
    bytes: u64,
    msgs_per_second: u64,
    #[serde(deserialize_with = "size")]
    bytes_per_second: u64,
}

/// A number of bytes, or a text such as `10 GiB`.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a number of bytes, or a text such as \"10 GiB\""
    )]
    enum Bytes {
        Number(u64),
        Text(String),
    }
    match Bytes::deserialize(deserializer)? {
        Bytes::Number(bytes) => Ok(bytes),
        Bytes::Text(text) => {
            let size: Size = text.parse().map_err(serde::de::Error::custom)?;
            Ok(size.0)
        }
    }
}

/// The settings that [`quotas`] reads.
pub(crate) const QUOTA_KEYS: [&str; 5] = [
    "persist.quota_streams",
    "persist.quota_bytes",
    "persist.quota_msgs_per_second",
    "persist.quota_bytes_per_second",
    "persist.quotas_file",
];

/// What owners may have.
pub(crate) fn quotas(s: &Settings) -> anyhow::Result<Quotas> {
    let all = Quota {
        streams_max: s.persist_quota_streams.value,
        bytes_max: s.persist_quota_bytes.value.0,
        msgs_per_second_max: s.persist_quota_msgs_rate.value,
        bytes_per_second_max: s.persist_quota_bytes_rate.value.0,
    };
    let file = s.persist_quotas.value.as_deref();
    let by_scope = file.map(read).transpose()?.unwrap_or_default();
    Ok(Quotas { all, by_scope })
}

/// Reads the file: quotas by scope.
fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Quota>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<BTreeMap<String, Quota>> {
    let entries: BTreeMap<String, Entry> = toml::from_str(text)?;
    let quota = |(scope, entry): (String, Entry)| match Owner::from_scope(&scope) {
        Some(Owner::Account(_) | Owner::Project(_)) => {
            let quota = Quota {
                streams_max: entry.streams,
                bytes_max: entry.bytes,
                msgs_per_second_max: entry.msgs_per_second,
                bytes_per_second_max: entry.bytes_per_second,
            };
            Ok((scope, quota))
        }
        Some(Owner::Hub) => anyhow::bail!("the hub has no quota"),
        None => anyhow::bail!("{scope:?} is no scope: account-UUID and project-UUID are"),
    };
    entries.into_iter().map(quota).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "project-00000000-0000-4000-8000-000000000001";

    #[test]
    fn quotas_are_read() {
        let text = format!("[{PROJECT}]\nstreams = 7\nbytes = \"2 KiB\"\nbytes_per_second = 9\n");
        let quotas = parse(&text).unwrap();
        let expected = Quota {
            streams_max: 7,
            bytes_max: 2_048,
            msgs_per_second_max: 0,
            bytes_per_second_max: 9,
        };
        assert_eq!(quotas, BTreeMap::from([(PROJECT.to_owned(), expected)]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("[hub]\n", "the hub has no quota"),
            ("[project-7]\n", "project-7"),
            ("[x", "x"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        for (line, part) in [
            ("stream = 1", "stream"),
            ("bytes = \"many\"", "many"),
            ("bytes = true", "10 GiB"),
            ("streams = -1", "streams"),
        ] {
            let text = format!("[{PROJECT}]\n{line}\n");
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
