//! Where texts from outside come from: the environment of the process, or a table in a test.

/// A set of named texts.
pub(crate) trait Strings {
    /// The text of this name; an empty one counts as absent.
    fn get(&self, name: &str) -> Option<String>;

    /// All names, sorted.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Environment;

impl Strings for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|text| !text.is_empty())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
impl Strings for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        Self::get(self, name)
            .filter(|text| !text.is_empty())
            .cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}
