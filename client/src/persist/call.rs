//! Asking the service: where, for how long, and when once more. Nothing above this repeats a request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::{CallError, is_lost, is_passing};
use super::name::Owner;
use super::wire::{Fault, FaultKind, Request, decode, encode};
use crate::client::Client;
use crate::error::RequestError;
use crate::payload::Encoding;

/// How long the first attempt may take beyond what it asks the service to wait, and twice as long after each that took
/// too long. A message that is lost with the service's connection is missed by nobody else.
const ATTEMPT_MIN: Duration = Duration::from_secs(10);

/// How long an attempt may take at most.
const ATTEMPT_MAX: Duration = Duration::from_mins(10);

/// How slow a link may be, in bytes per second: large requests may take longer.
const LINK_BYTES_PER_SECOND: u64 = 64 << 10;

/// The first wait before a request is repeated.
const BACKOFF_MIN: Duration = Duration::from_millis(150);

/// The longest wait before a request is repeated.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// How often a request follows `moved` before it waits: a node that has just lost a stream may not know who has it.
const HOPS_MAX: u32 = 3;

/// Whether a request may be repeated when nobody knows whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Carrying it out twice is the same as once.
    Safe,
    /// It is repeated only when it was certainly not carried out.
    Refused,
}

impl Repeat {
    /// For making something that may exist, which can be done twice, or that must not: there a repetition would find
    /// the work of the first attempt and call it a failure.
    pub(super) fn of_making(exist_ok: bool) -> Self {
        if exist_ok { Self::Safe } else { Self::Refused }
    }
}

/// How a request is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) repeat: Repeat,
    /// How long the service may wait before it answers.
    pub(super) wait: Duration,
    /// How long all attempts together may take beyond `wait`; for ever where it is missing.
    pub(super) within: Option<Duration>,
}

/// The node that had the stream when it was asked last, as the subject to ask it at.
#[derive(Debug, Clone, Default)]
pub(super) struct Route(Arc<Mutex<Option<Arc<str>>>>);

/// Where and how the service is asked. Cloning costs a few reference counts.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) owner: Owner,
    any: Arc<str>,
    /// How long all attempts together may take.
    pub(super) timeout: Duration,
    /// How long a service that nobody provides is waited for.
    pub(super) service_wait: Duration,
}

impl Caller {
    pub(super) fn new(client: Client, owner: Owner) -> Self {
        let any = owner.call_subject().into();
        Self {
            client,
            owner,
            any,
            timeout: Duration::from_secs(30),
            service_wait: Duration::from_secs(10),
        }
    }

    /// The manner of requests that are answered at once.
    pub(super) fn manner(&self, repeat: Repeat) -> Manner {
        Manner {
            repeat,
            wait: Duration::ZERO,
            within: Some(self.timeout),
        }
    }

    /// Asks until there is an answer, or a reason not to go on.
    pub(super) async fn call<A: DeserializeOwned>(
        &self,
        request: &Request,
        route: &Route,
        manner: Manner,
    ) -> Result<A, CallError> {
        let payload: Bytes = encode(request, Encoding::MessagePack)?.into();
        let mut attempts = Attempts::new(manner, payload.len() as u64);
        loop {
            let node = route.0.lock().clone();
            let subject = node.as_deref().unwrap_or(&self.any);
            let error = match self.attempt(subject, &payload, attempts.limit()?).await {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            let pause = attempts.pause(error, node.is_some(), route, self)?;
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once. The outer error is what may be a reason to ask again.
    async fn attempt<A: DeserializeOwned>(
        &self,
        subject: &str,
        payload: &Bytes,
        limit: Duration,
    ) -> Result<Result<A, CallError>, CallError> {
        let draft = self.client.message(subject).encoding(Encoding::MessagePack);
        let message = draft
            .payload(payload)
            .timeout(limit)
            .request()
            .await
            .map_err(CallError::from)?;
        if message.header_bytes().is_some() {
            let headers = message
                .headers()
                .map_err(|error| CallError::Answer(super::error::with_cause(&error)))?;
            if let Some(fault) = Fault::from_headers(&headers) {
                return Err(CallError::Fault(fault));
            }
        }
        Ok(decode(message.payload(), message.encoding()).map_err(Into::into))
    }
}

/// How the attempts at one request go.
struct Attempts {
    manner: Manner,
    began: Instant,
    /// How long the next attempt may take.
    patience: Duration,
    backoff: Duration,
    hops: u32,
    /// Since when nobody provides the service.
    absent_since: Option<Instant>,
    /// Why nobody knows whether an earlier attempt was carried out. Giving up must not hide that behind what is known
    /// of the last one.
    lost: Option<CallError>,
}

impl Attempts {
    fn new(manner: Manner, len: u64) -> Self {
        Self {
            manner,
            began: Instant::now(),
            patience: ATTEMPT_MIN + Duration::from_secs(len / LINK_BYTES_PER_SECOND),
            backoff: BACKOFF_MIN,
            hops: 0,
            absent_since: None,
            lost: None,
        }
    }

    /// How long the next attempt may take.
    fn limit(&self) -> Result<Duration, CallError> {
        let limit = self.patience + self.manner.wait;
        let Some(whole) = self.whole() else {
            return Ok(limit);
        };
        let left = whole.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Err(CallError::TimedOut { limit: whole });
        }
        match self.manner.repeat {
            Repeat::Safe => Ok(limit.min(left)),
            // There is no second one.
            Repeat::Refused => Ok(left),
        }
    }

    /// How long all attempts together may take.
    fn whole(&self) -> Option<Duration> {
        Some(self.manner.within? + self.manner.wait)
    }

    /// How long to wait before the next attempt, or the reason not to make one.
    fn pause(
        &mut self,
        error: CallError,
        at_node: bool,
        route: &Route,
        caller: &Caller,
    ) -> Result<Duration, CallError> {
        let asked_for = match &error {
            CallError::Fault(fault) if fault.kind == FaultKind::Moved => {
                let node = fault
                    .node
                    .as_ref()
                    .map(|node| caller.owner.node_subject(node));
                let known = node.is_some();
                *route.0.lock() = node.map(Into::into);
                self.hops += 1;
                if known && self.hops <= HOPS_MAX {
                    return Ok(Duration::ZERO);
                }
                None
            }
            CallError::Fault(fault) if is_passing(fault.kind) => {
                *route.0.lock() = None;
                fault.retry_after.map(Duration::from_millis)
            }
            // The node is gone; any other one knows who has the stream now.
            CallError::NoService { .. } if at_node => {
                *route.0.lock() = None;
                return Ok(Duration::ZERO);
            }
            CallError::NoService { .. } => {
                self.check_absence(caller, &error)?;
                None
            }
            CallError::Request(lost) if is_lost(lost) && self.manner.repeat == Repeat::Safe => {
                *route.0.lock() = None;
                self.lost = Some(error.clone());
                if matches!(lost, RequestError::TimedOut(_)) {
                    self.patience = (self.patience * 2).min(ATTEMPT_MAX);
                }
                None
            }
            CallError::Request(RequestError::TimedOut(_)) => {
                let limit = self.began.elapsed();
                return Err(CallError::TimedOut { limit });
            }
            CallError::Fault(_)
            | CallError::Request(_)
            | CallError::TimedOut { .. }
            | CallError::Encode(_)
            | CallError::Answer(_) => return Err(error),
        };
        let pause = asked_for.unwrap_or_else(|| self.next_backoff());
        match self.whole() {
            Some(limit) if self.began.elapsed() + pause >= limit => {
                if matches!(error, CallError::Request(RequestError::TimedOut(_))) {
                    return Err(CallError::TimedOut { limit });
                }
                Err(self.lost.take().unwrap_or(error))
            }
            _ => Ok(pause),
        }
    }

    fn check_absence(&mut self, caller: &Caller, error: &CallError) -> Result<(), CallError> {
        let since = *self.absent_since.get_or_insert_with(Instant::now);
        if self.manner.within.is_some() && since.elapsed() >= caller.service_wait {
            return Err(self.lost.take().unwrap_or_else(|| error.clone()));
        }
        Ok(())
    }

    fn next_backoff(&mut self) -> Duration {
        let pause = self.backoff;
        self.backoff = pause.mul_f64(1.3).min(BACKOFF_MAX);
        // Those who lost the same node do not all come back at the same moment.
        pause.mul_f64(0.8 + 0.4 * rand::random::<f64>())
    }
}
