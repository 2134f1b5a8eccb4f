//! Judges a configuration of the cluster before anything is started.

use dialtone_transport::Endpoint;

use super::config::{Config, NAME_LEN_MAX, Trust};

/// What is wrong with a configuration, for people.
pub(crate) fn check(config: &Config, frame_len_needed: u64) -> Result<(), String> {
    check_name(&config.name)?;
    for gateway in &config.gateways {
        check_name(&gateway.name)?;
        if gateway.name == config.name {
            return Err(format!(
                "cluster {:?} cannot be a gateway to itself",
                config.name
            ));
        }
    }
    if u64::from(config.frame_len_max) < frame_len_needed {
        return Err(format!(
            "the cluster's frame_len_max must be at least {frame_len_needed}, as for clients"
        ));
    }
    let outbox = &config.outbox;
    if !(outbox.low_bytes < outbox.high_bytes && outbox.high_bytes < outbox.max_bytes) {
        return Err("the cluster's outbox bytes must rise from low to high to max".to_owned());
    }
    if config.timing.redial_min.is_zero() || config.timing.ping_interval.is_zero() {
        return Err("the cluster's redial_min and ping_interval cannot be 0".to_owned());
    }
    if matches!(config.trust, Trust::Anyone) {
        let listeners = config.listen.iter().map(|listen| &listen.endpoint);
        let open = listeners
            .chain(&config.seeds)
            .find(|endpoint| !matches!(endpoint, Endpoint::Memory(_)));
        if let Some(endpoint) = open {
            return Err(format!(
                "nodes must prove who they are at {endpoint}: a cluster needs certificates or a secret"
            ));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=NAME_LEN_MAX).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "the name of a cluster, {name:?}, must be 1 to {NAME_LEN_MAX} letters, digits, - or _"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Gateway, Secret};

    #[test]
    fn what_contradicts_itself_is_said() {
        let secret = || Trust::Secret(Secret::new(b"sixteen bytes or").unwrap());
        let good = Config::new("c1", secret());
        assert_eq!(check(&good, 1_000), Ok(()));
        let refuse = |config: &Config, part: &str| {
            let why = check(config, 1_000).unwrap_err();
            assert!(why.contains(part), "{why}");
        };
        refuse(&Config::new("a.b", secret()), "a.b");
        refuse(&Config::new("", secret()), "letters");
        let mut open = Config::new("c", Trust::Anyone);
        open.seeds = vec!["memory:n1".parse().unwrap()];
        assert_eq!(check(&open, 1_000), Ok(()));
        open.seeds.push("quic://n2".parse().unwrap());
        refuse(&open, "quic://n2");
        let mut own = Config::new("c", secret());
        own.gateways.push(Gateway {
            name: "c".to_owned(),
            urls: Vec::new(),
            dial: None,
            secret: None,
        });
        refuse(&own, "itself");
        let mut small = good;
        small.frame_len_max = 10;
        refuse(&small, "frame_len_max");
    }
}
