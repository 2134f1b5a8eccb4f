//! Requests: an answer, nobody there, too late, many answers, and services.

use dialtone_client::{Answers, Encoding, Many, RequestError, ServiceError, service::Answer};
use dialtone_testkit::{Manner, World};
use tokio::time::Instant;

use crate::{millis, seconds, simulate};

#[test]
fn requests_get_their_own_answers() {
    simulate(20, async |seed| {
        let world = World::new(seed).await;
        world.network(Manner::rough(seed));
        let (server, caller) = (world.client().await.unwrap(), world.client().await.unwrap());
        let echo = server.service("echo.*", "g", async |message| {
            let waits = u64::from(message.payload()[0]) % 50;
            tokio::time::sleep(millis(waits)).await;
            Ok(Answer::new(
                Encoding::MessagePack,
                message.payload().clone(),
            ))
        });
        let _service = echo.await.unwrap();
        let calls = (0..60_u8).map(async |number| {
            // Some of these links are slow beyond any patience.
            let call = caller
                .message(format!("echo.{number}"))
                .timeout(seconds(36_000));
            let answer = call.payload(&[number, 7]).request().await.unwrap();
            assert_eq!(answer.payload()[..], [number, 7]);
        });
        futures_util::future::join_all(calls).await;
    });
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_said_at_once() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let (caller, tap) = (world.client().await?, world.client().await?);
    let _tap = tap.subscription("a").tap().subscribe().await?;
    let began = Instant::now();
    let error = caller.request("a", "?").await.unwrap_err();
    assert!(
        matches!(error, RequestError::NoSubscribers { .. }),
        "{error:?}"
    );
    assert_eq!(error.code().number(), 503);
    assert!(began.elapsed() < millis(10));
    let mut answers = caller.request_many("a", "?", Many::default()).await?;
    assert!(answers.next().await.is_none());
    assert!(matches!(
        answers.error(),
        Some(RequestError::NoSubscribers { .. })
    ));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_not_awaited_for_ever() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let (server, caller) = (world.client().await?, world.client().await?);
    let mut requests = server.subscribe("a").await?;
    let began = Instant::now();
    let error = caller
        .message("a")
        .timeout(seconds(3))
        .request()
        .await
        .unwrap_err();
    assert!(
        matches!(error, RequestError::TimedOut(limit) if limit == seconds(3)),
        "{error:?}"
    );
    assert_eq!(began.elapsed().as_secs(), 3);
    // The late answer goes nowhere, and not to the next request.
    let late = requests.next().await.unwrap();
    let (second, ()) = tokio::join!(
        caller
            .message("a")
            .payload("2")
            .timeout(seconds(3))
            .request(),
        async {
            late.respond("late").await.unwrap();
            requests
                .next()
                .await
                .unwrap()
                .respond("right")
                .await
                .unwrap();
        }
    );
    assert_eq!(second?.payload(), "right");
    Ok(())
}

async fn collect(answers: &mut Answers) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(answer) = answers.next().await {
        all.push(String::from_utf8(answer.payload().to_vec()).unwrap());
    }
    all.sort_unstable();
    all
}

#[tokio::test(start_paused = true)]
async fn many_answers() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let caller = world.client().await?;
    let mut services = Vec::new();
    let mut servers = Vec::new();
    for name in ["ann", "ben", "cleo"] {
        let server = world.client().await?;
        let who = move |_| async move { Ok(Answer::new(Encoding::MessagePack, name)) };
        services.push(server.service("who", name, who).await?);
        servers.push(server);
    }
    let many = Many {
        wait_max: seconds(2),
        messages_max: None,
    };
    let began = Instant::now();
    let mut answers = caller.request_many("who", "?", many).await?;
    assert_eq!(collect(&mut answers).await, ["ann", "ben", "cleo"]);
    assert!(answers.error().is_none());
    assert_eq!(began.elapsed().as_secs(), 2);
    let mut answers = caller
        .request_many(
            "who",
            "?",
            Many {
                messages_max: Some(2),
                ..many
            },
        )
        .await?;
    assert_eq!(collect(&mut answers).await.len(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_says_so() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let (server, caller) = (world.client().await?, world.client().await?);
    let fails = async |_| Err::<Answer, _>(ServiceError::new(418, "no coffee"));
    let _service = server.service("brew", "g", fails).await?;
    let error = caller
        .request("brew", "?")
        .await?
        .into_result()
        .unwrap_err();
    assert_eq!((error.code, error.text.as_str()), (418, "no coffee"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_request_may_wait_until_somebody_listens() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let (server, caller) = (world.client().await?, world.client().await?);
    let serving = async {
        tokio::time::sleep(seconds(2)).await;
        server
            .service("late", "g", async |_| {
                Ok(Answer::new(Encoding::MessagePack, "here"))
            })
            .await
    };
    let calling = caller
        .message("late")
        .wait_for_interest(seconds(10))
        .timeout(seconds(20))
        .request();
    let (answer, _service) = tokio::join!(calling, serving);
    assert_eq!(answer?.payload(), "here");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_broker_answers_what_it_cannot_do_as_an_error() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let caller = world.client().await?;
    for (subject, code) in [("sys.nothing", 404), ("sys.kick.me", 422)] {
        let error = caller.request(subject, "").await?.into_result();
        let error = error.expect_err(subject);
        assert_eq!(error.code, code, "{error}");
        assert!(!error.text.is_empty());
    }
    let kicked = caller.request("sys.kick.4711", "").await?.into_result()?;
    assert_eq!(kicked.payload(), r#"{"kicked":false}"#);
    Ok(())
}
