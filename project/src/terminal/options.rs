//! What a viewer says about the program that is to run. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::Error;

/// Most rows and columns.
const SIDE_MAX: u16 = 1000;

/// Most arguments and variables of the program.
const WORDS_MAX: usize = 1000;

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) cols: u16,
}

impl Size {
    /// What terminals have had since there were screens.
    pub(crate) const USUAL: Self = Self { rows: 24, cols: 80 };

    /// Within what programs cope with.
    pub(crate) fn bounded(self) -> Self {
        Self {
            rows: self.rows.clamp(1, SIDE_MAX),
            cols: self.cols.clamp(1, SIDE_MAX),
        }
    }

    /// What everybody sees whole.
    pub(crate) fn smallest(sizes: impl Iterator<Item = Self>) -> Option<Self> {
        sizes.reduce(|a, b| Self {
            rows: a.rows.min(b.rows),
            cols: a.cols.min(b.cols),
        })
    }
}

/// The program and its surroundings, in the fields that clients know; what else they say is ignored.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Options {
    rows: Option<u16>,
    cols: Option<u16>,
    /// The shell, where none is named.
    pub(crate) command: Option<String>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// The folder of the terminal's path, where none is named.
    pub(crate) cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, Json>,
}

impl Options {
    /// Checks what does not depend on the machine.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.args.len() > WORDS_MAX || self.env.len() > WORDS_MAX {
            return Err(Error::argument("args", format!("more than {WORDS_MAX}")));
        }
        let words = self.command.iter().chain(&self.args);
        if words.into_iter().any(|word| word.contains('\0')) {
            return Err(Error::argument("command", "contains a zero byte"));
        }
        Ok(())
    }

    /// How large the viewer's window is, if it says so.
    pub(crate) fn size(&self) -> Option<Size> {
        let usual = Size::USUAL;
        (self.rows.is_some() || self.cols.is_some()).then(|| {
            let (rows, cols) = (
                self.rows.unwrap_or(usual.rows),
                self.cols.unwrap_or(usual.cols),
            );
            Size { rows, cols }.bounded()
        })
    }

    /// The variables that are texts or numbers, and can be variables.
    pub(crate) fn environment(&self) -> BTreeMap<&str, String> {
        let text = |value: &Json| match value {
            Json::String(text) => Some(text.clone()),
            Json::Number(number) => Some(number.to_string()),
            Json::Bool(flag) => Some(flag.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        };
        let pair = |(name, value): (&'_ String, &Json)| {
            let value = text(value).filter(|value| !value.contains('\0'))?;
            (!name.is_empty() && !name.contains(['=', '\0'])).then(|| (name.clone(), value))
        };
        let mut found = BTreeMap::new();
        for entry in &self.env {
            if let Some((_, value)) = pair(entry) {
                found.insert(entry.0.as_str(), value);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_those_that_everybody_sees() {
        let options: Options = serde_json::from_value(json!({"rows": 0, "cols": 5000})).unwrap();
        assert_eq!(
            options.size(),
            Some(Size {
                rows: 1,
                cols: SIDE_MAX
            })
        );
        assert_eq!(Options::default().size(), None);
        let sizes = [
            Size { rows: 50, cols: 80 },
            Size {
                rows: 30,
                cols: 120,
            },
        ];
        assert_eq!(
            Size::smallest(sizes.into_iter()),
            Some(Size { rows: 30, cols: 80 })
        );
        assert_eq!(Size::smallest(std::iter::empty()), None);
    }

    #[test]
    fn variables_are_texts() {
        let options = json!({"env": {"A": "a", "B": 1, "C": null, "D=": "x", "E": "\u{0}"}});
        let options: Options = serde_json::from_value(options).unwrap();
        let found: Vec<_> = options.environment().into_iter().collect();
        assert_eq!(found, [("A", "a".to_owned()), ("B", "1".to_owned())]);
    }
}
