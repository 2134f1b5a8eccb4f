//! What a call brings, read one after the other. Pure.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::error::Error;

/// The arguments of a call; there may be more than a function reads, because clients add their own.
#[derive(Debug)]
pub(super) struct Arguments {
    values: std::vec::IntoIter<Json>,
    read: usize,
}

impl Arguments {
    pub(super) fn new(values: Vec<Json>) -> Self {
        Self {
            values: values.into_iter(),
            read: 0,
        }
    }

    /// The next one. One that is missing is read as nothing, which some types are.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let place = self.read;
        self.read += 1;
        let value = self.values.next().unwrap_or_default();
        let is_missing = value.is_null();
        serde_json::from_value(value).map_err(|error| {
            let place = format!("args[{place}]");
            if is_missing {
                Error::argument(place, "is missing")
            } else {
                Error::argument(place, error)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mistakes_are_named_by_their_place() {
        let mut arguments = Arguments::new(vec![json!("a"), json!(1)]);
        assert_eq!(arguments.next::<String>().unwrap(), "a");
        let error = arguments.next::<String>().unwrap_err();
        assert!(error.text.starts_with("args[1]: invalid type"), "{error}");
        assert_eq!(arguments.next::<Option<u8>>().unwrap(), None);
        let error = arguments.next::<u8>().unwrap_err();
        assert_eq!(error.text, "args[3]: is missing");
    }
}
