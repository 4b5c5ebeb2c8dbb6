//! `[cache]` and `[[cache.rule]]`: what may be answered without asking the server.

use super::*;

impl Builder<'_> {
    pub(super) fn cache(&mut self) -> Cache {
        let at = |key: &'static str| ["cache", key];
        let preset = CachePreset::from_word(&self.word(&at("preset")));
        let shipped: Vec<CacheRule> = preset.into_iter().flat_map(CachePreset::rules).collect();
        let mut rules = self.cache_rules(MAX_RULES - shipped.len());
        rules.extend(shipped);
        let cache = Cache {
            mode: CacheMode::from_word(&self.word(&at("mode"))).unwrap_or_default(),
            max_bytes: self.count(&at("max_bytes")) as u64,
            max_entry: self.count(&at("max_entry")) as u64,
            tenant_share: self.fraction(&at("tenant_share")),
            min_cost: self.time(&at("min_cost")),
            sole_writer: self.flag(&at("sole_writer")),
            publication: self.text(&at("publication")).unwrap_or_default(),
            catalog_poll: self.time(&at("catalog_poll")),
            preset,
            rules,
            followed: false,
        };
        for (key, bytes) in [("max_bytes", cache.max_bytes), ("max_entry", cache.max_entry)] {
            if bytes == 0 && !self.is_wrong(&at(key)) {
                self.wrong(&at(key), "is 0, so nothing could be kept; give it some, or set mode = \"off\"");
            }
        }
        if cache.max_entry > cache.max_bytes && cache.max_bytes > 0 {
            self.wrong(
                &at("max_entry"),
                "is more than max_bytes, which all entries share; lower it or raise max_bytes",
            );
        }
        cache
    }

    fn cache_rules(&mut self, most: usize) -> Vec<CacheRule> {
        let mut numbers = self.names_under(&["cache", "rule"]);
        if numbers.len() > most {
            let sentence =
                format!("has more than {MAX_RULES} entries, the preset's among them; name several tables in one");
            self.wrong(&["cache", "rule"], &sentence);
            return Vec::new();
        }
        // As text, 10 would come before 2.
        numbers.sort_by_key(|number| number.parse::<usize>().unwrap_or(0));
        numbers.iter().map(|number| self.cache_rule(number)).collect()
    }

    fn cache_rule(&mut self, number: &str) -> CacheRule {
        let at = |key: &'static str| ["cache", "rule", number, key];
        let fingerprint = self.text(&at("fingerprint")).map(|text| Mute::parse_fingerprint(&text));
        if let Some(Err(_)) = fingerprint {
            self.wrong(
                &at("fingerprint"),
                "is not a fingerprint; copy the 16 hexadecimal digits that /api/v1/queries has",
            );
        }
        let rule = CacheRule {
            effect: if self.word(&at("effect")) == "deny" { CacheEffect::Deny } else { CacheEffect::Allow },
            tables: self.listed(&at("tables")),
            // What is wrong is not missing as well.
            fingerprint: fingerprint.map(Result::unwrap_or_default),
            application: self.text(&at("application")),
            hinted: self.flag(&at("hinted")),
            ttl: self.time(&at("ttl")),
            freshness: CacheFreshness::from_word(&self.word(&at("freshness"))).unwrap_or_default(),
            stale_for: self.time(&at("stale_for")),
            tags: self.listed(&at("tags")),
            pure_functions: self.listed(&at("pure_functions")),
            materialized: self.flag(&at("materialized")),
        };
        let conditions = ["tables", "fingerprint", "application", "hinted"];
        let unread = conditions.iter().any(|key| self.is_wrong(&at(key)));
        for (key, sentence) in rule.mistakes() {
            match key {
                // A condition that could not be read has been told of already, and is not missing.
                "" if unread => {}
                "" => self.wrong(&["cache", "rule", number], &sentence),
                "ttl" if self.is_wrong(&at("ttl")) => {}
                key => self.wrong(&["cache", "rule", number, key], &sentence),
            }
        }
        rule
    }
}

/// What is allowed and probably not meant.
pub(super) fn warnings(cache: &Cache) -> Vec<String> {
    let mut warnings = Vec::new();
    if cache.mode != CacheMode::Off && cache.rules.is_empty() {
        warnings.push(format!("cache.mode: is {}, and there is no rule, so nothing is cached; add [[cache.rule]] or preset = \"workflow-engine\", for which a restart is needed", cache.mode.word()));
    }
    let of = |freshness| {
        let rules = cache.rules.iter().enumerate();
        let rules = rules.filter(move |(_, rule)| rule.effect == CacheEffect::Allow && rule.freshness == freshness);
        rules.map(|(place, _)| format!("cache.rule[{}]", place + 1)).collect::<Vec<_>>()
    };
    let by_time = of(CacheFreshness::Ttl);
    if !by_time.is_empty() {
        warnings.push(format!("{}: freshness = \"ttl\" ends an answer by its age alone: whoever writes may read what was before, for as long as ttl and stale_for say; take \"coherent\" unless that is meant", by_time.join(", ")));
    }
    let strict = of(CacheFreshness::Strict);
    if !strict.is_empty() && !cache.sole_writer {
        warnings.push(format!("{}: freshness = \"strict\" asks the server for the end of its log before each answer: it saves the statement's work, not the way there and a server connection; take \"coherent\" unless 250 ms behind writers past pgweir is too much", strict.join(", ")));
    }
    warnings
}
