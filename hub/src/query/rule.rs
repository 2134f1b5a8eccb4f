//! What may be read and written of a table: data, to be reviewed line by line.

use std::time::Duration;

/// A table as clients see it. Several may show the same one with different rights.
#[derive(Debug)]
pub struct Table {
    /// What clients call it.
    pub name: &'static str,
    /// What the store calls it.
    pub real: &'static str,
    /// What is read instead, where reading needs what several tables have: it has the same columns, and more.
    pub view: Option<&'static str>,
    /// The columns of its primary key.
    pub key: &'static [&'static str],
    /// Its fields. Others do not exist.
    pub fields: &'static [Field],
    /// Who may read which of its rows; nobody without it.
    pub get: Option<Get>,
    /// Who may write which of its rows; nobody without it.
    pub set: Option<Set>,
}

/// A field of a table.
#[derive(Debug)]
pub struct Field {
    /// What clients call it.
    pub name: &'static str,
    /// What its column is called.
    pub column: &'static str,
    /// What is in it.
    pub kind: Kind,
    /// Whether it may be read, and so named in filters and orders.
    pub read: bool,
    /// Whether and how it may be written.
    pub write: Write,
}

/// What is in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An identifier.
    Uuid,
    /// Text of at most so many bytes.
    Text(usize),
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// A point in time.
    Time,
    /// Anything that takes at most so many bytes as JSON.
    Json(usize),
    /// Something that is put together from other tables. It is neither filtered nor ordered by.
    Derived(Derived),
}

/// What is put together from other tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derived {
    /// The members of a project with their groups, by account.
    ProjectUsers,
    /// When each member of a project was last active, by account.
    ProjectLastActive,
    /// What other sites that vouch for an account have said about somebody, by way to sign in and what it calls them,
    /// with a `-` between.
    AccountPassports,
}

/// Whether and how a field may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It may not.
    No,
    /// Any value of its kind.
    Value,
    /// It names a row and is not changed.
    Key,
    /// The project of the row, which must be given, and of which the caller must be a member.
    Project,
    /// The caller's account, whatever is given.
    Account,
    /// The same, when the row is made, and never changed; in a list, the caller's account alone.
    Maker,
    /// The time of the database, whatever is given.
    Now,
    /// The same, when the row is made, and never changed.
    Created,
    /// The value of a setting of the site, which must fit the setting in the field `name`.
    Setting,
    /// The SHA-1 of project and path, whatever is given; it must come after both.
    PathHash,
    /// The caller's own entry among the members of a project: whether it is hidden there.
    OwnMembership,
    /// Text that begins with this.
    Prefixed(&'static str),
    /// It names a row and is a secret, so that it is long.
    SecretKey,
    /// A name by which an account is known in addresses of pages.
    Username,
    /// A time that is at least so far away: an earlier one becomes that.
    NotBefore(Duration),
    /// JSON that is merged into what is there: fields that are null are removed.
    Merge,
}

/// Who may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Accounts.
    Account,
    /// Accounts and projects.
    AccountOrProject,
    /// Projects.
    Project,
    /// Administrators of the site.
    Admin,
}

/// A constant value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constant {
    /// True or false.
    Bool(bool),
}

/// Which rows. Several hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// This column is the caller's account.
    Own(&'static str),
    /// This column is a project of which the caller is a member, or which the caller is.
    Member(&'static str),
    /// This column is a list of accounts in which the caller's is.
    Listed(&'static str),
    /// This column is an account that shares a project with the caller, or is the caller's.
    SharesProject(&'static str),
    /// The query names this column with one value, or with a list of them.
    Named(&'static str),
    /// This column is not longer ago.
    Within(&'static str, Duration),
    /// This column has this value.
    Is(&'static str, Constant),
    /// This column is none of these texts.
    NoneOf(&'static str, &'static [&'static str]),
}

/// Reading a table.
#[derive(Debug)]
pub struct Get {
    /// Who may.
    pub who: Who,
    /// Which rows.
    pub rows: &'static [Rows],
    /// How many rows, if the query says nothing.
    pub limit: u32,
    /// In which order, if the query says nothing: a column, `-` before it for the highest first.
    pub order: Option<&'static str>,
}

/// Writing a table.
#[derive(Debug)]
pub struct Set {
    /// Who may.
    pub who: Who,
    /// Which rows, as they are before.
    pub rows: &'static [Rows],
    /// Whether rows may be made.
    pub insert: bool,
    /// Whether rows that are there may be changed.
    pub update: bool,
    /// Whether rows may be deleted.
    pub delete: bool,
    /// Whether the caller must be an owner of the project, and not only a member.
    pub owner: bool,
}

impl Table {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field of this name, if it may be read.
    pub fn readable(&self, name: &str) -> Option<&'static Field> {
        self.field(name).filter(|field| field.read)
    }
}

impl Table {
    /// Whether its rows have anything that is written beside what names them.
    pub(crate) fn has_values(&self) -> bool {
        self.fields.iter().any(|field| match field.write {
            Write::Value
            | Write::Maker
            | Write::Setting
            | Write::OwnMembership
            | Write::Prefixed(_)
            | Write::Username
            | Write::NotBefore(_)
            | Write::Merge => true,
            Write::No
            | Write::Key
            | Write::Project
            | Write::Account
            | Write::Now
            | Write::Created
            | Write::PathHash
            | Write::SecretKey => false,
        })
    }

    /// What its rows are read from.
    pub(crate) fn read_from(&self) -> &'static str {
        self.view.unwrap_or(self.real)
    }
}

impl Field {
    /// One that may be written and is not shown to anybody.
    pub(super) const fn hidden(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            column: name,
            kind,
            read: false,
            write: Write::Value,
        }
    }

    /// One that may be read.
    pub(super) const fn read(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            column: name,
            kind,
            read: true,
            write: Write::No,
        }
    }

    /// One that may be read and written.
    pub(super) const fn both(name: &'static str, kind: Kind, write: Write) -> Self {
        Self {
            name,
            column: name,
            kind,
            read: true,
            write,
        }
    }

    /// With another name for its column.
    pub(super) const fn column(mut self, column: &'static str) -> Self {
        self.column = column;
        self
    }
}
