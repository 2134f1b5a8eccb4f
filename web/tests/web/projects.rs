//! Projects: making, naming, looking. Whether they run is project control's; without it the page says so.

use crate::world::World;

#[tokio::test]
async fn a_project_is_made_named_and_listed() {
    let world = World::new().await;
    let mut browser = world.member("ada@example.org").await;
    browser.get("/projects").await;
    let made = browser
        .post("/projects", &[("title", "<i>Notes</i>")])
        .await;
    assert_eq!(made.code, 303, "{}", made.text);
    let place = made.place().to_owned();
    let page = browser.get(&place).await;
    page.has("&lt;i&gt;Notes&lt;/i&gt;");
    page.has_not("<i>");
    page.has("stopped");
    page.has_not("JupyterLab");
    let named = browser
        .post(&format!("{place}/title"), &[("title", "Engines")])
        .await;
    assert_eq!(named.place(), place);
    let list = browser.get("/projects").await;
    list.has("Engines");
    list.has(&format!("href=\"{place}\""));
}

#[tokio::test]
async fn others_see_nothing_of_a_project() {
    let world = World::new().await;
    let mut owner = world.member("ada@example.org").await;
    owner.get("/projects").await;
    let place = owner
        .post("/projects", &[("title", "Secret")])
        .await
        .place()
        .to_owned();
    let mut other = world.member("eve@example.org").await;
    let page = other.get("/projects").await;
    page.has_not("Secret");
    let page = other.get(&place).await;
    assert_eq!(page.code, 403);
    page.has_not("Secret");
    for act in ["start", "stop", "title"] {
        let page = other
            .post(&format!("{place}/{act}"), &[("title", "Mine")])
            .await;
        assert!(page.code >= 400, "{act}: {}", page.text);
        page.has_not("Secret");
    }
    owner.get(&place).await.has("Secret");
}

#[tokio::test]
async fn a_site_that_runs_no_projects_says_so() {
    let world = World::new().await;
    let mut browser = world.member("ada@example.org").await;
    browser.get("/projects").await;
    let place = browser
        .post("/projects", &[("title", "x")])
        .await
        .place()
        .to_owned();
    browser.get(&place).await;
    let page = browser.post(&format!("{place}/start"), &[]).await;
    assert_eq!(page.code, 501);
    page.has("class=\"wrong\"");
    page.has("not configured");
}
