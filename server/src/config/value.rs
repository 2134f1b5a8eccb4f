//! What a setting may be, and how it is read from a text and from TOML, and written as TOML.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dialtone_transport::Endpoint;
use toml::de::DeValue;

use super::Place;
use crate::discovery::{Link, Seed};

/// What a source says about a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// From flags and the environment. Flags may be repeated.
    Texts(&'a [String]),
    /// From a file in this folder, which relative paths start from.
    Toml(&'a DeValue<'a>, &'a Path),
}

/// A type that settings can have.
pub(crate) trait Value: Sized {
    /// What stands for the value in help texts.
    const NAME: &'static str;
    /// Whether a flag may be given several times.
    const LIST: bool = false;
    /// Whether a flag needs no value.
    const SWITCH: bool = false;

    /// Reads one text.
    fn from_text(text: &str) -> Result<Self, String>;

    /// The value as TOML.
    fn to_toml(&self) -> toml::Value;

    /// Reads what a source says; the default suits everything that can be written as one text.
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Texts(texts) => Self::from_text(texts.last().map_or("", String::as_str)),
            Raw::Toml(value, _) => Self::from_text(&scalar(value)?),
        }
    }
}

/// The text of a TOML value that is a string or a number.
fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().replace('_', "")),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => Err(format!(
            "expected a string or a number, found {}",
            kind(value)
        )),
    }
}

fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("expected a string, found {}", kind(value)))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl Value for String {
    const NAME: &'static str = "TEXT";

    fn from_text(text: &str) -> Result<Self, String> {
        const TEXT_LEN_MAX: usize = 4096;
        if text.len() > TEXT_LEN_MAX || text.chars().any(char::is_control) {
            return Err(format!(
                "must be at most {TEXT_LEN_MAX} bytes without control characters"
            ));
        }
        Ok(text.to_owned())
    }

    fn to_toml(&self) -> toml::Value {
        self.as_str().into()
    }

    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Texts(texts) => Self::from_text(texts.last().map_or("", Self::as_str)),
            Raw::Toml(value, _) => Self::from_text(text(value)?),
        }
    }
}

impl Value for bool {
    const NAME: &'static str = "BOOL";
    const SWITCH: Self = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            other => Err(format!("expected true or false, found {other:?}")),
        }
    }

    fn to_toml(&self) -> toml::Value {
        (*self).into()
    }

    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Texts(texts) => Self::from_text(texts.last().map_or("", String::as_str)),
            Raw::Toml(DeValue::Boolean(value), _) => Ok(*value),
            Raw::Toml(value, _) => Err(format!("expected true or false, found {}", kind(value))),
        }
    }
}

macro_rules! number {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const NAME: &'static str = "N";

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_error| {
                    format!("expected a whole number from 0 to {}, found {text:?}", Self::MAX)
                })
            }

            fn to_toml(&self) -> toml::Value {
                // TOML's numbers end at i64; what is larger is written as a text, which is read too.
                i64::try_from(*self).map_or_else(|_| self.to_string().into(), Into::into)
            }
        }
    )+};
}

number!(u16, u32, u64);

/// A number of bytes, such as `64 KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS
            .iter()
            .take(3)
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a number of bytes such as 65536, \"64 KiB\" or \"1 MiB\", found {text:?}"
            )
        };
        let found = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
        let (digits, unit) = found.unwrap_or((text, 1));
        let number: u64 = digits.trim().parse().map_err(|_error| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl Value for Size {
    const NAME: &'static str = "SIZE";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn to_toml(&self) -> toml::Value {
        match self.to_string().parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => self.to_string().into(),
        }
    }
}

/// A time such as `250ms`, `2s`, `1m30s` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// Longest unit name first where one begins with the other.
const TIMES: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a time such as 250ms, 2s, 1m30s or 1h, found {text:?}");
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let (mut rest, mut nanos) = (text, 0_u64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_error| wrong())?;
            let unit = TIMES
                .iter()
                .find_map(|(name, unit)| Some((after.strip_prefix(name)?, *unit)));
            let (after, unit) = unit.ok_or_else(wrong)?;
            nanos = number
                .checked_mul(unit)
                .and_then(|n| nanos.checked_add(n))
                .ok_or_else(wrong)?;
            rest = after;
        }
        if text.is_empty() {
            Err(wrong())
        } else {
            Ok(Self(Duration::from_nanos(nanos)))
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let unit = [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
        ];
        match unit
            .iter()
            .find(|(_, unit)| nanos >= *unit && nanos.is_multiple_of(*unit))
        {
            Some((name, unit)) => write!(f, "{}{name}", nanos / unit),
            None => write!(f, "{}us", nanos / 1_000),
        }
    }
}

impl Value for Span {
    const NAME: &'static str = "TIME";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn to_toml(&self) -> toml::Value {
        self.to_string().into()
    }

    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Texts(texts) => Self::from_text(texts.last().map_or("", String::as_str)),
            Raw::Toml(value, _) => Self::from_text(text(value)?),
        }
    }
}

impl Value for Endpoint {
    const NAME: &'static str = "URL";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: dialtone_transport::EndpointError| error.to_string())
    }

    fn to_toml(&self) -> toml::Value {
        self.to_string().into()
    }
}

macro_rules! parsed {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const NAME: &'static str = "URL";

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse()
            }

            fn to_toml(&self) -> toml::Value {
                self.to_string().into()
            }
        }
    )+};
}

parsed!(Link, Seed, Place);

impl Value for SocketAddr {
    const NAME: &'static str = "ADDRESS";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_error| format!("expected IP:PORT such as 127.0.0.1:4490, found {text:?}"))
    }

    fn to_toml(&self) -> toml::Value {
        self.to_string().into()
    }
}

impl Value for PathBuf {
    const NAME: &'static str = "PATH";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("expected a path, found nothing".to_owned())
        } else {
            Ok(text.into())
        }
    }

    fn to_toml(&self) -> toml::Value {
        self.to_string_lossy().into_owned().into()
    }

    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Texts(texts) => Self::from_text(texts.last().map_or("", String::as_str)),
            Raw::Toml(value, base) => Self::from_text(text(value)?).map(|path| base.join(path)),
        }
    }
}

/// Something that can be absent: an empty text or `off` turns it off.
impl<T: Value> Value for Option<T> {
    const NAME: &'static str = T::NAME;

    fn from_text(text: &str) -> Result<Self, String> {
        if matches!(text, "" | "off") {
            Ok(None)
        } else {
            T::from_text(text).map(Some)
        }
    }

    fn to_toml(&self) -> toml::Value {
        self.as_ref().map_or_else(|| "".into(), T::to_toml)
    }

    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let off = match raw {
            Raw::Texts(texts) => texts
                .last()
                .is_none_or(|text| matches!(text.as_str(), "" | "off")),
            Raw::Toml(value, _) => matches!(value.as_str(), Some("" | "off")),
        };
        if off {
            Ok(None)
        } else {
            T::read(raw).map(Some)
        }
    }
}

/// Most entries of a list.
const LIST_LEN_MAX: usize = 256;

/// A list: repeated flags, a text with commas, or a TOML array.
impl<T: Value> Value for Vec<T> {
    const NAME: &'static str = T::NAME;
    const LIST: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(T::from_text)
            .collect()
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::Array(self.iter().map(T::to_toml).collect())
    }

    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let mut list = Self::new();
        match raw {
            Raw::Texts(texts) => {
                for text in texts {
                    list.extend(Self::from_text(text)?);
                }
            }
            Raw::Toml(DeValue::Array(items), base) => {
                for item in items {
                    list.push(T::read(Raw::Toml(item.get_ref(), base))?);
                }
            }
            Raw::Toml(value, _) => return Err(format!("expected a list, found {}", kind(value))),
        }
        if list.len() > LIST_LEN_MAX {
            return Err(format!(
                "has {} entries, more than {LIST_LEN_MAX}",
                list.len()
            ));
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("65536", 65_536, "64 KiB"),
            ("64 KiB", 65_536, "64 KiB"),
            ("1MB", 1_000_000, "1000000"),
            ("3GiB", 3 << 30, "3 GiB"),
            ("17B", 17, "17"),
            ("0", 0, "0"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(
                (size.0, size.to_string().as_str()),
                (bytes, shown),
                "{text}"
            );
        }
        for text in ["", "KiB", "-1", "1.5 MiB", "99999999999 GiB", "1 XB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_and_shown() {
        for (text, millis, shown) in [
            ("250ms", 250, "250ms"),
            ("1m30s", 90_000, "90s"),
            ("2h", 7_200_000, "2h"),
            ("7d", 604_800_000, "168h"),
            ("0", 0, "0us"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), shown);
        }
        for text in ["", "5", "s", "1.5s", "-1s", "1w", "99999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
