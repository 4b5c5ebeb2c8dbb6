//! `[tenants]`: rules and limits.

use super::*;

/// Longest tenant name and pattern in bytes.
const MAX_TEXT: usize = 128;

impl Builder<'_> {
    pub(super) fn tenants(&mut self) -> Tenants {
        let default_limits = self.limits(&["tenants", "default_limits"], &Limits::default());
        let mut limits = BTreeMap::new();
        for name in self.names_under(&["tenants", "limits"]) {
            let path = ["tenants", "limits", name.as_str()];
            if name.is_empty() || name.len() > MAX_TEXT {
                self.wrong(&path, "is not a tenant's name; use 1 to 128 bytes");
            }
            limits.insert(name.clone(), self.limits(&path, &default_limits));
        }
        let rules = self.names_under_rule().iter().filter_map(|number| self.rule(number)).collect();
        let default = self.word(&["tenants", "default"]);
        if default.len() > MAX_TEXT {
            self.wrong(&["tenants", "default"], "is longer than 128 bytes; use a shorter name");
        }
        Tenants { rules, default, max_tenants: self.count(&["tenants", "max_tenants"]), default_limits, limits }
    }

    fn limits(&self, section: &[&str], default: &Limits) -> Limits {
        let value = |key: &'static str, default: Option<Duration>| {
            let path: Vec<&str> = section.iter().copied().chain([key]).collect();
            if self.given(&path).is_some() { self.limit(&path) } else { default }
        };
        let on_untracked: Vec<&str> = section.iter().copied().chain(["on_untracked"]).collect();
        Limits {
            statement_timeout: value("statement_timeout", default.statement_timeout),
            slow_threshold: value("slow_threshold", default.slow_threshold),
            transaction_threshold: value("transaction_threshold", default.transaction_threshold),
            idle_threshold: value("idle_threshold", default.idle_threshold),
            on_untracked: OnUntracked::from_word(&self.word(&on_untracked)).or(default.on_untracked),
        }
    }

    /// Numbers of the rules in their order; as text, 10 would come before 2.
    fn names_under_rule(&self) -> Vec<String> {
        let mut numbers = self.names_under(&["tenants", "rule"]);
        numbers.sort_by_key(|number| number.parse::<usize>().unwrap_or(0));
        numbers
    }

    fn rule(&mut self, number: &str) -> Option<TenantRule> {
        let section = ["tenants", "rule", number];
        let at = |key: &'static str| ["tenants", "rule", number, key];
        let from = self.word(&at("from"));
        let wanted = match from.as_str() {
            "application_name" | "sni" => Some("pattern"),
            "startup_option" | "setting" => Some("name"),
            "user" | "database" => None,
            _ => {
                if !self.is_wrong(&at("from")) {
                    self.wrong(&section, "has no from; add from = \"user\", \"database\", \"application_name\", \"sni\", \"startup_option\" or \"setting\"");
                }
                return None;
            }
        };
        for key in ["pattern", "name"] {
            if wanted != Some(key) && self.given(&at(key)).is_some() {
                self.wrong(&at(key), &format!("has no meaning with from = \"{from}\"; remove it"));
            }
        }
        let Some(key) = wanted else {
            return Some(if from == "user" { TenantRule::User } else { TenantRule::Database });
        };
        let Some(text) = self.text(&at(key)) else {
            let example = match from.as_str() {
                "application_name" => "worker-{tenant}-*",
                "sni" => "{tenant}.db.example.com",
                _ => "app.tenant_id",
            };
            if !self.is_wrong(&at(key)) {
                self.wrong(&section, &format!("has no {key}; add {key} = \"{example}\""));
            }
            return None;
        };
        if let Err(sentence) = if key == "pattern" { checked_pattern(&text) } else { checked_name(&text) } {
            self.wrong(&at(key), sentence);
        }
        Some(match from.as_str() {
            "application_name" => TenantRule::ApplicationName(text),
            "sni" => TenantRule::ServerName(text.to_ascii_lowercase()),
            "startup_option" => TenantRule::StartupOption(text),
            _ => TenantRule::Setting(text),
        })
    }
}

fn checked_pattern(text: &str) -> Result<(), &'static str> {
    let braces = text.matches(['{', '}']).count();
    if text.matches("{tenant}").count() != 1 || braces != 2 {
        return Err("must hold {tenant} exactly once and no other braces, as worker-{tenant}-*");
    }
    if text.len() > MAX_TEXT { Err("is longer than 128 bytes; use a shorter pattern") } else { Ok(()) }
}

fn checked_name(text: &str) -> Result<(), &'static str> {
    let fits = text.len() <= MAX_TEXT
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$' | b'-'));
    if fits { Ok(()) } else { Err("is not the name of a setting; use letters, digits, _ and dots, as app.tenant_id") }
}
