//! Letters between accounts.

use dialtone_hub::api::{Code, Error};
use dialtone_hub::id::AccountId;
use serde_json::{Value as Json, json};

use super::{Site, on_both};

on_both! {
    a_message_is_seen_by_those_who_have_it,
    an_answer_joins_the_thread_of_those_who_have_it,
    receivers_are_accounts,
    what_one_does_with_a_message_is_ones_own,
    nobody_sends_without_end,
}

async fn send(site: &Site, from: AccountId, to: Json, about: &str) -> Result<Json, Error> {
    let message = json!({"to_ids": to, "subject": about, "body": "Dear all"});
    site.call(from, "messages.send", message).await
}

async fn get(site: &Site, account: AccountId, kind: &str) -> Vec<Json> {
    let found = site
        .call(account, "messages.get", json!({"type": kind}))
        .await
        .unwrap();
    found.as_array().unwrap().clone()
}

async fn unread(site: &Site, account: AccountId) -> Json {
    let read = json!({"accounts": {"unread_message_count": null}});
    let found = site.query(account, read).await.unwrap();
    found["accounts"]["unread_message_count"].clone()
}

async fn people<const N: usize>(site: &Site, names: [&str; N]) -> [AccountId; N] {
    let mut ids = Vec::new();
    for name in names {
        ids.push(site.account(name, &[]).await);
    }
    ids.try_into().unwrap()
}

async fn a_message_is_seen_by_those_who_have_it(site: Site) {
    let [ada, bob, eve, mallory] = people(&site, ["ada", "bob", "eve", "mallory"]).await;
    let id = send(&site, ada, json!([bob, "EVE@example.org", bob]), "Hello")
        .await
        .unwrap();
    let received = get(&site, bob, "received").await;
    assert_eq!(received.len(), 1);
    let mut to = [bob, eve];
    to.sort_unstable();
    let message = &received[0];
    assert_eq!((&message["id"], &message["from_id"]), (&id, &json!(ada)));
    assert_eq!(
        (&message["to_ids"], &message["subject"]),
        (&json!(to), &json!("Hello"))
    );
    assert_eq!(
        (&message["read"], &message["thread_id"]),
        (&json!(false), &Json::Null)
    );
    assert_eq!(get(&site, eve, "new").await.len(), 1);
    assert_eq!(get(&site, ada, "sent").await[0]["id"], id);
    assert_eq!(get(&site, ada, "received").await, [Json::Null; 0]);
    for kind in ["received", "sent", "new", "starred"] {
        assert_eq!(get(&site, mallory, kind).await, [Json::Null; 0], "{kind}");
    }
    assert_eq!(unread(&site, bob).await, 1);
    assert_eq!(unread(&site, ada).await, Json::Null);
    // To oneself: had once, and not read yet.
    send(&site, ada, json!([ada]), "Remember").await.unwrap();
    assert_eq!(get(&site, ada, "received").await.len(), 1);
    assert_eq!(get(&site, ada, "sent").await.len(), 2);
    let later = json!({"type": "sent", "cutoff": 8_000_000_000_000_i64});
    let found = site.call(ada, "messages.get", later).await.unwrap();
    assert_eq!(found, json!([]));
    let second = json!({"type": "sent", "limit": 1, "offset": 1});
    let found = site.call(ada, "messages.get", second).await.unwrap();
    assert_eq!(found[0]["id"], id);
}

async fn an_answer_joins_the_thread_of_those_who_have_it(site: Site) {
    let [ada, bob, mallory] = people(&site, ["ada", "bob", "mallory"]).await;
    let first = send(&site, ada, json!([bob]), "Hello").await.unwrap();
    let answer = async |by, to: AccountId, id: &Json| {
        let message = json!({"to_ids": [to], "subject": "Re", "body": "", "reply_id": id});
        site.call(by, "messages.send", message).await
    };
    let second = answer(bob, ada, &first).await.unwrap();
    let third = answer(ada, bob, &second).await.unwrap();
    for (account, id) in [(ada, &second), (bob, &third)] {
        let found = get(&site, account, "new").await;
        let found = found.iter().find(|message| message["id"] == *id).unwrap();
        assert_eq!(found["thread_id"], first);
    }
    for id in [first, json!(1_000_000)] {
        let refused = answer(mallory, ada, &id).await.unwrap_err();
        assert_eq!(refused.code, Code::NotFound);
    }
}

async fn receivers_are_accounts(site: Site) {
    let [ada, bob] = people(&site, ["ada", "bob"]).await;
    let unknown = send(&site, ada, json!([bob, AccountId::random()]), "x").await;
    assert_eq!(unknown.unwrap_err().code, Code::NotFound);
    assert_eq!(get(&site, bob, "received").await, [Json::Null; 0]);
    for nobody in [json!([]), json!(["nobody@example.org"])] {
        assert_eq!(send(&site, ada, nobody, "x").await.unwrap(), Json::Null);
    }
    assert_eq!(get(&site, ada, "sent").await, [Json::Null; 0]);
    let gone = dialtone_hub::accounts::delete(&site.store, bob);
    gone.await.unwrap();
    let refused = send(&site, ada, json!([bob]), "x").await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
}

async fn what_one_does_with_a_message_is_ones_own(site: Site) {
    let [ada, bob, eve] = people(&site, ["ada", "bob", "eve"]).await;
    let id = send(&site, ada, json!([bob, eve]), "Hello").await.unwrap();
    let mark = json!({"messages": {"id": id, "read": true, "starred": true}});
    site.query(bob, mark.clone()).await.unwrap();
    assert_eq!(unread(&site, bob).await, 0);
    assert_eq!(unread(&site, eve).await, 1);
    assert_eq!(get(&site, bob, "starred").await.len(), 1);
    assert_eq!(get(&site, eve, "starred").await, [Json::Null; 0]);
    let read = json!({"messages": [{"id": null, "read": null, "subject": null, "from_id": null}]});
    let found = site.query(bob, read.clone()).await.unwrap();
    let expected = json!([{"id": id, "read": true, "subject": "Hello", "from_id": ada}]);
    assert_eq!(found["messages"], expected);
    let sent = json!({"sent_messages": [{"id": null, "subject": null}]});
    let found = site.query(ada, sent.clone()).await.unwrap();
    assert_eq!(
        found["sent_messages"],
        json!([{"id": id, "subject": "Hello"}])
    );
    assert_eq!(
        site.query(bob, sent).await.unwrap()["sent_messages"],
        json!([])
    );
    // Neither the message nor who has it is changed by whoever has it, and others have nothing to change.
    for wrong in [
        json!({"messages": {"id": id, "subject": "Bye"}}),
        json!({"messages": {"id": id, "account_id": eve, "from_id": bob}}),
    ] {
        let refused = site.query(bob, wrong).await.unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied);
    }
    let stranger = site.account("mallory", &[]).await;
    let refused = site.query(stranger, mark).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    assert_eq!(
        site.query(stranger, read).await.unwrap()["messages"],
        json!([])
    );
}

async fn nobody_sends_without_end(site: Site) {
    let [ada, bob] = people(&site, ["ada", "bob"]).await;
    let mut codes = Vec::new();
    for _ in 0..40 {
        codes.extend(
            send(&site, ada, json!([bob]), "x")
                .await
                .err()
                .map(|error| error.code),
        );
    }
    assert!(codes.contains(&Code::TooMany), "{codes:?}");
    assert!(get(&site, bob, "received").await.len() >= 30);
    send(&site, bob, json!([ada]), "x").await.unwrap();
}
