//! Findings that nobody wants to be told of.

/// Longest name or note, in bytes.
const MAX_TEXT: usize = 256;

/// What is kept silent: findings for which everything that is given here holds. At least one thing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mute {
    /// The strict fingerprint of the repeated statement.
    pub fingerprint: Option<u64>,
    /// One of [`Mute::KINDS`].
    pub kind: Option<String>,
    /// The database that clients asked for.
    pub database: Option<String>,
    /// Their user.
    pub user: Option<String>,
    /// Their `application_name`.
    pub application: Option<String>,
    /// Their host, without the port.
    pub client: Option<String>,
    /// Whose statements they are.
    pub tenant: Option<String>,
    /// The route, controller or job that a comment names.
    pub route: Option<String>,
    /// Until when, in µs since 1970; `None`: for ever.
    pub until_us: Option<u64>,
    /// Why, for people.
    pub note: Option<String>,
}

impl Mute {
    /// The kinds of finding, by name.
    pub const KINDS: [&str; 11] = [
        "n_plus_one",
        "n_plus_one_write",
        "insert_loop",
        "recursive_walk",
        "duplicate",
        "loop_unsourced",
        "plan_changed",
        "regression",
        "slowdown",
        "slow_transaction",
        "idle_in_transaction",
    ];

    /// Reads a fingerprint as findings show it.
    ///
    /// # Errors
    /// Half a sentence that says what to write.
    pub fn parse_fingerprint(text: &str) -> Result<u64, &'static str> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.ok_or("is not a fingerprint; copy the 16 hexadecimal digits of the finding's child")
    }

    /// Whether it says enough and not too much.
    ///
    /// # Errors
    /// The key that is to blame (empty: none of them) and half a sentence that says what to do.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let texts = [
            ("kind", &self.kind),
            ("database", &self.database),
            ("user", &self.user),
            ("application", &self.application),
            ("client", &self.client),
            ("tenant", &self.tenant),
            ("route", &self.route),
            ("note", &self.note),
        ];
        let given = texts.iter().take(texts.len() - 1).any(|(_, text)| text.is_some());
        if !given && self.fingerprint.is_none() {
            return Err((
                "",
                "would silence every finding; name a fingerprint, kind, database, user, application, client, tenant or route",
            ));
        }
        if let Some((key, _)) = texts.iter().find(|(_, text)| text.as_ref().is_some_and(|text| text.len() > MAX_TEXT)) {
            return Err((key, "is longer than 256 bytes; use a shorter text"));
        }
        match &self.kind {
            Some(kind) if !Self::KINDS.contains(&kind.as_str()) => {
                Err(("kind", "is not a kind of finding; docs/findings.md lists them"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_says_enough_and_not_too_much() {
        let silence = |key: &'static str| Mute::default().check().unwrap_err().0 == key;
        assert!(silence(""), "nothing named");
        assert!(Mute { note: Some("all".into()), ..Mute::default() }.check().is_err(), "a note names nothing");
        assert_eq!(Mute { fingerprint: Some(0), ..Mute::default() }.check(), Ok(()));
        assert_eq!(Mute { route: Some("GET /".into()), ..Mute::default() }.check(), Ok(()));
        let long = Mute { user: Some("u".repeat(257)), ..Mute::default() };
        assert_eq!(long.check().unwrap_err().0, "user");
        assert_eq!(Mute { kind: Some("n+1".into()), ..Mute::default() }.check().unwrap_err().0, "kind");
    }

    #[test]
    fn fingerprints_are_read_as_they_are_shown() {
        assert_eq!(Mute::parse_fingerprint("00d1e8a1b2c3d4e5"), Ok(0x00d1_e8a1_b2c3_d4e5));
        for wrong in ["", "d1e8a1b2c3d4e5", "00d1e8a1b2c3d4e5f", "00d1e8a1b2c3d4eg", "+0d1e8a1b2c3d4e5"] {
            assert!(Mute::parse_fingerprint(wrong).is_err(), "{wrong}");
        }
    }
}
