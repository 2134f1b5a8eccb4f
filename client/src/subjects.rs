//! Subjects that were checked recently, so that a steady flow checks and allocates each of them once.

use dialtone_protocol::{Subject, SubjectError};

/// How many subjects are remembered; a power of two.
const SLOTS: usize = 256;

/// A direct-mapped table: two subjects that share a slot push each other out, which costs time only.
#[derive(Debug)]
pub(crate) struct Checked {
    slots: Vec<Option<Subject>>,
    hasher: ahash::RandomState,
}

impl Checked {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            hasher: ahash::RandomState::new(),
        }
    }

    /// The subject of this text.
    ///
    /// # Errors
    /// When the text is not a concrete subject.
    #[inline]
    pub(crate) fn get(&mut self, text: &str) -> Result<&Subject, SubjectError> {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        let hash = self.hasher.hash_one(text);
        let at = usize::try_from(hash % SLOTS as u64).unwrap_or(0);
        let slot = self.slots.get_mut(at).expect("the table has every slot");
        let known = slot
            .as_ref()
            .is_some_and(|subject| subject.as_str() == text);
        if !known {
            *slot = Some(Subject::new(text)?);
        }
        Ok(slot.as_ref().expect("the slot was filled above"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_the_same_however_often_they_are_asked_for() {
        let mut checked = Checked::new();
        for round in 0..3 {
            for n in 0..1_000 {
                let text = format!("a.{n}");
                assert_eq!(checked.get(&text).unwrap().as_str(), text, "round {round}");
            }
        }
        assert_eq!(checked.get("a.*"), Err(SubjectError::Wildcard));
        assert_eq!(checked.get(""), Err(SubjectError::Empty));
    }
}
