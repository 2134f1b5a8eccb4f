//! Congestion control: Cubic, with a bound on what can be useful to have in flight.
//!
//! Cubic grows its window until packets are lost, and on a short path none are: there the window fills the queue
//! between a sender and a busy receiver, and every small message waits behind it. A path with a known shortest round
//! trip cannot hold more than its rate times that time, so whatever exceeds the fastest rate expected is queue.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// The fastest path that is to be filled, in bytes per microsecond: 10 Gbit/s.
const RATE_MAX: u64 = 1_250;
/// What may be in flight on top, in bytes, so that ends that are late for their turn still have work.
const SLACK: u64 = 64 << 10;

/// Makes the congestion control of each path.
#[derive(Clone, Debug, Default)]
pub struct Congestion(Arc<CubicConfig>);

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Bounded {
            cubic: Cubic::new(Arc::clone(&self.0), now, current_mtu),
            useful: u64::MAX,
        })
    }
}

/// Cubic, bounded by what the path can hold.
#[derive(Clone, Debug)]
struct Bounded {
    cubic: Cubic,
    /// Most bytes that are useful in flight; unbounded until a round trip was measured.
    useful: u64,
}

/// Most bytes that are useful in flight on a path with this shortest round trip.
fn useful(rtt_min: Duration) -> u64 {
    let micros = u64::try_from(rtt_min.as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(RATE_MAX).saturating_add(SLACK)
}

impl Controller for Bounded {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.useful = useful(rtt.min());
        // A window that cannot be used must not grow, since it would say nothing about the path.
        let limited = app_limited || self.cubic.window() > self.useful;
        self.cubic.on_ack(now, sent, bytes, limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.useful)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_follows_the_shortest_round_trip() {
        assert_eq!(useful(Duration::ZERO), SLACK);
        assert_eq!(
            useful(Duration::from_millis(1)),
            SLACK + 1_250_000,
            "what 10 Gbit/s carry in a millisecond"
        );
        assert_eq!(useful(Duration::MAX), u64::MAX);
    }

    #[test]
    fn until_a_round_trip_is_measured_the_window_is_that_of_cubic() {
        let now = Instant::now();
        let controller = Arc::new(Congestion::default()).build(now, 1_200);
        assert_eq!(controller.window(), controller.initial_window());
    }
}
