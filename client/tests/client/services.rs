//! Services: answers, errors, panics, stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dialtone_client::service::{Answer, ServiceError, ServiceOptions};
use dialtone_client::{Code, Encoding, Message, RequestError};

use crate::relay::clients;

async fn double(request: Message) -> Result<Answer, ServiceError> {
    let number: i64 = request.decode()?;
    assert!(number != 13, "unlucky");
    if number < 0 {
        return Err(ServiceError::new(422, "negative"));
    }
    Ok(Answer::json(&(2 * number))?)
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_and_failures_are_errors() {
    let clients = clients(2, |_| false).await;
    let (server, client) = (&clients[0], &clients[1]);
    let service = server.service("double", "0", double).await.unwrap();
    let ask = async |number: i64| {
        let answer = client
            .message("double")
            .json(&number)
            .unwrap()
            .request()
            .await
            .unwrap();
        answer.into_result()
    };
    assert_eq!(ask(21).await.unwrap().json::<i64>().unwrap(), 42);
    assert_eq!(
        ask(-1).await.unwrap_err(),
        ServiceError::new(422, "negative")
    );
    assert_eq!(ask(13).await.unwrap_err().code, 500);
    let garbage = client
        .message("double")
        .encoding(Encoding::Json)
        .payload("{")
        .request()
        .await
        .unwrap();
    assert_eq!(garbage.into_result().unwrap_err().code, 400);
    service.stop().await;
    let gone = client.request("double", "1").await.unwrap_err();
    assert!(matches!(gone, RequestError::NoSubscribers { .. }));
    assert_eq!(gone.code(), Code::NoSubscribers);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_requests_run_at_once_and_stopping_answers_all() {
    let clients = clients(2, |_| false).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move |_request: Message| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(
                    running.fetch_add(1, Ordering::Relaxed) + 1,
                    Ordering::Relaxed,
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
                running.fetch_sub(1, Ordering::Relaxed);
                Ok(Answer::new(Encoding::Json, "1"))
            }
        }
    };
    let options = ServiceOptions {
        concurrency_max: 3,
        ..ServiceOptions::default()
    };
    let service = clients[0]
        .service_with("slow", options, handler)
        .await
        .unwrap();
    let requests = futures_util::future::join_all((0..10).map(|_| clients[1].request("slow", "")));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        service.stop().await;
    };
    let (answers, ()) = tokio::join!(requests, stop);
    assert_eq!(answers.into_iter().flatten().count(), 10);
    assert_eq!(most.load(Ordering::Relaxed), 3);
}
