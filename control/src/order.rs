//! What an order means where another one was given before, and what one who waits for it is told. Pure.

use dialtone_hub::control::{Error, Phase, State, Verb};
use dialtone_hub::store::control::{Failure, Record};
use std::time::Duration;

/// What becomes of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is so already.
    Already,
    /// The order with this number does it.
    Join(i64),
    /// It takes a new order.
    New,
}

/// Decides what becomes of a wish about a project.
pub fn decide(record: &Record, verb: Verb) -> Decision {
    let pending = record.verb.filter(|_| record.is_pending());
    match (pending, verb) {
        (Some(Verb::Start | Verb::Restart), Verb::Start) | (Some(Verb::Stop), Verb::Stop) => {
            Decision::Join(record.ordered)
        }
        // One that nobody has begun with is as good as a new one.
        (Some(Verb::Restart), Verb::Restart) if !record.claimed => Decision::Join(record.ordered),
        (None, Verb::Start) if record.state.phase == Phase::Running && record.run_id.is_some() => {
            Decision::Already
        }
        (None, Verb::Stop) if record.run_id.is_none() && is_stopped(record.state.phase) => {
            Decision::Already
        }
        _ => Decision::New,
    }
}

fn is_stopped(phase: Phase) -> bool {
    match phase {
        Phase::Archived | Phase::Closed | Phase::Opened => true,
        Phase::Archiving
        | Phase::Unarchiving
        | Phase::Closing
        | Phase::Opening
        | Phase::Pending
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping => false,
    }
}

/// What one who waits for an order is told; `None` as long as it is not done.
pub fn verdict(record: &Record, number: i64, verb: Verb) -> Option<Result<State, Error>> {
    let superseded = |by: Verb| {
        Some(Err(Error::Superseded {
            project_id: record.project_id,
            order: verb.name(),
            by: by.name(),
        }))
    };
    if record.done < number {
        let by = record.verb.filter(|by| by.runs() != verb.runs());
        return match by {
            Some(by) if record.ordered > number => superseded(by),
            _ => None,
        };
    }
    match record.done_verb {
        Some(by) if by.runs() != verb.runs() => superseded(by),
        _ => Some(match &record.failure {
            None => Ok(record.state.clone()),
            Some(failure) => Err(failed(record, verb, failure)),
        }),
    }
}

fn failed(record: &Record, verb: Verb, failure: &Failure) -> Error {
    let (project_id, order) = (record.project_id, verb.name());
    match failure {
        Failure::Failed(reason) => Error::Failed {
            project_id,
            order,
            reason: reason.clone(),
        },
        Failure::Late(reason) => Error::Failed {
            project_id,
            order,
            reason: format!("it took too long: {reason}"),
        },
    }
}

/// The error of one who has waited as long as may be waited.
pub fn timed_out(record: &Record, verb: Verb, within: Duration) -> Error {
    Error::TimedOut {
        project_id: record.project_id,
        order: verb.name(),
        within,
    }
}

#[cfg(test)]
mod tests {
    use dialtone_hub::id::ProjectId;
    use dialtone_hub::time::Time;
    use serde_json::json;

    use super::*;

    fn record(ordered: (i64, Option<Verb>), done: i64, phase: Phase) -> Record {
        Record {
            project_id: ProjectId::random(),
            deleted: false,
            state: State {
                phase,
                time: Time::from_millis(1),
                error: None,
                ip: None,
            },
            ordered: ordered.0,
            verb: ordered.1,
            reason: None,
            done,
            done_verb: ordered.1.filter(|_| done == ordered.0),
            failure: None,
            generation: 0,
            claimed: false,
            host: None,
            run_id: (phase == Phase::Running).then(uuid::Uuid::new_v4),
            run: None,
            run_quota: None,
            env: json!({}),
            compute_image: None,
        }
    }

    #[test]
    fn a_wish_joins_what_is_under_way_and_replaces_what_contradicts_it() {
        use Decision::{Already, Join, New};
        use Verb::{Restart, Start, Stop};
        let table = [
            (record((0, None), 0, Phase::Opened), [New, Already, New]),
            (
                record((4, Some(Start)), 4, Phase::Running),
                [Already, New, New],
            ),
            (
                record((5, Some(Start)), 4, Phase::Opened),
                [Join(5), New, New],
            ),
            (
                record((5, Some(Stop)), 4, Phase::Running),
                [New, Join(5), New],
            ),
            (
                record((5, Some(Restart)), 4, Phase::Running),
                [Join(5), New, Join(5)],
            ),
        ];
        for (record, expected) in table {
            let decided = [Start, Stop, Restart].map(|verb| decide(&record, verb));
            assert_eq!(decided, expected, "{record:?}");
        }
        let mut begun = record((5, Some(Restart)), 4, Phase::Running);
        begun.claimed = true;
        assert_eq!(decide(&begun, Restart), New);
    }

    #[test]
    fn who_waits_is_told_what_became_of_it() {
        let mut seen = record((5, Some(Verb::Start)), 4, Phase::Starting);
        assert!(verdict(&seen, 5, Verb::Start).is_none());
        seen.done = 5;
        seen.done_verb = Some(Verb::Start);
        assert!(verdict(&seen, 5, Verb::Start).unwrap().is_ok());
        seen.failure = Some(Failure::Failed("no room".to_owned()));
        let told = verdict(&seen, 5, Verb::Start).unwrap().unwrap_err();
        assert!(
            told.to_string().ends_with("could not start: no room"),
            "{told}"
        );
        // Somebody has ordered a stop meanwhile: known at once, and after that was done.
        let mut replaced = record((6, Some(Verb::Stop)), 4, Phase::Starting);
        for done in [4, 6] {
            replaced.done = done;
            replaced.done_verb = Some(Verb::Stop).filter(|_| done == 6);
            let told = verdict(&replaced, 5, Verb::Start).unwrap().unwrap_err();
            assert!(
                matches!(told, Error::Superseded { by: "stop", .. }),
                "{told}"
            );
        }
        // Another start has done what a start wanted.
        let mut again = record((7, Some(Verb::Restart)), 7, Phase::Running);
        again.done_verb = Some(Verb::Restart);
        assert!(verdict(&again, 5, Verb::Start).unwrap().is_ok());
    }
}
