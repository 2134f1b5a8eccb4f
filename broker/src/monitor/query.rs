//! What can be asked of `/connz` and `/subsz`: which entries, in which order, how many.

use std::borrow::Cow;
use std::cmp::Reverse;

use dialtone_protocol::{Subject, subject};

use crate::status::{ConnectionStatus, SubscriptionStatus};

/// Entries of a page when the question does not say.
pub const LIMIT_DEFAULT: usize = 256;

/// Most entries of a page.
pub const LIMIT_MAX: usize = 1_024;

/// Which connections, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionQuery {
    /// Entries to skip.
    pub offset: usize,
    /// Most entries to return; 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// What comes first.
    pub sort: ConnectionSort,
    /// Only those of this principal.
    pub identity: Option<String>,
}

/// What comes first in a list of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConnectionSort {
    /// The lowest number, which is the oldest connection.
    #[default]
    Id,
    /// Most bytes waiting in the outbox.
    Pending,
    /// Most messages received from it.
    MessagesIn,
    /// Most deliveries to it.
    MessagesOut,
    /// Most subscriptions.
    Subscriptions,
}

/// Which subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionQuery {
    /// Entries to skip.
    pub offset: usize,
    /// Most entries to return; 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// Only those whose pattern matches this subject.
    pub subject: Option<Subject>,
    /// Only those of this principal's connections.
    pub identity: Option<String>,
    /// Only those of the connection with this number.
    pub connection: Option<u64>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Entries that were skipped.
    pub offset: usize,
    /// Most entries that were asked for.
    pub limit: usize,
    /// Entries that there are, on this page or not.
    pub total: usize,
    /// Those on this page.
    pub items: Vec<T>,
}

/// Cuts a page out of a list that goes by, without keeping or making the other entries.
#[derive(Debug)]
pub struct Window<T> {
    page: Page<T>,
}

impl<T> Window<T> {
    /// For `limit` entries after the first `offset`; more than [`LIMIT_MAX`] is taken as that.
    pub fn new(offset: usize, limit: usize) -> Self {
        Self {
            page: Page {
                offset,
                limit: limit.min(LIMIT_MAX),
                total: 0,
                items: Vec::new(),
            },
        }
    }

    /// Counts the next entry, and makes it if it is on the page.
    pub fn offer(&mut self, make: impl FnOnce() -> T) {
        let page = &mut self.page;
        if page.total >= page.offset && page.items.len() < page.limit {
            page.items.push(make());
        }
        page.total += 1;
    }

    /// The page.
    pub fn finish(self) -> Page<T> {
        self.page
    }
}

impl ConnectionQuery {
    /// Whether a principal's connections are asked for.
    pub fn selects(&self, identity: &str) -> bool {
        self.identity
            .as_deref()
            .is_none_or(|wanted| wanted == identity)
    }

    /// Filters, sorts and cuts. Equal entries are ordered by their number.
    pub fn page(
        &self,
        connections: impl IntoIterator<Item = ConnectionStatus>,
    ) -> Page<ConnectionStatus> {
        let mut selected: Vec<_> = connections
            .into_iter()
            .filter(|one| self.selects(&one.identity))
            .collect();
        selected.sort_unstable_by_key(|one| (Reverse(self.sort.key(one)), one.id));
        let mut window = Window::new(self.offset, self.limit);
        for one in selected {
            window.offer(|| one);
        }
        window.finish()
    }

    pub(super) fn parse(params: &Params<'_>) -> Result<Self, BadQuery> {
        Ok(Self {
            offset: params.offset()?,
            limit: params.limit()?,
            sort: params
                .get("sort")
                .map(ConnectionSort::parse)
                .transpose()?
                .unwrap_or_default(),
            identity: params.get("identity").map(ToOwned::to_owned),
        })
    }
}

impl Default for ConnectionQuery {
    fn default() -> Self {
        Self {
            offset: 0,
            limit: LIMIT_DEFAULT,
            sort: ConnectionSort::Id,
            identity: None,
        }
    }
}

impl ConnectionSort {
    const NAMES: [(&str, Self); 5] = [
        ("id", Self::Id),
        ("pending", Self::Pending),
        ("messages_in", Self::MessagesIn),
        ("messages_out", Self::MessagesOut),
        ("subscriptions", Self::Subscriptions),
    ];

    /// Higher keys come first.
    fn key(self, one: &ConnectionStatus) -> u64 {
        match self {
            Self::Id => 0,
            Self::Pending => one.pending_bytes,
            Self::MessagesIn => one.messages_in,
            Self::MessagesOut => one.messages_out,
            Self::Subscriptions => one.subscriptions,
        }
    }

    fn parse(text: &str) -> Result<Self, BadQuery> {
        let known = Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, sort)| *sort);
        known.ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name).join(", ");
            BadQuery::new("sort", format!("must be one of {names}"))
        })
    }
}

impl SubscriptionQuery {
    /// Whether subscriptions of a connection are asked for.
    pub fn selects_connection(&self, id: u64, identity: &str) -> bool {
        self.connection.is_none_or(|wanted| wanted == id)
            && self
                .identity
                .as_deref()
                .is_none_or(|wanted| wanted == identity)
    }

    /// Whether subscriptions to a checked pattern are asked for.
    pub fn selects_pattern(&self, pattern: &str) -> bool {
        self.subject
            .as_ref()
            .is_none_or(|wanted| subject::matches(pattern, wanted.as_str()))
    }

    /// A window to offer the selected subscriptions to.
    pub fn window(&self) -> Window<SubscriptionStatus> {
        Window::new(self.offset, self.limit)
    }

    pub(super) fn parse(params: &Params<'_>) -> Result<Self, BadQuery> {
        let subject = params.get("match").map(Subject::new).transpose();
        Ok(Self {
            offset: params.offset()?,
            limit: params.limit()?,
            subject: subject
                .map_err(|error| BadQuery::new("match", format!("is not a subject: {error}")))?,
            identity: params.get("identity").map(ToOwned::to_owned),
            connection: params.number("connection")?,
        })
    }
}

impl Default for SubscriptionQuery {
    fn default() -> Self {
        Self {
            offset: 0,
            limit: LIMIT_DEFAULT,
            subject: None,
            identity: None,
            connection: None,
        }
    }
}

/// A parameter that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter {name:?} {text}")]
pub struct BadQuery {
    /// Which.
    pub name: String,
    /// What is wrong with it, for people.
    pub text: String,
}

impl BadQuery {
    fn new(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            text: text.into(),
        }
    }
}

/// The parameters of a question; each at most once, and none that is not known. Their number and
/// length are bounded with the request's head.
#[derive(Debug)]
pub(super) struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    /// Decodes what stands behind the question mark. `pretty` is known everywhere.
    pub(super) fn parse(query: Option<&'a str>, known: &[&str]) -> Result<Self, BadQuery> {
        let mut params: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if name != "pretty" && !known.contains(&&*name) {
                let names = [known, &["pretty"]].concat().join(", ");
                return Err(BadQuery::new(
                    &name,
                    format!("is not known here; known are {names}"),
                ));
            }
            if params.iter().any(|(other, _)| *other == name) {
                return Err(BadQuery::new(&name, "is given twice"));
            }
            params.push((name, value));
        }
        Ok(Self(params))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| &**value)
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, BadQuery> {
        let number = self.get(name).map(|text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit()).then_some(text);
            digits.and_then(|digits| digits.parse().ok())
        });
        number
            .map(|number| number.ok_or_else(|| BadQuery::new(name, "must be a whole number")))
            .transpose()
    }

    fn offset(&self) -> Result<usize, BadQuery> {
        Ok(self.number("offset")?.unwrap_or(0))
    }

    fn limit(&self) -> Result<usize, BadQuery> {
        let limit = self.number("limit")?.unwrap_or(LIMIT_DEFAULT);
        let within = (1..=LIMIT_MAX).contains(&limit);
        if within {
            Ok(limit)
        } else {
            Err(BadQuery::new(
                "limit",
                format!("must be from 1 to {LIMIT_MAX}"),
            ))
        }
    }

    /// Whether JSON should be indented.
    pub(super) fn pretty(&self) -> Result<bool, BadQuery> {
        match self.get("pretty") {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(BadQuery::new("pretty", "must be true or false")),
        }
    }
}
