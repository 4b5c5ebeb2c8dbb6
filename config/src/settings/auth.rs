//! `[auth]` and `[users]`, with the files that they name.

use super::*;
use crate::hba::{Hba, LineError};
use crate::ident::IdentMaps;

impl Builder<'_> {
    pub(super) fn auth(&mut self) -> Auth {
        let method = AuthMethod::from_word(&self.word(&["auth", "method"])).unwrap_or(AuthMethod::PassThrough);
        let auth = Auth {
            method,
            hba: self.text(&["auth", "hba_file"]).and_then(|file| self.rules(&file)),
            maps: self.text(&["auth", "ident_file"]).and_then(|file| self.maps(&file)).unwrap_or_default(),
            map: self.text(&["auth", "map"]),
            cert_name: match self.word(&["auth", "cert_name"]).as_str() {
                "san" => CertName::Alternative,
                _ => CertName::CommonName,
            },
            plaintext_network: self.flag(&["auth", "plaintext_network"]),
            login_timeout: self.time(&["auth", "login_timeout"]),
            secret_cache: self.time(&["auth", "secret_cache"]),
            unknown_cache: self.time(&["auth", "unknown_cache"]),
            limits: LoginLimits {
                concurrent: self.count(&["auth", "max_logins"]),
                per_address: self.count(&["auth", "max_logins_per_address"]),
                failures: u32::try_from(self.count(&["auth", "max_failures"])).unwrap_or(u32::MAX),
                period: self.time(&["auth", "failure_period"]),
                exempt: self.networks(&["auth", "failure_exempt"]),
            },
        };
        self.check_maps(&auth);
        auth
    }

    /// The text of a file that a key names.
    fn file_of(&mut self, path: &[&str], file: &str) -> Option<String> {
        let read = self.sources.read(file);
        read.map_err(|why| self.wrong(path, &format!("cannot read {file}: {why}; correct the path or its permissions")))
            .ok()
    }

    /// What a file's text means, with its mistakes told by their lines.
    fn parsed<T>(
        &mut self,
        path: &[&str],
        file: &str,
        parse: impl FnOnce(&str) -> Result<T, Vec<LineError>>,
    ) -> Option<T> {
        let text = self.file_of(path, file)?;
        match parse(&text) {
            Ok(parsed) => Some(parsed),
            Err(errors) => {
                for LineError { line, sentence } in errors {
                    self.wrong(path, &format!("{file}, line {line}: {sentence}"));
                }
                None
            }
        }
    }

    fn rules(&mut self, file: &str) -> Option<Hba> {
        let path = ["auth", "hba_file"];
        if self.given(&["auth", "method"]).is_some() {
            self.wrong(
                &["auth", "method"],
                "has no effect beside hba_file; remove it, or end the file with a rule for all",
            );
        }
        let hba = self.parsed(&path, file, crate::hba::parse)?;
        if hba.rules.is_empty() {
            self.wrong(&path, &format!("names {file}, which holds no rule, so that nobody could log in; add one"));
        }
        Some(hba)
    }

    fn maps(&mut self, file: &str) -> Option<IdentMaps> {
        self.parsed(&["auth", "ident_file"], file, IdentMaps::parse)
    }

    /// Each map that is used has to exist: one that does not lets nobody in.
    fn check_maps(&mut self, auth: &Auth) {
        let Some(hba) = &auth.hba else {
            let used = matches!(auth.method, AuthMethod::Cert | AuthMethod::Peer);
            match &auth.map {
                Some(_) if !used => {
                    self.wrong(&["auth", "map"], "is used by the methods cert and peer only; remove it");
                }
                Some(map) if !auth.maps.has(map) => {
                    self.wrong(
                        &["auth", "map"],
                        &format!("names the map \"{map}\", which ident_file does not have; add it there"),
                    );
                }
                _ => {}
            }
            return;
        };
        for key in ["map", "cert_name"] {
            if self.given(&["auth", key]).is_some() {
                self.wrong(
                    &["auth", key],
                    "has no effect beside hba_file; write map= or clientname= behind the method there",
                );
            }
        }
        for line in &hba.rules {
            if let Some(map) = line.rule.map.as_ref().filter(|map| !auth.maps.has(map)) {
                let sentence = format!(
                    "line {}: names the map \"{map}\", which auth.ident_file does not have; add it there",
                    line.line
                );
                self.wrong(&["auth", "hba_file"], &sentence);
            }
        }
    }

    pub(super) fn users(&mut self) -> BTreeMap<String, User> {
        let mut users = BTreeMap::new();
        for name in self.names_under(&["users"]) {
            let path = ["users", name.as_str()];
            let secret = match self.secret(&path, "password") {
                Some(secret) => parse_secret(secret.reveal()).unwrap_or_else(|sentence| {
                    self.wrong(&["users", &name, "password"], sentence);
                    UserSecret::None
                }),
                None => UserSecret::None,
            };
            let upstream_user = self.text(&["users", &name, "upstream_user"]);
            let upstream_password = self.secret(&path, "upstream_password");
            users.insert(name, User { secret, upstream_user, upstream_password });
        }
        let path = ["auth", "userlist"];
        let Some(file) = self.text(&path) else { return users };
        let told = |errors: Vec<UserlistError>| {
            errors
                .into_iter()
                .map(|error| LineError { line: error.line, sentence: error.sentence.to_owned() })
                .collect()
        };
        let listed = self.parsed(&path, &file, |text| parse_userlist(text).map_err(told));
        for (name, secret) in listed.unwrap_or_default() {
            if users.contains_key(&name) {
                self.wrong(&["users", &name], &format!("stands in {file} too; remove it from one of the two"));
            }
            users.insert(name, User::from(secret));
        }
        users
    }

    /// How secrets are looked up for a database: its own keys, else those of `[auth]`. `None`: not at all.
    pub(super) fn auth_query(
        &mut self,
        database: Option<&str>,
        upstream: &Upstream,
        users: &BTreeMap<String, User>,
    ) -> Option<AuthQuery> {
        let own = |key: &'static str| database.map(|database| ["databases", database, key]);
        let pick = |builder: &Self, ours: &'static str, general: &'static str| {
            own(ours).and_then(|path| builder.text(&path)).or_else(|| builder.text(&["auth", general]))
        };
        let user = pick(self, "auth_user", "query_user");
        let password = match own("auth_password") {
            Some([section, name, key]) => self.secret(&[section, name], key),
            None => None,
        };
        let password = password.or_else(|| self.secret(&["auth"], "query_password"));
        let Some(user) = user else {
            self.check_query_is_used(own("auth_query"), password.is_some());
            return None;
        };
        let stored = users.get(&user).and_then(|user| {
            user.upstream_password.clone().or_else(|| match &user.secret {
                UserSecret::Plain(password) => Some(password.clone()),
                _ => None,
            })
        });
        let in_url = upstream.password.clone().filter(|_| upstream.user.as_ref() == Some(&user));
        let text = pick(self, "auth_query", "query").unwrap_or_default();
        if !text.contains("$1") {
            let given = own("auth_query").filter(|path| self.given(path).is_some());
            let path: &[&str] = given.as_ref().map_or(&["auth", "query"], |path| path);
            self.wrong(path, "has no $1, which stands for the name of the user to look up; add it");
        }
        let database = pick(self, "auth_database", "query_database");
        Some(AuthQuery { text, user, password: password.or(stored).or(in_url), database })
    }

    /// Keys of a look-up that never takes place are a mistake, not a habit.
    fn check_query_is_used(&mut self, own: Option<[&str; 3]>, password: bool) {
        let general = ["auth", "query"];
        for path in own.iter().map(|path| &path[..]).chain([&general[..]]) {
            if self.given(path).is_some() {
                self.wrong(path, "is never asked, since nobody is named to ask it; add auth.query_user");
            }
        }
        if password && own.is_none() {
            self.wrong(&["auth", "query_password"], "is of no use without auth.query_user; add that or remove this");
        }
    }
}
