//! Frames of another node about itself: members, interest, counts.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use dialtone_protocol::frame::link::{
    Count, Counted, DESTINATION_GROUPS_MAX, DESTINATION_SETS, DESTINATION_SETS_MAX, Destination,
    LINK_BATCH_MAX, NodeInfo,
};
use dialtone_protocol::frame::{Close, Link, Pong};
use dialtone_protocol::{Code, Frame, Violation};

use super::{Ending, LinkConn, apply};
use crate::cluster::counts::Asker;
use crate::cluster::end::Role;
use crate::cluster::handshake::seen_from_here;
use crate::cluster::interest::Cursor;
use crate::cluster::mirror::Verdict;
use crate::connection::effects::Effects;

impl LinkConn {
    /// A frame that is no message.
    pub(super) fn on_frame(
        &mut self,
        frame: Frame<'_>,
        effects: &mut Effects,
        now: Instant,
    ) -> Result<(), Ending> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "every other kind is a client's and out of place alike"
        )]
        match frame {
            Frame::Link(link) => self.on_link(link, effects).map_err(Ending::Own),
            Frame::Ping(ping) => {
                self.say_frame(&Frame::Pong(Pong { token: ping.token }));
                Ok(())
            }
            Frame::Pong(pong) => {
                self.on_pong(pong.token, now);
                Ok(())
            }
            Frame::Close(Close { code, text }) => Err(Ending::Other(if text.is_empty() {
                "the other node has ended it".to_owned()
            } else {
                format!("the other node has ended it: {text} ({})", code.number())
            })),
            other => Err(Ending::Own(out_of_place(other.name()))),
        }
    }

    /// What the other node says of itself means the host that it is seen at, as in its hello.
    fn on_members(&self, mut told: Vec<NodeInfo>) {
        let host = self.peer.about.remote.map(|remote| remote.ip().to_string());
        let end = self.link();
        for info in told.iter_mut().filter(|info| *info.name == *end.node) {
            seen_from_here(&mut info.addresses, host.as_deref());
            seen_from_here(&mut info.client_addresses, host.as_deref());
        }
        self.cluster.on_members(told);
    }

    fn on_pong(&mut self, token: u64, now: Instant) {
        if let Some(asked) = self.awaits_pong
            && asked.token == token
        {
            self.awaits_pong = None;
            let micros = now.saturating_duration_since(asked.sent).as_micros();
            let micros = u64::try_from(micros).unwrap_or(u64::MAX).max(1);
            self.link().figures.round_trip_us.store(micros, Relaxed);
        }
    }

    fn on_link(&mut self, link: Link, effects: &mut Effects) -> Result<(), Violation> {
        match link {
            Link::Members(told) => {
                check_batch(told.len())?;
                if self.link().role.is_member() {
                    self.on_members(told);
                }
                Ok(())
            }
            Link::Interest(changes) => {
                check_batch(changes.changes.len())?;
                self.on_interest(|mirror, apply| mirror.on_changes(&changes, apply))
            }
            Link::Snapshot(part) => {
                check_batch(part.patterns.len())?;
                self.on_interest(|mirror, apply| mirror.on_snapshot(&part, apply))
            }
            Link::Check(check) => {
                let verdict = self.mirror.on_check(&check);
                self.on_verdict(verdict);
                Ok(())
            }
            Link::Resync => {
                self.cursor = Cursor::Start;
                Ok(())
            }
            Link::Destination(destination) => self.on_destination(destination),
            Link::Count(count) => self.on_count(count, effects),
            Link::Counted(counted) => {
                if self.link().answered(counted.token) {
                    let Counted { token, count } = counted;
                    // Answers come in numbers, and go on with what else the turn has for a publisher.
                    if let Some((asker, sum)) = self.cluster.counts.answered(token, count) {
                        effects.tell(asker, sum);
                    }
                }
                Ok(())
            }
            Link::Leave => {
                if self.link().role.is_member() {
                    self.cluster.on_leave(&self.link().node);
                }
                Ok(())
            }
            Link::Hello(_) | Link::Proof(_) => Err(out_of_place(link.name())),
        }
    }

    fn on_interest(
        &mut self,
        hear: impl FnOnce(
            &mut crate::cluster::mirror::Mirror,
            &dyn Fn(&dialtone_protocol::frame::link::PatternInterest),
        ) -> Result<Verdict, Violation>,
    ) -> Result<(), Violation> {
        if matches!(self.link().role, Role::GatewayFrom(_)) {
            let text = "another cluster announces no interest on the links that it dials";
            return Err(Violation::new(Code::BadFrame, text));
        }
        let (shared, cluster, way) = (&self.shared, &self.cluster, &self.way);
        let verdict = hear(&mut self.mirror, &|interest| {
            apply(shared, cluster, way, interest);
        })?;
        self.on_verdict(verdict);
        Ok(())
    }

    fn on_verdict(&self, verdict: Verdict) {
        let figures = &self.link().figures;
        *figures.interest.lock() = self.mirror.status();
        if verdict == Verdict::Resync {
            figures.resyncs.fetch_add(1, Relaxed);
            let node = &self.link().node;
            tracing::warn!(%node, "the interest of a node differs from what is known, asking again");
            self.say(&Link::Resync);
        }
    }

    fn on_destination(&mut self, destination: Destination) -> Result<(), Violation> {
        let Destination { number, groups } = destination;
        let last = DESTINATION_SETS + 2 * DESTINATION_SETS_MAX;
        if !(DESTINATION_SETS..last).contains(&number.0) || groups.len() > DESTINATION_GROUPS_MAX {
            let text = format!("{number} is not the number of a set of queue groups");
            return Err(Violation::new(Code::BadFrame, text));
        }
        self.sets.insert(number.0, groups.into_boxed_slice());
        Ok(())
    }

    /// Notes a question that the next message answers, or answers how many got a fragmented message, once the nodes
    /// that it was passed on to have answered.
    fn on_count(&mut self, asked: Count, effects: &mut Effects) -> Result<(), Violation> {
        let Some(id) = asked.fragmented else {
            return match self.asked.replace(asked.token) {
                None => Ok(()),
                Some(_) => Err(Violation::new(
                    Code::BadFrame,
                    "a question for a count has no message",
                )),
            };
        };
        let asker = Asker::Node(Arc::clone(&self.peer), asked.token);
        match self.fragmented.iter().find(|known| known.id == id) {
            Some(known) => {
                let (count, onward) = (known.count, &known.onward);
                effects.ask_counts(&self.shared, asker, count, onward, known.own_id);
            }
            None => effects.tell(asker, 0),
        }
        Ok(())
    }
}

fn check_batch(len: usize) -> Result<(), Violation> {
    if len <= LINK_BATCH_MAX {
        return Ok(());
    }
    let text = format!("a batch of {len} is larger than {LINK_BATCH_MAX}");
    Err(Violation::new(Code::TooLarge, text))
}

fn out_of_place(name: &str) -> Violation {
    Violation::new(
        Code::BadFrame,
        format!("a {name} frame is out of place on a link"),
    )
}
