//! What a project may use: from the defaults of the site, what an administrator has set, and what members give. Pure.
//!
//! Names, units and figures are those of CoCalc, so that what is stored means the same to its clients. Licences and
//! pay-as-you-go are not counted yet: they would be further terms of [`compute`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// What a project may use. Stored as `projects.run_quota`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "names are those that are stored")]
pub struct Quota {
    /// Whether it reaches the internet.
    pub network: bool,
    /// Whether it runs on a machine for members.
    pub member_host: bool,
    /// Whether it is started again whenever it does not run.
    pub always_running: bool,
    /// Space of its files, in MB.
    pub disk_quota: u64,
    /// Memory that it may take, in MB.
    pub memory_limit: u64,
    /// Memory that is kept free for it, in MB.
    pub memory_request: u64,
    /// Cores that it may take.
    pub cpu_limit: f64,
    /// Cores that are kept free for it.
    pub cpu_request: f64,
    /// After how many seconds without use it is stopped; 0 for never.
    pub idle_timeout: u64,
}

impl Default for Quota {
    /// What a project has where nothing else is said.
    fn default() -> Self {
        compute(&Site::default(), &Json::Null, &[])
    }
}

impl Quota {
    /// As it is stored.
    pub fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or(Json::Null)
    }

    /// Whether a project that runs with `other` has to be started anew to run with this.
    pub fn differs(&self, other: Option<&Json>) -> bool {
        other.and_then(|json| Self::deserialize(json).ok()).as_ref() != Some(self)
    }
}

/// A quantity that members can give.
#[derive(Debug, Clone, Copy)]
struct Parameter {
    name: &'static str,
    /// What a project has by itself.
    default: f64,
    /// What it can have, unless an administrator gives it more.
    max: f64,
}

const fn parameter(name: &'static str, default: f64, max: f64) -> Parameter {
    Parameter { name, default, max }
}

const DISK: Parameter = parameter("disk_quota", 3000.0, 20_000.0);
const MEMORY: Parameter = parameter("memory", 1000.0, 16_000.0);
const MEMORY_REQUEST: Parameter = parameter("memory_request", 0.0, 8000.0);
const CORES: Parameter = parameter("cores", 1.0, 3.0);
const CPU_SHARES: Parameter = parameter("cpu_shares", 0.0, 2048.0);
const MINTIME: Parameter = parameter("mintime", 1800.0, 90.0 * 24.0 * 3600.0);
const NETWORK: Parameter = parameter("network", 0.0, 1.0);
const MEMBER_HOST: Parameter = parameter("member_host", 0.0, 1.0);
const ALWAYS_RUNNING: Parameter = parameter("always_running", 0.0, 1.0);

/// CPU shares of one core.
const SHARES: f64 = 1024.0;

/// Least that is kept free for a project, and for one on a machine for members: cores and MB.
const REQUEST_FREE: (f64, f64) = (0.02, 200.0);
const REQUEST_MEMBER: (f64, f64) = (0.05, 300.0);

/// What the settings of the site say about quotas.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Site {
    defaults: Map<String, Json>,
    max: Map<String, Json>,
}

impl Site {
    /// From the settings `default_quotas` (`disk_quota` and `mem` in MB, `cpu` in cores, `idle_timeout` in seconds,
    /// `internet`, and the ratios `mem_oc` and `cpu_oc` of limits to what is kept free) and `max_upgrades` (by name of
    /// what can be given).
    pub fn new(defaults: &Json, max: &Json) -> Self {
        let object = |json: &Json| json.as_object().cloned().unwrap_or_default();
        Self {
            defaults: object(defaults),
            max: object(max),
        }
    }

    fn default_of(&self, parameter: Parameter) -> f64 {
        let name = match parameter.name {
            "memory" => "mem",
            "cores" => "cpu",
            "mintime" => "idle_timeout",
            "network" => "internet",
            same => same,
        };
        number(self.defaults.get(name)).unwrap_or(parameter.default)
    }

    fn max_of(&self, parameter: Parameter) -> f64 {
        number(self.max.get(parameter.name)).unwrap_or(parameter.max)
    }

    /// How many times what is kept free may be promised.
    fn ratio(&self, name: &str) -> Option<f64> {
        number(self.defaults.get(name)).filter(|ratio| *ratio >= 1.0)
    }
}

/// Numbers, numbers in texts, and truth values; nothing negative, and nothing without bounds.
fn number(json: Option<&Json>) -> Option<f64> {
    let found = match json? {
        Json::Bool(yes) => f64::from(u8::from(*yes)),
        Json::Number(number) => number.as_f64()?,
        Json::String(text) => text.trim().parse().ok()?,
        Json::Null | Json::Array(_) | Json::Object(_) => return None,
    };
    (found.is_finite() && found >= 0.0).then_some(found)
}

/// What a project may use: `settings` is what an administrator has set about it, `upgrades` what each member gives.
///
/// What an administrator sets is not capped; what members give together is.
pub fn compute(site: &Site, settings: &Json, upgrades: &[Json]) -> Quota {
    let of = |parameter: Parameter| {
        let max = site.max_of(parameter);
        let set = number(settings.get(parameter.name)).unwrap_or(0.0);
        let base = site.default_of(parameter).min(max).max(set);
        let given: f64 = upgrades
            .iter()
            .filter_map(|one| number(one.get(parameter.name)))
            .sum();
        base + given.min(max)
    };
    let yes = |parameter: Parameter| of(parameter) >= 1.0;
    let no_internet = settings.get("disableInternet").and_then(Json::as_bool) == Some(true);
    let member_host = yes(MEMBER_HOST);
    let least = if member_host {
        REQUEST_MEMBER
    } else {
        REQUEST_FREE
    };
    let (memory, cores) = (of(MEMORY), of(CORES));
    let promised = |request: f64, limit: f64, ratio: &str, least: f64| {
        let share = site.ratio(ratio).map_or(0.0, |ratio| limit / ratio);
        request.max(share).max(least).min(limit)
    };
    Quota {
        network: yes(NETWORK) && !no_internet,
        member_host,
        always_running: yes(ALWAYS_RUNNING),
        disk_quota: whole(of(DISK)),
        memory_limit: whole(memory),
        memory_request: whole(promised(of(MEMORY_REQUEST), memory, "mem_oc", least.1)),
        cpu_limit: hundredths(cores),
        cpu_request: hundredths(promised(of(CPU_SHARES) / SHARES, cores, "cpu_oc", least.0)),
        idle_timeout: whole(of(MINTIME)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, at least 0, and cut to the range by the cast"
)]
fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_project_has_the_defaults() {
        let quota = Quota::default();
        assert_eq!(
            quota.to_json(),
            json!({
                "network": false, "member_host": false, "always_running": false, "disk_quota": 3000,
                "memory_limit": 1000, "memory_request": 200, "cpu_limit": 1.0, "cpu_request": 0.02,
                "idle_timeout": 1800,
            })
        );
        assert!(!quota.differs(Some(&quota.to_json())));
        assert!(quota.differs(None));
    }

    #[test]
    fn the_site_moves_defaults_and_caps() {
        let site = Site::new(
            &json!({"mem": 2000, "cpu": 5, "internet": true, "mem_oc": 4, "idle_timeout": "600"}),
            &json!({"memory": 3000}),
        );
        let quota = compute(&site, &json!({}), &[json!({"memory": 9000})]);
        // The default is capped like everything but an administrator's word; 4 times is what may be promised.
        assert_eq!((quota.memory_limit, quota.memory_request), (5000, 1250));
        assert!((quota.cpu_limit - 3.0).abs() < 1e-9);
        assert!(quota.network);
        assert_eq!(quota.idle_timeout, 600);
    }

    #[test]
    fn an_administrator_gives_more_than_members_can() {
        let settings = json!({"memory": 64_000, "member_host": 1, "always_running": 1, "disableInternet": true, "network": 1});
        let quota = compute(
            &Site::default(),
            &settings,
            &[json!({"cores": 2}), json!({"cores": 2, "cpu_shares": 512})],
        );
        assert_eq!(quota.memory_limit, 64_000);
        assert_eq!(quota.memory_request, 300);
        assert!(
            (quota.cpu_limit - 4.0).abs() < 1e-9,
            "1 and at most 3 given"
        );
        assert!((quota.cpu_request - 0.5).abs() < 1e-9);
        assert!(quota.member_host && quota.always_running && !quota.network);
    }

    proptest! {
        /// Nonsense is no quantity; nobody gets less by being given something, nor more than caps allow.
        #[test]
        fn gifts_never_harm_and_stay_below_the_caps(given in proptest::collection::vec(-1e12f64..1e12, 0..6)) {
            let upgrades: Vec<Json> = given.iter().map(|memory| json!({"memory": memory, "cores": memory})).collect();
            let quota = compute(&Site::default(), &json!({"memory": "nonsense"}), &upgrades);
            let without = Quota::default();
            prop_assert!(quota.memory_limit >= without.memory_limit && quota.memory_limit <= 17_000);
            prop_assert!(quota.cpu_limit >= without.cpu_limit && quota.cpu_limit <= 4.0);
            prop_assert!(quota.memory_request <= quota.memory_limit);
        }
    }
}
