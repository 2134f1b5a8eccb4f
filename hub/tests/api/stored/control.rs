//! Project control that writes down what it is asked for: what runs projects is tested where it is.

use std::collections::HashMap;
use std::net::IpAddr;

use dialtone_hub::control::{
    Address, Answer, Control, Copied, CopyPath, Error, Event, Phase, State, Status,
};
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::time::Time;
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// What was asked for, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Start(ProjectId),
    Stop(ProjectId),
    Touch(ProjectId, Option<AccountId>, bool),
    Copy(CopyPath),
    Quotas(ProjectId),
}

#[derive(Debug)]
pub(crate) struct Recorded {
    asked: Mutex<Vec<Asked>>,
    phases: Mutex<HashMap<ProjectId, Phase>>,
    events: broadcast::Sender<Event>,
    /// Whether it refuses everything, as one that does not work.
    pub(crate) broken: std::sync::atomic::AtomicBool,
}

impl Default for Recorded {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            phases: Mutex::default(),
            events: broadcast::Sender::new(1),
            broken: false.into(),
        }
    }
}

impl Recorded {
    /// What was asked for since it was last looked at.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock())
    }

    fn ask(&self, asked: Asked) {
        self.asked.lock().push(asked);
    }

    fn state_of(&self, id: ProjectId) -> State {
        let phase = self.phases.lock().get(&id).copied();
        State {
            phase: phase.unwrap_or(Phase::Opened),
            time: Time::from_millis(7),
            error: None,
            ip: None,
        }
    }

    fn go(&self, id: ProjectId, order: &'static str, phase: Phase) -> Result<State, Error> {
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Error::Failed {
                project_id: id,
                order,
                reason: "no machine has room".to_owned(),
            });
        }
        self.phases.lock().insert(id, phase);
        Ok(self.state_of(id))
    }
}

fn ready<'a, T: Send + 'a>(value: Result<T, Error>) -> Answer<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Control for Recorded {
    fn start(&self, id: ProjectId) -> Answer<'_, State> {
        self.ask(Asked::Start(id));
        ready(self.go(id, "start", Phase::Running))
    }

    fn stop(&self, id: ProjectId) -> Answer<'_, State> {
        self.ask(Asked::Stop(id));
        ready(self.go(id, "stop", Phase::Opened))
    }

    fn restart(&self, id: ProjectId) -> Answer<'_, State> {
        ready(self.go(id, "restart", Phase::Running))
    }

    fn state(&self, id: ProjectId) -> Answer<'_, State> {
        ready(Ok(self.state_of(id)))
    }

    fn status(&self, _: ProjectId) -> Answer<'_, Status> {
        ready(Ok(Status {
            ports: [("http".to_owned(), 8_080)].into(),
            ..Status::default()
        }))
    }

    fn touch(&self, id: ProjectId, account: Option<AccountId>, start: bool) -> Answer<'_, ()> {
        self.ask(Asked::Touch(id, account, start));
        ready(Ok(()))
    }

    fn copy_path(&self, copy: CopyPath) -> Answer<'_, Copied> {
        self.ask(Asked::Copy(copy));
        ready(Ok(Copied::Done))
    }

    fn set_all_quotas(&self, id: ProjectId) -> Answer<'_, ()> {
        self.ask(Asked::Quotas(id));
        ready(Ok(()))
    }

    fn address(&self, _: ProjectId) -> Answer<'_, Address> {
        ready(Ok(Address {
            ip: IpAddr::from([127, 0, 0, 1]),
            ports: [("http".to_owned(), 8_080)].into(),
            secret_token: "secret".to_owned(),
        }))
    }

    fn running_address(&self, _: ProjectId) -> Answer<'_, Option<Address>> {
        ready(Ok(None))
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
