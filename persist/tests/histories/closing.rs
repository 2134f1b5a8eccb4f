//! A stream that its node has lost cannot be closed while the store does not answer.

use dialtone_client::persist::wire::Config;
use tokio::time::sleep;

use crate::fleet::{Fleet, LEASE};
use crate::store::Way;

#[tokio::test(start_paused = true)]
async fn what_is_over_in_a_stream_that_is_being_closed_keeps_nobody_busy() {
    let fleet = Fleet::new(1).await;
    let persist = fleet.persist().await;
    let config = Config {
        max_age: 500,
        ..Config::default()
    };
    let stream = persist.create("s", config).await.unwrap();
    stream.append("over soon").await.unwrap();
    let going_on = async {
        fleet.part_all(Way::Held);
        // The time of the test stands still for ever if somebody is always busy.
        sleep(LEASE * 3).await;
        fleet.part_all(Way::Open);
    };
    let (written, ()) = tokio::join!(stream.append("under way"), going_on);
    // It was under way when the stream was lost.
    drop(written);
    sleep(LEASE).await;
    assert_eq!(stream.info().await.unwrap().messages, 0);
}
