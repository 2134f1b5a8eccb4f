//! The list of somebody's projects, and one of them: start, stop, open.

use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::api::{Code, Error};
use dialtone_hub::id::ProjectId;
use hyper::StatusCode;
use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::{Value as Json, json};

use crate::calls::{self, Calls, told};
use crate::entry::sentence;
use crate::form::Form;
use crate::page::{Answer, hidden, wrong};
use crate::site::{Site, Visitor};

/// Most projects that are shown: those that were used last.
const SHOWN_MAX: u32 = 200;

/// How long an order is waited for before the page shows that it is under way.
const SOON: Duration = Duration::from_secs(2);

/// After how long a page is loaded again while something is under way.
const REFRESH: Duration = Duration::from_secs(2);

/// Servers that are started in a project when they are opened, with their paths.
const SERVERS: &[(&str, &str)] = &[
    ("JupyterLab", "port/jupyterlab/"),
    ("Jupyter Notebook", "port/jupyter/"),
    ("VS Code", "port/code/"),
    ("RStudio", "server/rserver/"),
    ("Pluto", "port/pluto/"),
];

/// A project as its row says.
struct Project {
    id: ProjectId,
    title: String,
    state: String,
    error: Option<String>,
    edited: Option<i64>,
}

impl Project {
    fn of(row: &Json) -> Option<Self> {
        let text = |value: Option<&Json>| value.and_then(Json::as_str).map(ToOwned::to_owned);
        let state = row.get("state");
        Some(Self {
            id: row.get("project_id")?.as_str()?.parse().ok()?,
            title: text(row.get("title")).unwrap_or_default(),
            state: text(state.and_then(|state| state.get("state")))
                .unwrap_or_else(|| "opened".to_owned()),
            error: text(state.and_then(|state| state.get("error"))),
            edited: row.get("last_edited").and_then(Json::as_i64),
        })
    }

    fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Whether it is on its way to another state.
    fn is_changing(&self) -> bool {
        self.state.ends_with("ing") && !self.is_running()
    }

    /// What a person calls its state.
    fn said(&self) -> &str {
        match self.state.as_str() {
            "opened" | "closed" => "stopped",
            other => other,
        }
    }

    fn state(&self) -> Markup {
        html! { span.state.running[self.is_running()] { (self.said()) } }
    }

    fn order(&self, base: &str, token: &str, act: &str, label: &str, quiet: bool) -> Markup {
        html! {
            form method="post" action={ (base) "/projects/" (self.id) "/" (act) } {
                (hidden(token))
                button.quiet[quiet] { (label) }
            }
        }
    }
}

/// The fields of a project's row that pages show.
const FIELDS: &[&str] = &["project_id", "title", "state", "last_edited", "deleted"];

impl Site {
    pub(crate) async fn projects_page(
        &self,
        visitor: &Visitor,
        text: Option<(&str, StatusCode)>,
    ) -> Result<Answer, Answer> {
        let options = json!([{"limit": SHOWN_MAX}, {"order_by": "-last_edited"}]);
        let rows = self.calls(visitor).rows("projects", FIELDS, options).await;
        let rows = rows.map_err(|error| self.failed("Projects", visitor, &error))?;
        let is_deleted = |row: &&Json| row.get("deleted").and_then(Json::as_bool) == Some(true);
        let projects: Vec<Project> = rows
            .iter()
            .filter(|row| !is_deleted(row))
            .filter_map(Project::of)
            .collect();
        let (base, token) = (self.base(), visitor.token.as_str());
        let content = html! {
            (wrong(text.map(|(text, _)| text)))
            form.row method="post" action={ (base) "/projects" } {
                (hidden(token))
                label { "Title" input name="title" type="text" maxlength="1024" placeholder="What it is about"; }
                button { "Make a project" }
            }
            h2 { "Yours" }
            @if projects.is_empty() {
                p.hint { "There is none yet." }
            } @else {
                table {
                    thead { tr { th { "Title" } th { "State" } th { "Used" } th {} } }
                    tbody {
                        @for project in &projects {
                            (line(project, base, token))
                        }
                    }
                }
            }
        };
        let refresh = projects.iter().any(Project::is_changing).then_some(REFRESH);
        let code = text.map_or(StatusCode::OK, |(_, code)| code);
        Ok(self.frame("Projects", Some(visitor), refresh, code, &content))
    }

    pub(crate) async fn create_project(
        &self,
        visitor: &Visitor,
        form: &Form,
    ) -> Result<Answer, Answer> {
        let title = form.get("title").trim();
        let title = if title.is_empty() { "No title" } else { title };
        let made = self
            .calls(visitor)
            .call("projects.createProject", json!({"title": title}))
            .await;
        match made {
            Ok(id) => {
                let id = id.as_str().unwrap_or_default();
                Ok(self.go(&format!("/projects/{id}")))
            }
            Err(error) => {
                let text = sentence(&told(&error));
                let text = Some((text.as_str(), calls::status(&error)));
                self.projects_page(visitor, text).await
            }
        }
    }

    pub(crate) async fn project_page(
        &self,
        visitor: &Visitor,
        id: ProjectId,
        error: Option<&Error>,
    ) -> Result<Answer, Answer> {
        let found = find(self.calls(visitor), id).await;
        let found = found.map_err(|error| self.failed("Project", visitor, &error))?;
        let Some(project) = found else {
            let content = wrong(Some(
                "There is no such project, or you are not one of its people.",
            ));
            return Err(self.page("Project", Some(visitor), StatusCode::NOT_FOUND, &content));
        };
        let (base, token) = (self.base(), visitor.token.as_str());
        let told = error.map(|error| sentence(&told(error)));
        let told = told.as_deref().or(project.error.as_deref());
        let content = html! {
            (wrong(told))
            p { (project.state()) }
            div.actions {
                @if project.is_running() {
                    (project.order(base, token, "stop", "Stop", true))
                    (project.order(base, token, "restart", "Restart", true))
                } @else if !project.is_changing() {
                    (project.order(base, token, "start", "Start", false))
                }
            }
            @if project.is_running() {
                h2 { "Open" }
                ul.plain {
                    @for (name, path) in SERVERS {
                        li { a.button href={ (base) "/" (id) "/" (path) } { (name) } }
                    }
                }
                p.hint { "Each is started in the project when it is opened for the first time." }
            } @else if project.is_changing() {
                p.hint { "This page looks again by itself." }
            } @else {
                p.hint { "Start the project to work in it." }
            }
            h2 { "About" }
            p { "Its number is " code { (id) } "." }
            form.row method="post" action={ (base) "/projects/" (id) "/title" } {
                (hidden(token))
                label { "Title" input name="title" type="text" maxlength="1024" value=(project.title) required; }
                button.quiet { "Change the title" }
            }
        };
        let refresh = project.is_changing().then_some(REFRESH);
        let code = error.map_or(StatusCode::OK, calls::status);
        let title = if project.title.is_empty() {
            "No title"
        } else {
            &project.title
        };
        Ok(self.frame(title, Some(visitor), refresh, code, &content))
    }

    /// Does something to a project, as a form of its page asks.
    pub(crate) async fn act(
        &self,
        visitor: &Visitor,
        id: ProjectId,
        act: &str,
        form: &Form,
    ) -> Result<Answer, Answer> {
        let done = match act {
            "start" | "stop" | "restart" => self.order(visitor, id, act).await,
            "title" => {
                let row = json!({"project_id": id, "title": form.get("title").trim()});
                let query = json!({"query": {"projects": row}});
                self.calls(visitor)
                    .call("db.userQuery", query)
                    .await
                    .map(drop)
            }
            _ => {
                let content = wrong(Some("Nothing of that name can be done to a project."));
                return Err(self.page("Project", Some(visitor), StatusCode::NOT_FOUND, &content));
            }
        };
        match done {
            Ok(()) => Ok(self.go(&format!("/projects/{id}"))),
            Err(error) => self.project_page(visitor, id, Some(&error)).await,
        }
    }

    /// Orders it; what takes longer is shown by the page.
    async fn order(&self, visitor: &Visitor, id: ProjectId, act: &str) -> Result<(), Error> {
        let (api, account) = (Arc::clone(self.api()), visitor.account);
        let act = act.to_owned();
        let work = async move {
            let calls = Calls { api: &api, account };
            let options = json!({"project_id": id});
            if act == "restart" {
                calls.call("projects.stop", options.clone()).await?;
                return calls.call("projects.start", options).await;
            }
            calls.call(&format!("projects.{act}"), options).await
        };
        match calls::soon(self.orders(), SOON, work).await {
            Ok(None) => Ok(()),
            Ok(Some(done)) => done.map(drop),
            Err(error) => Err(Error::new(Code::Internal, error.to_string())),
        }
    }
}

async fn find(calls: Calls<'_>, id: ProjectId) -> Result<Option<Project>, Error> {
    let fields: Vec<&str> = FIELDS
        .iter()
        .copied()
        .filter(|field| *field != "project_id")
        .collect();
    let row = calls
        .row("projects", ("project_id", json!(id)), &fields)
        .await?;
    Ok(row.as_ref().and_then(Project::of))
}

fn line(project: &Project, base: &str, token: &str) -> Markup {
    let title = if project.title.is_empty() {
        "No title"
    } else {
        &project.title
    };
    html! {
        tr {
            td { a href={ (base) "/projects/" (project.id) } { (title) } }
            td { (project.state()) }
            td { (project.edited.map(when).unwrap_or_default()) }
            td.actions {
                @if project.is_running() {
                    (project.order(base, token, "stop", "Stop", true))
                } @else if !project.is_changing() {
                    (project.order(base, token, "start", "Start", true))
                }
            }
        }
    }
}

/// A time in words that are the same everywhere.
pub(crate) fn when(millis: i64) -> String {
    Timestamp::from_millisecond(millis)
        .map(|time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(state: &str) -> Project {
        let id = ProjectId::random();
        let row = json!({"project_id": id, "title": "<b>", "state": {"state": state}});
        Project::of(&row).unwrap()
    }

    #[test]
    fn states_are_told_apart() {
        assert!(project("running").is_running());
        for state in ["starting", "stopping", "opening", "pending"] {
            assert!(project(state).is_changing(), "{state}");
        }
        for state in ["running", "opened", "closed", "archived"] {
            assert!(!project(state).is_changing(), "{state}");
        }
        assert_eq!(project("opened").said(), "stopped");
    }

    #[test]
    fn what_people_write_is_text() {
        let shown = line(&project("running"), "/base", "t").into_string();
        assert!(
            shown.contains("&lt;b&gt;") && !shown.contains("<b>"),
            "{shown}"
        );
    }

    #[test]
    fn times_are_told_in_one_zone() {
        assert_eq!(when(1_700_000_000_000), "2023-11-14 22:13 UTC");
    }
}
