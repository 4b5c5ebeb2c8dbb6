//! `[[observe.mute]]`: findings that nobody wants to be told of.

use super::*;

/// Entries at most: each finding is compared with each of them.
const MAX_MUTES: usize = 256;

impl Builder<'_> {
    pub(super) fn mutes(&mut self) -> Vec<Mute> {
        let mut numbers = self.names_under(&["observe", "mute"]);
        // As text, 10 would come before 2.
        numbers.sort_by_key(|number| number.parse::<usize>().unwrap_or(0));
        if numbers.len() > MAX_MUTES {
            self.wrong(&["observe", "mute"], "has more than 256 entries; mute by kind, application or tenant");
        }
        numbers.iter().map(|number| self.mute(number)).collect()
    }

    fn mute(&mut self, number: &str) -> Mute {
        let at = |key: &'static str| ["observe", "mute", number, key];
        let fingerprint = self.text(&at("fingerprint")).map(|text| Mute::parse_fingerprint(&text));
        if let Some(Err(sentence)) = fingerprint {
            self.wrong(&at("fingerprint"), sentence);
        }
        let until = self.text(&at("until")).map(|text| units::parse_moment(&text));
        if let Some(Err(error)) = until {
            self.wrong(&at("until"), &error.to_string());
        }
        let mute = Mute {
            // What is wrong is not missing as well.
            fingerprint: fingerprint.map(Result::unwrap_or_default),
            kind: Some(self.word(&at("kind"))).filter(|kind| !kind.is_empty()),
            database: self.text(&at("database")),
            user: self.text(&at("user")),
            application: self.text(&at("application")),
            client: self.text(&at("client")),
            tenant: self.text(&at("tenant")),
            route: self.text(&at("route")),
            until_us: until.and_then(Result::ok),
            note: self.text(&at("note")),
        };
        match mute.check() {
            // A kind that is none has been told of already, and is not missing.
            Err(("", sentence)) if !self.is_wrong(&at("kind")) => self.wrong(&["observe", "mute", number], sentence),
            Err(("", _)) => {}
            Err((key, sentence)) if !self.is_wrong(&at(key)) => self.wrong(&at(key), sentence),
            _ => {}
        }
        mute
    }
}
