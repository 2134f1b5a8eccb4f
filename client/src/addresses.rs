//! Which address to try next: those that were configured and those that the broker named. Pure.

use dialtone_transport::Endpoint;

/// Most addresses that are remembered from a broker.
const LEARNED_MAX: usize = 64;

/// The known addresses, and which of them is in use or was tried last.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    configured: Vec<Endpoint>,
    learned: Vec<Endpoint>,
    current: Option<Endpoint>,
}

impl Addresses {
    /// `start` chooses which of the configured addresses comes first; the others follow in their order.
    pub(crate) fn new(mut configured: Vec<Endpoint>, start: usize) -> Self {
        let start = start.checked_rem(configured.len()).unwrap_or(0);
        configured.rotate_left(start);
        Self {
            configured,
            learned: Vec::new(),
            current: None,
        }
    }

    /// Notes what the broker at the current address says about where else it can be reached.
    ///
    /// A text that is no address is skipped, and so is one that would give up the encryption that the current
    /// connection has: what follows carries credentials.
    pub(crate) fn learn(&mut self, addresses: &[String]) {
        self.learned = self.acceptable(addresses);
    }

    fn acceptable(&self, addresses: &[String]) -> Vec<Endpoint> {
        let encrypted = self.current.as_ref().is_some_and(Endpoint::is_encrypted);
        let parsed = addresses
            .iter()
            .filter_map(|text| text.parse::<Endpoint>().ok());
        parsed
            .filter(|endpoint| endpoint.is_encrypted() || !encrypted)
            .take(LEARNED_MAX)
            .collect()
    }

    /// Notes that `endpoint` is in use.
    pub(crate) fn using(&mut self, endpoint: &Endpoint) {
        self.current = Some(endpoint.clone());
    }

    /// Every known address once, in the order in which to try them after a connection was lost: the one that was in
    /// use comes last, since it has just failed.
    pub(crate) fn round(&self) -> Vec<Endpoint> {
        let mut round: Vec<Endpoint> = Vec::new();
        for endpoint in self.learned.iter().chain(&self.configured) {
            if !round.contains(endpoint) {
                round.push(endpoint.clone());
            }
        }
        if let Some(current) = &self.current
            && let Some(at) = round.iter().position(|endpoint| endpoint == current)
        {
            // Whoever comes after it is next, so that repeated losses walk through the whole list.
            round.rotate_left(at + 1);
        }
        round
    }

    /// Where to move when the current node drains: its own suggestions first, never the node itself.
    pub(crate) fn elsewhere(&self, suggested: &[String]) -> Vec<Endpoint> {
        let mut elsewhere = self.acceptable(suggested);
        for endpoint in self.round() {
            if !elsewhere.contains(&endpoint) {
                elsewhere.push(endpoint);
            }
        }
        elsewhere.retain(|endpoint| Some(endpoint) != self.current.as_ref());
        elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_start_is_shuffled_and_the_order_kept() {
        let addresses = Addresses::new(endpoints(&["ws://a", "ws://b", "ws://c"]), 4);
        assert_eq!(
            addresses.round(),
            endpoints(&["ws://b", "ws://c", "ws://a"])
        );
        assert_eq!(Addresses::new(Vec::new(), 7).round(), Vec::new());
    }

    #[test]
    fn the_lost_address_comes_last_and_learned_ones_are_tried() {
        let mut addresses = Addresses::new(endpoints(&["ws://a", "ws://b"]), 0);
        addresses.using(&"ws://a".parse().unwrap());
        assert_eq!(addresses.round(), endpoints(&["ws://b", "ws://a"]));
        addresses.learn(&texts(&["ws://n1", "nonsense", "ws://a"]));
        assert_eq!(
            addresses.round(),
            endpoints(&["ws://b", "ws://n1", "ws://a"])
        );
        assert_eq!(
            addresses.elsewhere(&texts(&["ws://n2"])),
            endpoints(&["ws://n2", "ws://b", "ws://n1"])
        );
        assert_eq!(
            addresses.elsewhere(&texts(&["ws://a"])),
            endpoints(&["ws://b", "ws://n1"])
        );
    }

    #[test]
    fn a_broker_cannot_talk_a_client_out_of_encryption() {
        let mut addresses = Addresses::new(endpoints(&["wss://a"]), 0);
        addresses.using(&"wss://a".parse().unwrap());
        addresses.learn(&texts(&["ws://b", "quic://c", "wss://d"]));
        assert_eq!(
            addresses.round(),
            endpoints(&["quic://c", "wss://d", "wss://a"])
        );
    }
}
