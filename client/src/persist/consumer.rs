//! [`Consumer`]: a place in a stream that the service keeps, and the deliveries from there.

use std::collections::VecDeque;
use std::time::Duration;

use super::call::Repeat;
use super::error::{AckError, CallError, OpenError};
use super::record::millis;
use super::stream::Stream;
use super::wire::{
    Ack, AckKind, Acked, ConsumerConfig, ConsumerCreate, ConsumerDelete, ConsumerInfo,
    ConsumerList, ConsumerNames, ConsumerShow, Deleted, Delivery, Fetch, Fetched, Request,
    StoredRecord, WAIT_MS_MAX,
};

/// How long a fetch of [`Consumer::next`] lets the service wait.
const NEXT_WAIT: Duration = Duration::from_secs(30);

impl Stream {
    /// Makes a consumer, or takes over one that begins at the same place; its other settings become these.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when one of that name begins elsewhere or with another prefix.
    pub async fn consumer(
        &self,
        name: impl Into<String>,
        config: ConsumerConfig,
    ) -> Result<Consumer, OpenError> {
        self.make_consumer(name.into(), config, true).await
    }

    /// Makes a consumer.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when there is one of that name.
    pub async fn create_consumer(
        &self,
        name: impl Into<String>,
        config: ConsumerConfig,
    ) -> Result<Consumer, OpenError> {
        self.make_consumer(name.into(), config, false).await
    }

    async fn make_consumer(
        &self,
        name: String,
        config: ConsumerConfig,
        exist_ok: bool,
    ) -> Result<Consumer, OpenError> {
        let request = Request::ConsumerCreate(ConsumerCreate {
            stream: self.name().to_owned(),
            consumer: name.clone(),
            config,
            exist_ok,
        });
        let manner = self.manner(Repeat::of_making(exist_ok));
        let made: Result<ConsumerInfo, _> = self.ask(&request, manner).await;
        made.map_err(|error| OpenError::of(self.name(), error))?;
        Ok(self.consumer_handle(name))
    }

    /// A consumer by its name, without asking whether there is one.
    pub fn consumer_handle(&self, name: impl Into<String>) -> Consumer {
        Consumer {
            stream: self.clone(),
            name: name.into(),
            batch: 64,
            waiting: VecDeque::new(),
        }
    }

    /// The names of the stream's consumers.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn consumers(&self) -> Result<Vec<String>, CallError> {
        let request = Request::ConsumerList(ConsumerList {
            stream: self.name().to_owned(),
        });
        let names: ConsumerNames = self.ask(&request, self.manner(Repeat::Safe)).await?;
        Ok(names.consumers)
    }
}

/// A place in a stream that the service keeps and several processes may share: each record is delivered to one of them,
/// and again to somebody when it is not acknowledged in time.
#[derive(Debug)]
pub struct Consumer {
    stream: Stream,
    name: String,
    batch: u32,
    waiting: VecDeque<Delivery>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets how many deliveries [`next`](Self::next) takes at once; 64 by default. All of them are to be acknowledged
    /// within the consumer's `ack_wait`, so that slow work wants few.
    pub fn batch(mut self, batch: u32) -> Self {
        self.batch = batch.max(1);
        self
    }

    /// The next delivery, however long that takes.
    ///
    /// # Errors
    /// When the service refuses. Lost connections and nodes are waited for.
    pub async fn next(&mut self) -> Result<Job, CallError> {
        loop {
            if let Some(delivery) = self.waiting.pop_front() {
                return Ok(self.job(delivery));
            }
            self.waiting = self.fetch_raw(self.batch, NEXT_WAIT, true).await?.into();
        }
    }

    /// Up to `max` deliveries; waits up to `wait` (at most 60 s) for the first one.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn fetch(&self, max: u32, wait: Duration) -> Result<Vec<Job>, CallError> {
        let deliveries = self.fetch_raw(max, wait, false).await?;
        Ok(deliveries
            .into_iter()
            .map(|delivery| self.job(delivery))
            .collect())
    }

    async fn fetch_raw(
        &self,
        max: u32,
        wait: Duration,
        forever: bool,
    ) -> Result<Vec<Delivery>, CallError> {
        let wait = wait.min(Duration::from_millis(WAIT_MS_MAX.into()));
        let request = Request::Fetch(Fetch {
            stream: self.stream.name().to_owned(),
            consumer: self.name.clone(),
            max_msgs: max,
            max_bytes: None,
            wait: u32::try_from(wait.as_millis()).unwrap_or(WAIT_MS_MAX),
        });
        // What is delivered in an answer that is lost is delivered again after the deadline.
        let manner = self.stream.manner(Repeat::Safe).waiting(wait);
        let manner = if forever { manner.forever() } else { manner };
        let fetched: Fetched = self.stream.ask(&request, manner).await?;
        Ok(fetched.deliveries)
    }

    fn job(&self, delivery: Delivery) -> Job {
        Job {
            stream: self.stream.clone(),
            consumer: self.name.clone(),
            delivery,
        }
    }

    /// The consumer as it is.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn info(&self) -> Result<ConsumerInfo, CallError> {
        let request = Request::ConsumerInfo(ConsumerShow {
            stream: self.stream.name().to_owned(),
            consumer: self.name.clone(),
        });
        self.stream
            .ask(&request, self.stream.manner(Repeat::Safe))
            .await
    }

    /// Deletes the consumer; whether there was one.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn delete(self) -> Result<bool, CallError> {
        let request = Request::ConsumerDelete(ConsumerDelete {
            stream: self.stream.name().to_owned(),
            consumer: self.name.clone(),
        });
        let manner = self.stream.manner(Repeat::Refused);
        let deleted: Deleted = self.stream.ask(&request, manner).await?;
        Ok(deleted.deleted)
    }

    /// Acknowledges many deliveries in one request; the numbers of those that are not pending any more.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn ack_all(&self, jobs: &[Job]) -> Result<Vec<u64>, CallError> {
        let deliveries = jobs
            .iter()
            .map(|job| (job.delivery.record.seq, job.delivery.token))
            .collect();
        say(&self.stream, &self.name, deliveries, AckKind::Ack).await
    }
}

async fn say(
    stream: &Stream,
    consumer: &str,
    deliveries: Vec<(u64, u64)>,
    kind: AckKind,
) -> Result<Vec<u64>, CallError> {
    let request = Request::Ack(Ack {
        stream: stream.name().to_owned(),
        consumer: consumer.to_owned(),
        deliveries,
        kind,
    });
    let acked: Acked = stream.ask(&request, stream.manner(Repeat::Safe)).await?;
    Ok(acked.not_pending)
}

/// A record that is to be worked on, and how to say what became of it. One that is dropped without a word is delivered
/// again after the consumer's `ack_wait`.
#[derive(Debug)]
#[must_use = "what is not acknowledged is delivered again"]
pub struct Job {
    stream: Stream,
    consumer: String,
    delivery: Delivery,
}

impl Job {
    /// The record.
    pub fn record(&self) -> &StoredRecord {
        &self.delivery.record
    }

    /// How often the record was delivered, with this time.
    pub fn deliveries(&self) -> u32 {
        self.delivery.deliveries
    }

    /// Until when it is to be acknowledged, in milliseconds since 1970 by the service's clock.
    pub fn deadline(&self) -> u64 {
        self.delivery.deadline
    }

    /// It is done. When this returns, the acknowledgement is as durable as the stream.
    ///
    /// # Errors
    /// When the delivery is not pending any more, or the service is not reached.
    pub async fn ack(self) -> Result<(), AckError> {
        self.say(AckKind::Ack).await
    }

    /// It is not done: it is to be delivered again after `delay`.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn nack(self, delay: Duration) -> Result<(), AckError> {
        self.say(AckKind::Nack(millis(delay))).await
    }

    /// It is still being worked on: the deadline begins anew.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn in_progress(&self) -> Result<(), AckError> {
        self.say(AckKind::Progress).await
    }

    /// It is never to be delivered again, though it was not done; it goes to the dead-letter stream.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn terminate(self) -> Result<(), AckError> {
        self.say(AckKind::Terminate).await
    }

    async fn say(&self, kind: AckKind) -> Result<(), AckError> {
        let seq = self.delivery.record.seq;
        let delivery = (seq, self.delivery.token);
        let not_pending = say(&self.stream, &self.consumer, vec![delivery], kind).await?;
        if not_pending.is_empty() {
            Ok(())
        } else {
            Err(AckError::NotPending { seq })
        }
    }
}
