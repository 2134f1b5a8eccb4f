//! What clients do with files by one request each. All of it blocks.

mod list;
pub(crate) use list::list;

mod replace;
pub(crate) use replace::Replacement;

mod text;
pub(crate) use text::{read_text, write_text};

mod change;
pub(crate) use change::{delete, move_into, rename};
