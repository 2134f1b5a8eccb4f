//! `projects`: inviting people, by letter as well.
//!
//! What a letter says about the site and the project is said by the site. Who invites adds plain text of a bounded
//! length, and no links where strangers could send them to anybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::projects::{decide, put};
use super::throttled::count;
use crate::auth::throttle::Action;
use crate::creation;
use crate::email::EmailAddress;
use crate::id::{AccountId, ProjectId};
use crate::letters::{Kind, Letter, Letters};
use crate::members::Change;
use crate::settings::Live;
use crate::store::{Reader, Store, Transaction, accounts, invites, projects, throttle};
use crate::time::Time;

/// How long it takes until somebody gets another letter about the same project, as in the original.
const AGAIN: Duration = Duration::from_hours(24);

/// Most addresses in one call.
const ADDRESSES_MAX: usize = 50;

/// Longest address, in bytes, as in the original.
const ADDRESS_LEN_MAX: usize = 128;

/// Stands for those who have no account yet: to add them needs what adding any stranger needs.
const NOBODY: AccountId = AccountId::from_uuid(uuid::Uuid::nil());

/// Most of what the inviter says, in characters.
const SAID_MAX: usize = 4_000;

/// Most addresses of which it is remembered when they got a letter about a project.
const REMEMBERED_MAX: usize = 1_000;

/// What the functions need.
#[derive(Debug, Clone)]
pub struct Invitations {
    store: Store,
    settings: Arc<Live>,
    letters: Letters,
    /// Where the site is, without a slash at the end.
    site: String,
}

#[derive(Deserialize)]
struct Opts<T> {
    opts: T,
}

// The title and the link of the project are not taken from the call: a letter of the site says what is so.
#[derive(Deserialize)]
struct Invite {
    account_id: AccountId,
    project_id: ProjectId,
    email: Option<String>,
    subject: Option<String>,
}

#[derive(Deserialize)]
struct InviteByLetter {
    project_id: ProjectId,
    to: String,
    email: String,
    subject: Option<String>,
}

/// What the inviter adds to a letter.
struct Said {
    subject: Option<String>,
    text: String,
}

impl Invitations {
    /// On this store, with these letters. `site` is the address of the site, for links.
    pub fn new(store: Store, settings: Arc<Live>, letters: Letters, site: String) -> Self {
        Self {
            store,
            settings,
            letters,
            site,
        }
    }

    /// The handlers with those of this file. That the caller is a member of the project is in the table.
    pub fn install(self, handlers: Handlers) -> Handlers {
        handlers
            .with_on(
                "projects.inviteCollaborator",
                &self,
                |on, call| async move { on.invite(call).await },
            )
            .with_on(
                "projects.inviteCollaboratorWithoutAccount",
                &self,
                |on, call| async move { on.invite_by_letter(call).await },
            )
    }

    async fn invite(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let Opts::<Invite> { opts } = call.argument(0)?;
        let said = match opts.email {
            Some(text) => Some(self.said(opts.project_id, opts.subject, &text).await?),
            None => None,
        };
        if said.is_some() {
            count(&self.store, Action::Message, &by.to_string()).await?;
        }
        let mut on = self.store.write().await?;
        let change = Change::Add(opts.account_id);
        let effect = decide(&mut on, &self.settings, by, opts.project_id, change).await?;
        put(&mut on, by, opts.project_id, effect).await?;
        let account = accounts::by_id(&mut on, opts.account_id).await?;
        let address = account.and_then(|account| account.email_address?.parse().ok());
        let mut letters = Vec::new();
        if let (Some(said), Some(address)) = (said, address) {
            let addresses = [(address, true)];
            letters = self
                .letters(&mut on, by, opts.project_id, &said, &addresses)
                .await?;
        }
        self.put(&mut on, &letters).await?;
        on.commit().await?;
        self.letters.wake();
        Ok(Json::Null)
    }

    /// Those who have an account are added; those who have none are when they have one. Which of them is so is not
    /// said.
    async fn invite_by_letter(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let Opts::<InviteByLetter> { opts } = call.argument(0)?;
        let addresses = addresses(&opts.to)?;
        let said = self
            .said(opts.project_id, opts.subject, &opts.email)
            .await?;
        for _ in &addresses {
            count(&self.store, Action::Message, &by.to_string()).await?;
        }
        let mut on = self.store.write().await?;
        let mut invited = Vec::with_capacity(addresses.len());
        for address in addresses {
            let account = accounts::by_email_address(&mut on, address.as_str()).await?;
            let target = account.as_ref().map_or(NOBODY, |account| account.id);
            // Whoever may not add somebody may not invite either.
            let change = Change::Add(target);
            let effect = decide(&mut on, &self.settings, by, opts.project_id, change).await?;
            if account.is_some() {
                put(&mut on, by, opts.project_id, effect).await?;
            } else if !creation::invite(&mut on, &address, opts.project_id, by).await? {
                let text = format!("too many invitations wait for {address}");
                return Err(Error::new(Code::FailedPrecondition, text));
            }
            invited.push((address, account.is_some()));
        }
        let letters = self
            .letters(&mut on, by, opts.project_id, &said, &invited)
            .await?;
        self.put(&mut on, &letters).await?;
        on.commit().await?;
        self.letters.wake();
        Ok(Json::Null)
    }

    /// What is added to a letter, if it may be.
    async fn said(
        &self,
        project: ProjectId,
        subject: Option<String>,
        text: &str,
    ) -> Result<Said, Error> {
        let text = plain(text);
        if text.chars().count() > SAID_MAX {
            let text = format!("has more than {SAID_MAX} characters of text");
            return Err(Error::argument("args[0].opts.email", text));
        }
        let subject = subject.map(|subject| plain(&subject).replace('\n', " "));
        if has_link(&text) || subject.as_deref().is_some_and(has_link) {
            let mut on = self.store.read().await?;
            self.check_link(&mut on, project, "what is said").await?;
        }
        Ok(Said { subject, text })
    }

    /// A letter with a link in `place`, which its sender has written, is refused where strangers could send it.
    async fn check_link(&self, on: &mut Reader, id: ProjectId, place: &str) -> Result<(), Error> {
        if !self.settings.get().is_on("commercial") || invites::has_network(on, id).await? {
            return Ok(());
        }
        let text = format!(
            "{place} has a link, and links are sent for projects with access to the network alone"
        );
        Err(Error::denied(text).reason("LINKS_NOT_ALLOWED"))
    }

    /// The letters for those who got none lately, and that is noted. The project's row is locked by who decided.
    async fn letters(
        &self,
        on: &mut Transaction,
        by: AccountId,
        id: ProjectId,
        said: &Said,
        addresses: &[(EmailAddress, bool)],
    ) -> Result<Vec<Letter>, Error> {
        if !self.letters.are_sent() {
            return Ok(Vec::new());
        }
        let now = throttle::now(on).await?;
        let project = projects::by_id(on, id).await?;
        let title = project.map(|project| project.title).unwrap_or_default();
        let inviter = accounts::by_id(on, by).await?;
        let inviter = inviter.map_or_else(String::new, |account| {
            format!("{} {}", account.first_name, account.last_name)
        });
        // They stand in the letter as well, and their writer chose them.
        for (place, text) in [
            ("the title of the project", &title),
            ("the name of the inviter", &inviter),
        ] {
            if has_link(text) {
                self.check_link(on, id, place).await?;
            }
        }
        let mut sent = invites::letters(on, id).await?;
        sent.retain(|_, letter| now.since(time_of(letter)) < AGAIN);
        let mut letters = Vec::new();
        for (address, has_account) in addresses {
            if sent.contains_key(address.as_str()) || sent.len() >= REMEMBERED_MAX {
                continue;
            }
            sent.insert(address.as_str().to_owned(), json!({"time": now, "by": by}));
            letters.push(self.letter(address, *has_account, &inviter, id, &title, said));
        }
        invites::put_letters(on, id, sent).await?;
        Ok(letters)
    }

    fn letter(
        &self,
        to: &EmailAddress,
        has_account: bool,
        inviter: &str,
        id: ProjectId,
        title: &str,
        said: &Said,
    ) -> Letter {
        let settings = self.settings.get();
        let (name, site) = (settings.get("site_name"), &self.site);
        let link = if has_account {
            format!("The project is here:\n\n    {site}/projects/{id}\n")
        } else {
            let days = creation::INVITATION_TTL.as_secs() / 86_400;
            format!(
                "With an account for {to}, made within {days} days, you are in the project:\n\n    \
                 {site}/auth/sign-up?email={}\n",
                encoded(to.as_str())
            )
        };
        let said_text = if said.text.is_empty() {
            String::new()
        } else {
            format!("They say:\n\n{}\n\n", indented(&said.text))
        };
        let subject = said.subject.clone().filter(|subject| !subject.is_empty());
        Letter {
            to: to.clone(),
            subject: subject
                .unwrap_or_else(|| format!("{inviter} invites you to a project on {name}")),
            text: format!(
                "{inviter} invites you to the project {title:?} on {name}.\n\n{said_text}{link}\n\
                 If you do not know {inviter}, nothing has to be done.\n"
            ),
        }
    }

    async fn put(&self, on: &mut Transaction, letters: &[Letter]) -> Result<(), Error> {
        for letter in letters {
            self.letters.put(on, Kind::Notice, letter).await?;
        }
        Ok(())
    }
}

fn time_of(letter: &Json) -> Time {
    let millis = letter.get("time").and_then(Json::as_i64);
    Time::from_millis(millis.unwrap_or(0))
}

/// The addresses that a call names, with blanks, commas or semicolons between.
fn addresses(text: &str) -> Result<Vec<EmailAddress>, Error> {
    let place = "args[0].opts.to";
    let mut found = BTreeSet::new();
    let separator = |c: char| c.is_whitespace() || c == ',' || c == ';';
    for one in text.split(separator).filter(|one| !one.is_empty()) {
        if one.len() > ADDRESS_LEN_MAX {
            let text = format!("an address has at most {ADDRESS_LEN_MAX} bytes");
            return Err(Error::argument(place, text));
        }
        found.insert(one.parse().map_err(|error| Error::argument(place, error))?);
    }
    if found.is_empty() || found.len() > ADDRESSES_MAX {
        let text = format!("must be 1 to {ADDRESSES_MAX} addresses");
        return Err(Error::argument(place, text));
    }
    Ok(found.into_iter().collect())
}

/// The text of what a client writes as HTML: without tags, with the characters that stand for others.
fn plain(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        let Some((tag, after)) = tag.split_once('>') else {
            rest = "";
            break;
        };
        let name = tag.trim_start_matches('/').to_ascii_lowercase();
        if ["br", "p", "div", "li"].iter().any(|line| {
            name.strip_prefix(line)
                .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        }) && !text.ends_with('\n')
        {
            text.push('\n');
        }
        rest = after;
    }
    text.push_str(rest);
    for (entity, c) in [
        ("&nbsp;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ] {
        text = text.replace(entity, c);
    }
    text.retain(|c| c == '\n' || !c.is_control());
    text.trim().to_owned()
}

fn has_link(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("://")
        || text.contains("www.")
        || text.contains("http:")
        || text.contains("https:")
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// An address as it stands in the query of a link.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            return out;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_becomes_text() {
        for (html, text) in [
            ("Hello", "Hello"),
            ("<p>Hello <b>you</b><br/>there</p>", "Hello you\nthere"),
            ("a &lt;b&gt; &amp;lt;", "a <b> &lt;"),
            ("<script>alert(1)</script>", "alert(1)"),
            ("a < b", "a"),
            ("<a href=\"https://evil.example\">here</a>", "here"),
            ("a\u{7}\r\nb", "a\nb"),
        ] {
            assert_eq!(plain(html), text, "{html:?}");
        }
    }

    #[test]
    fn links_are_seen_in_text() {
        for text in ["see https://x.org", "WWW.x.org", "ftp://x"] {
            assert!(has_link(text), "{text}");
        }
        assert!(!has_link("Dear Ada: a letter. Yours, Bob"));
    }

    #[test]
    fn addresses_are_read_one_by_one() {
        let found = addresses("B@x.org, a@x.org;\na@X.org  c@x.org").unwrap();
        let found: Vec<&str> = found.iter().map(EmailAddress::as_str).collect();
        assert_eq!(found, ["a@x.org", "b@x.org", "c@x.org"]);
        let many = "a@x.org ".repeat(3);
        assert_eq!(addresses(&many).unwrap().len(), 1);
        let long = format!("{}@x.org", "a".repeat(128));
        for wrong in ["", " , ", "a", "a@x.org b", &long] {
            let error = addresses(wrong).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn addresses_stand_in_links_whole() {
        assert_eq!(encoded("a+b&c@x.org"), "a%2Bb%26c@x.org");
    }
}
