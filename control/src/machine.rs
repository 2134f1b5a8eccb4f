//! One order being carried out, without I/O: what was found and done goes in, what to do next comes out.
//!
//! ```text
//!             ┌───────────────────── replaced by another order ─────────────────────┐
//!             ▼                                                                     │
//!   ──▶ observe ──▶ tell starting ──▶ (end) ──▶ launch ──▶ await ready ──▶ finish   │
//!          │                            ▲          │            │                   │
//!          │                            └── failed ┴── died ────┴── late            │
//!          └──────▶ tell stopping ──▶ end ──▶ finish, or tell starting ─────────────┘
//! ```
//!
//! An executor that takes over from one that is gone begins with [`Machine::new`] like every other: what is there is
//! observed, never remembered.

use dialtone_hub::control::{Phase, Verb};
use dialtone_hub::store::control::Failure;
use serde::{Deserialize, Serialize};

/// What was ordered, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Later orders have higher ones.
    pub number: i64,
    /// What it says.
    pub verb: Verb,
}

/// What is there of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Nothing.
    Absent,
    /// Processes without the one that was started.
    Remains,
    /// What was started lives, and does not answer yet.
    Alive,
    /// It answers.
    Ready,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The answer to [`Action::Observe`].
    Observed(Observed),
    /// The state was written down.
    Told,
    /// Nothing is left of it.
    Ended,
    /// Something is left of it that does not end.
    NotEnded(String),
    /// It was started.
    Launched,
    /// It could not be started, for a reason that its users can be told.
    NotLaunched(String),
    /// It answers.
    Ready,
    /// It ended before it answered.
    Died(String),
    /// It did not answer in time, with what was waited for.
    Late(String),
    /// Something else was ordered meanwhile. May come instead of any other.
    Replaced(Order),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Find out what is there.
    Observe,
    /// Write down what it does.
    Tell(Phase),
    /// End whatever is there of it.
    End,
    /// Start it. Nothing is there of it.
    Launch,
    /// Wait until it answers.
    AwaitReady,
    /// Write down what became of the order: the last action.
    Finish(Outcome),
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which one.
    pub order: Order,
    /// Whether the project runs now.
    pub runs: bool,
    /// Why it was not done, if it was not.
    #[serde(with = "failure", default)]
    pub failure: Option<Failure>,
}

/// A failure as workers tell it: its kind and its text.
mod failure {
    use super::Failure;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "the form that serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        failure: &Option<Failure>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        failure.as_ref().map(Failure::parts).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Failure>, D::Error> {
        let parts: Option<(String, String)> = Option::deserialize(from)?;
        Ok(parts.map(|(kind, text)| match kind.as_str() {
            "late" => Failure::Late(text),
            _ => Failure::Failed(text),
        }))
    }
}

/// What comes after the end of what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    Finish(Option<Failure>),
    Launch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Observing,
    TellingStarting(Next),
    TellingStopping(Then),
    Ending(Then),
    Launching,
    Awaiting,
    Finished,
}

/// What comes after others know that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Await,
    End,
    Launch,
}

/// An order being carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    order: Order,
    /// The number of the order for which what is there was started.
    started_for: Option<i64>,
    stage: Stage,
}

impl Machine {
    /// Begins. `started_for` is the number of the order for which what is recorded as running was started.
    pub fn new(order: Order, started_for: Option<i64>) -> (Self, Action) {
        let machine = Self {
            order,
            started_for,
            stage: Stage::Observing,
        };
        (machine, Action::Observe)
    }

    /// The order that is carried out.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Goes on. An input that does not fit is answered by looking anew at what is there.
    pub fn on(&mut self, input: Input) -> Action {
        if let Input::Replaced(order) = input {
            return self.replaced(order);
        }
        match (std::mem::replace(&mut self.stage, Stage::Finished), input) {
            (Stage::Observing, Input::Observed(observed)) => self.observed(observed),
            (Stage::TellingStarting(next), Input::Told) => match next {
                Next::Await => self.go(Stage::Awaiting, Action::AwaitReady),
                Next::End => self.go(Stage::Ending(Then::Launch), Action::End),
                Next::Launch => self.go(Stage::Launching, Action::Launch),
            },
            (Stage::TellingStopping(then), Input::Told) => {
                self.go(Stage::Ending(then), Action::End)
            }
            (Stage::Ending(Then::Launch), Input::Ended) => self.starting(Next::Launch),
            (Stage::Ending(Then::Finish(failure)), Input::Ended) => self.finish(false, failure),
            (Stage::Ending(then), Input::NotEnded(reason)) => {
                let failure = match then {
                    Then::Finish(Some(failure)) => failure,
                    Then::Finish(None) | Then::Launch => Failure::Failed(reason),
                };
                // It is not forgotten, so that it can be ended later.
                self.finish(true, Some(failure))
            }
            (Stage::Launching, Input::Launched) => {
                self.started_for = Some(self.order.number);
                self.go(Stage::Awaiting, Action::AwaitReady)
            }
            (Stage::Launching, Input::NotLaunched(reason))
            | (Stage::Awaiting, Input::Died(reason)) => self.failed(Failure::Failed(reason)),
            (Stage::Awaiting, Input::Ready) => self.finish(true, None),
            (Stage::Awaiting, Input::Late(reason)) => self.failed(Failure::Late(reason)),
            _ => self.go(Stage::Observing, Action::Observe),
        }
    }

    fn observed(&mut self, observed: Observed) -> Action {
        let done_before = self.started_for == Some(self.order.number);
        match (self.order.verb, observed) {
            (Verb::Stop, Observed::Absent) => self.finish(false, None),
            (Verb::Stop, Observed::Remains | Observed::Alive | Observed::Ready) => {
                self.stopping(Then::Finish(None))
            }
            (Verb::Restart, Observed::Alive | Observed::Ready) if !done_before => {
                self.stopping(Then::Launch)
            }
            (Verb::Start | Verb::Restart, Observed::Ready) => self.finish(true, None),
            (Verb::Start | Verb::Restart, Observed::Alive) => self.starting(Next::Await),
            (Verb::Start | Verb::Restart, Observed::Remains) => self.starting(Next::End),
            (Verb::Start | Verb::Restart, Observed::Absent) => self.starting(Next::Launch),
        }
    }

    /// Of two orders that want it to run, the second is a new name for the first, unless it wants a new start.
    fn replaced(&mut self, order: Order) -> Action {
        self.order = order;
        self.go(Stage::Observing, Action::Observe)
    }

    fn failed(&mut self, failure: Failure) -> Action {
        self.go(Stage::Ending(Then::Finish(Some(failure))), Action::End)
    }

    fn starting(&mut self, next: Next) -> Action {
        self.go(Stage::TellingStarting(next), Action::Tell(Phase::Starting))
    }

    fn stopping(&mut self, then: Then) -> Action {
        self.go(Stage::TellingStopping(then), Action::Tell(Phase::Stopping))
    }

    fn finish(&mut self, runs: bool, failure: Option<Failure>) -> Action {
        let outcome = Outcome {
            order: self.order,
            runs,
            failure,
        };
        self.go(Stage::Finished, Action::Finish(outcome))
    }

    fn go(&mut self, stage: Stage, action: Action) -> Action {
        self.stage = stage;
        action
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A project as it is: processes and the order for which they were started.
    #[derive(Debug, Clone, Default)]
    struct World {
        leader: bool,
        ready: bool,
        children: bool,
        started_for: Option<i64>,
        launches: usize,
    }

    /// What may go wrong, or come between, at a step.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Chance {
        Fine,
        Fails,
        ExecutorDies,
        ProjectDies,
        Start,
        Stop,
        Restart,
    }

    fn chance() -> impl Strategy<Value = Chance> {
        prop_oneof![
            8 => Just(Chance::Fine),
            2 => Just(Chance::Fails),
            2 => Just(Chance::ExecutorDies),
            2 => Just(Chance::ProjectDies),
            1 => Just(Chance::Start),
            1 => Just(Chance::Stop),
            1 => Just(Chance::Restart),
        ]
    }

    impl World {
        fn observe(&self) -> Observed {
            match (self.leader, self.ready, self.children) {
                (true, true, _) => Observed::Ready,
                (true, false, _) => Observed::Alive,
                (false, _, true) => Observed::Remains,
                (false, _, false) => Observed::Absent,
            }
        }

        fn dies(&mut self) {
            if self.leader {
                (self.leader, self.ready, self.children) = (false, false, true);
            }
        }

        fn act(&mut self, action: &Action, order: Order, fails: bool) -> Input {
            match action {
                Action::Observe => Input::Observed(self.observe()),
                Action::Tell(_) => Input::Told,
                Action::End if fails => Input::NotEnded("it stays".to_owned()),
                Action::End => {
                    (self.leader, self.ready, self.children) = (false, false, false);
                    Input::Ended
                }
                Action::Launch => {
                    assert_eq!(self.observe(), Observed::Absent, "never started twice");
                    if fails {
                        self.children = true;
                        return Input::NotLaunched("no room".to_owned());
                    }
                    self.leader = true;
                    self.started_for = Some(order.number);
                    self.launches += 1;
                    Input::Launched
                }
                Action::AwaitReady if !self.leader => Input::Died("gone".to_owned()),
                Action::AwaitReady if fails => Input::Late("its port".to_owned()),
                Action::AwaitReady => {
                    self.ready = true;
                    Input::Ready
                }
                Action::Finish(_) => unreachable!("nothing comes after it"),
            }
        }
    }

    fn run(verb: Verb, mut world: World, chances: &[Chance]) -> (World, Order, Outcome) {
        let mut order = Order { number: 1, verb };
        let (mut machine, mut action) = Machine::new(order, world.started_for);
        let mut chances = chances.iter().copied();
        for _ in 0..500 {
            if let Action::Finish(outcome) = action {
                if outcome.order == order {
                    return (world, order, outcome);
                }
                // What was ordered after its last look is the next one's.
                (machine, action) = Machine::new(order, world.started_for);
                continue;
            }
            let chance = chances.next().unwrap_or(Chance::Fine);
            let verb = match chance {
                Chance::Fine | Chance::Fails => None,
                Chance::ExecutorDies => {
                    (machine, action) = Machine::new(order, world.started_for);
                    continue;
                }
                Chance::ProjectDies => {
                    world.dies();
                    None
                }
                Chance::Start => Some(Verb::Start),
                Chance::Stop => Some(Verb::Stop),
                Chance::Restart => Some(Verb::Restart),
            };
            let input = match verb {
                Some(verb) => {
                    order = Order {
                        number: order.number + 1,
                        verb,
                    };
                    Input::Replaced(order)
                }
                None => world.act(&action, machine.order(), chance == Chance::Fails),
            };
            action = machine.on(input);
        }
        panic!("it does not come to an end: {machine:?}, {world:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever goes wrong: what is told is what is there, and without a failure it is what was ordered last.
        #[test]
        fn each_order_ends_as_it_is_told(
            verb in prop_oneof![Just(Verb::Start), Just(Verb::Stop), Just(Verb::Restart)],
            leader in any::<bool>(),
            ready in any::<bool>(),
            children in any::<bool>(),
            chances in proptest::collection::vec(chance(), 0..40),
        ) {
            let world = World { leader, ready: leader && ready, children, ..World::default() };
            let (world, order, outcome) = run(verb, world, &chances);
            prop_assert_eq!(outcome.order, order);
            if !outcome.runs {
                prop_assert_eq!(world.observe(), Observed::Absent, "nothing is left behind");
            }
            if outcome.failure.is_none() {
                prop_assert_eq!(outcome.runs, order.verb.runs());
            }
        }

        /// When nothing fails, a restart starts exactly once, also when executors are replaced in the middle.
        #[test]
        fn a_restart_is_one_start(deaths in proptest::collection::vec(any::<bool>(), 0..30)) {
            let world = World { leader: true, ready: true, ..World::default() };
            let chances: Vec<Chance> = deaths
                .iter()
                .map(|dies| if *dies { Chance::ExecutorDies } else { Chance::Fine })
                .collect();
            let (world, _, outcome) = run(Verb::Restart, world, &chances);
            prop_assert!(outcome.runs && outcome.failure.is_none());
            prop_assert_eq!(world.launches, 1);
        }
    }

    #[test]
    fn what_runs_is_not_started_again() {
        let world = World {
            leader: true,
            ready: true,
            ..World::default()
        };
        let (world, _, outcome) = run(Verb::Start, world, &[]);
        assert_eq!(world.launches, 0);
        assert!(outcome.runs);
    }

    #[test]
    fn an_outcome_is_the_same_after_its_way_over_the_wire() {
        let outcome = Outcome {
            order: Order {
                number: 3,
                verb: Verb::Start,
            },
            runs: false,
            failure: Some(Failure::Late("its port".to_owned())),
        };
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }
}
