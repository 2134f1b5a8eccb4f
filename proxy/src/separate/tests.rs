//! Hosts, tickets and sessions at the host of a project.

use super::*;

const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";
const OTHER: &str = "11111111-0b5a-4c39-9d5e-1a2b3c4d5e6f";

fn separate(site: &str) -> Separate {
    Separate {
        hosts: "{project}.example.org".parse().unwrap(),
        site: site.to_owned(),
        key: Key::of("secret"),
    }
}

fn id() -> ProjectId {
    ID.parse().unwrap()
}

fn to() -> String {
    format!("/{ID}/port/80/x?a=1&b=2")
}

fn location(response: &Response<Body>) -> String {
    response.headers()[LOCATION].to_str().unwrap().to_owned()
}

/// The pair of a cookie that is set.
fn pair(response: &Response<Body>) -> String {
    let text = response.headers()[SET_COOKIE].to_str().unwrap();
    text.split(';').next().unwrap().to_owned()
}

fn shown(cookies: &[&str]) -> Credentials {
    Credentials {
        cookies: cookies.iter().map(|&pair| pair.to_owned()).collect(),
        key: None,
    }
}

fn query(location: &str) -> String {
    location.split_once('?').unwrap().1.to_owned()
}

fn headers(cookie: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
    headers
}

/// The secret of the browser, and the query with its ticket.
fn ticket(separate: &Separate) -> (String, String) {
    let asked = separate.ask("", id(), &to(), &shown(&[]));
    let wanted = Separate::wanted("", &query(&location(&asked))).unwrap();
    let given = separate.give("", wanted, &shown(&["remember_me=s"]));
    assert!(location(&given).starts_with(&format!("https://{ID}.example.org{ENTER}?")));
    (pair(&asked), query(&location(&given)))
}

#[test]
fn a_browser_comes_in_by_its_ticket_once() {
    let separate = separate("https://hub.example.org");
    let tickets = Tickets::default();
    let (state, query) = ticket(&separate);
    let entered = separate.enter(Some(id()), &query, &headers(&state), &tickets);
    let entered = entered.unwrap();
    assert_eq!(location(&entered), to());
    let set = entered.headers()[SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("__Host-dialtone_projects="), "{set}");
    assert!(
        set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"),
        "{set}"
    );
    let session = separate.session(Some(id()), &shown(&["remember_me=tossed", &pair(&entered)]));
    assert_eq!(session.cookies, ["remember_me=s"]);
    let again = separate.enter(Some(id()), &query, &headers(&state), &tickets);
    assert!(matches!(again, Err(Refusal::Ticket)));
}

#[test]
fn a_ticket_is_for_one_browser_and_one_project() {
    let separate = separate("https://hub.example.org");
    let tickets = Tickets::default();
    let (state, query) = ticket(&separate);
    let (other_state, _) = ticket(&separate);
    let other = OTHER.parse().ok();
    let forged = format!("{query}A");
    for (at, query, cookie) in [
        (Some(id()), &query, other_state.as_str()),
        (Some(id()), &query, "a=b"),
        (other, &query, state.as_str()),
        (Some(id()), &forged, state.as_str()),
        (Some(id()), &String::new(), state.as_str()),
    ] {
        let entered = separate.enter(at, query, &headers(cookie), &tickets);
        assert!(
            matches!(entered, Err(Refusal::Ticket)),
            "{at:?} {query} {cookie}"
        );
    }
    let entered = separate.enter(Some(id()), &query, &headers(&state), &tickets);
    assert!(entered.is_ok(), "what was refused has not used it up");
}

#[test]
fn a_session_of_another_host_is_none() {
    let separate = separate("http://hub.example.org:5000");
    let tickets = Tickets::default();
    let asked = separate.ask("", id(), &to(), &shown(&[]));
    let state = pair(&asked);
    assert!(state.starts_with("dialtone_enter="), "{state}");
    let tabs = separate.ask("", id(), &to(), &shown(&[&state]));
    assert_eq!(pair(&tabs), state, "tabs share the secret");
    let wanted = Separate::wanted("", &query(&location(&asked))).unwrap();
    let given = separate.give("", wanted, &shown(&["remember_me=s"]));
    let query = query(&location(&given));
    let entered = separate.enter(Some(id()), &query, &headers(&state), &tickets);
    let cookie = pair(&entered.unwrap());
    let at = |project| separate.session(project, &shown(&[&cookie])).cookies;
    assert_eq!(at(Some(id())), ["remember_me=s"]);
    assert!(at(OTHER.parse().ok()).is_empty() && at(None).is_empty());
    let own = separate.session(Some(id()), &shown(&["remember_me=s"]));
    assert!(
        own.is_empty(),
        "a cookie of the site counts for nothing here"
    );
}

#[test]
fn tickets_lead_into_the_project_alone() {
    let state = seal::digest("x");
    let wanted = |to: &str| {
        let to = utf8_percent_encode(to, NON_ALPHANUMERIC).to_string();
        Separate::wanted("/b", &format!("project={ID}&state={state}&to={to}"))
    };
    assert!(wanted(&format!("/b/{ID}/port/80/")).is_ok());
    for to in [
        "",
        "/",
        "//evil",
        "https://evil",
        &format!("/{ID}/port/80/"),
        &format!("/b/{OTHER}/port/80/"),
        &format!("/b/{ID}/\r\nx"),
        &format!("/b/{ID}/\\evil"),
        &format!("/b/{ID}/{}", "x".repeat(TO_LEN_MAX)),
    ] {
        assert!(wanted(to).is_err(), "{to:?}");
    }
    assert!(Separate::wanted("/b", "").is_err());
    assert!(Separate::wanted("/b", &format!("project={ID}&state=x&to=/b/{ID}/")).is_err());
}
