//! Language models: which there are, asking one, and the service on the broker through which clients do.
//!
//! Every provider is asked in the same way, that of `OpenAI`'s chat completions, which they all understand. Which of them
//! a site uses is in its settings: a switch and a key for each.

use serde_json::Value as Json;

use crate::settings::Settings;

mod sse;

mod endpoint;
pub use endpoint::{Answer, Ask, Endpoint, Failed, Piece, Role, Turn, Usage};

mod service;
pub use service::{ModelService, Models, PATTERN};

/// A provider with its settings.
struct Provider {
    /// The setting that switches it on.
    switch: &'static str,
    /// The setting with its key.
    key: &'static str,
    /// Where it answers.
    url: &'static str,
    /// What names of its models begin with.
    prefixes: &'static [&'static str],
}

const PROVIDERS: &[Provider] = &[
    Provider {
        switch: "openai_enabled",
        key: "openai_api_key",
        url: "https://api.openai.com/v1",
        prefixes: &["gpt-", "o1", "o3", "o4", "chatgpt-"],
    },
    Provider {
        switch: "google_vertexai_enabled",
        key: "google_vertexai_key",
        url: "https://generativelanguage.googleapis.com/v1beta/openai",
        prefixes: &["gemini-", "gemma-"],
    },
    Provider {
        switch: "mistral_enabled",
        key: "mistral_api_key",
        url: "https://api.mistral.ai/v1",
        prefixes: &[
            "mistral-",
            "magistral-",
            "codestral-",
            "devstral-",
            "open-mistral-",
        ],
    },
    Provider {
        switch: "anthropic_enabled",
        key: "anthropic_api_key",
        url: "https://api.anthropic.com/v1",
        prefixes: &["claude-"],
    },
    Provider {
        switch: "xai_enabled",
        key: "xai_api_key",
        url: "https://api.x.ai/v1",
        prefixes: &["grok-"],
    },
    Provider {
        switch: "zai_enabled",
        key: "zai_api_key",
        url: "https://api.z.ai/api/paas/v4",
        prefixes: &["glm-"],
    },
];

/// Models that the settings describe one by one: their prefix, switch, description, and what belongs behind the
/// address.
const DESCRIBED: &[(&str, &str, &str, &str)] = &[
    (
        "custom_openai-",
        "custom_openai_enabled",
        "custom_openai_configuration",
        "",
    ),
    ("ollama-", "ollama_enabled", "ollama_configuration", "/v1"),
];

/// Why a site does not use a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Its provider is not switched on, or there is none.
    NotConfigured,
    /// Its provider is, but the setting `selectable_llms` does not name it.
    NotSelectable,
}

/// Where a model is, if this site uses it. Nothing is used that is not switched on, and nothing without an address. Of
/// the models of providers, the setting `selectable_llms` may name those that may be used; those that the settings
/// describe one by one need not be named again.
///
/// # Errors
/// [`Unknown`].
pub fn find(settings: &Settings, model: &str) -> Result<Endpoint, Unknown> {
    for (prefix, switch, description, behind) in DESCRIBED {
        if let Some(name) = model.strip_prefix(prefix) {
            let described = settings.is_on(switch).then(|| settings.get(description));
            let found = described.and_then(|described| described_model(described, name, behind));
            return found.ok_or(Unknown::NotConfigured);
        }
    }
    let found = provided(settings, model).ok_or(Unknown::NotConfigured)?;
    if is_selectable(settings, model) {
        Ok(found)
    } else {
        Err(Unknown::NotSelectable)
    }
}

fn provided(settings: &Settings, model: &str) -> Option<Endpoint> {
    let provider = PROVIDERS.iter().find(|provider| {
        provider
            .prefixes
            .iter()
            .any(|prefix| model.starts_with(prefix))
    })?;
    let key = settings.get(provider.key);
    (settings.is_on(provider.switch) && !key.is_empty()).then(|| Endpoint {
        url: provider.url.to_owned(),
        key: Some(key.to_owned()),
        model: model.to_owned(),
    })
}

fn is_selectable(settings: &Settings, model: &str) -> bool {
    let selectable = settings.list("selectable_llms");
    selectable.is_empty() || selectable.contains(&model)
}

/// `{<name>: {baseUrl, apiKey?, model?}}`, as the original has it.
fn described_model(description: &str, name: &str, behind: &str) -> Option<Endpoint> {
    let all: Json = serde_json::from_str(description).ok()?;
    let one = all.get(name)?;
    if one.get("enabled").and_then(Json::as_bool) == Some(false) {
        return None;
    }
    let text = |field: &str| one.get(field).and_then(Json::as_str);
    let url = text("baseUrl")
        .or_else(|| text("endpoint"))?
        .trim_end_matches('/');
    let url = if url.ends_with(behind) {
        url.to_owned()
    } else {
        format!("{url}{behind}")
    };
    Some(Endpoint {
        url,
        key: text("apiKey").map(str::to_owned),
        model: text("model").unwrap_or(name).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_described_by_settings() {
        let description = r#"{"local": {"baseUrl": "http://10.0.0.7:8000/v1/", "apiKey": "k", "model": "qwen"},
            "off": {"baseUrl": "http://x", "enabled": false}, "wrong": 7}"#;
        let found = described_model(description, "local", "").unwrap();
        assert_eq!(
            (&*found.url, &*found.model),
            ("http://10.0.0.7:8000/v1", "qwen")
        );
        assert!(!format!("{found:?}").contains("\"k\""));
        let found = described_model(
            r#"{"llama3": {"baseUrl": "http://10.0.0.7:11434"}}"#,
            "llama3",
            "/v1",
        );
        assert_eq!(found.unwrap().url, "http://10.0.0.7:11434/v1");
        for name in ["off", "wrong", "none"] {
            assert!(described_model(description, name, "").is_none(), "{name}");
        }
        assert!(described_model("[", "local", "").is_none());
    }

    #[test]
    fn a_site_offers_all_models_of_a_provider_or_those_that_it_names() {
        let on = [("openai_enabled", "yes"), ("openai_api_key", "k")];
        let some = [on[0], on[1], ("selectable_llms", "gpt-4o, gpt-5")];
        let all = Settings::of_pairs(&on);
        assert!(find(&all, "gpt-4o").is_ok() && find(&all, "gpt-3").is_ok());
        let some = Settings::of_pairs(&some);
        assert!(find(&some, "gpt-5").is_ok());
        assert_eq!(find(&some, "gpt-3"), Err(Unknown::NotSelectable));
        assert_eq!(find(&some, "claude-x"), Err(Unknown::NotConfigured));
    }

    #[test]
    fn nothing_is_used_that_is_not_switched_on() {
        let settings = Settings::default();
        for model in [
            "gpt-4o",
            "claude-x",
            "custom_openai-local",
            "ollama-x",
            "",
            "unknown",
        ] {
            assert_eq!(
                find(&settings, model),
                Err(Unknown::NotConfigured),
                "{model}"
            );
        }
    }
}
