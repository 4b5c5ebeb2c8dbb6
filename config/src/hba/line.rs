//! A line's fields into a rule.

use std::net::IpAddr;

use super::token::{Line, Word, lines};
use super::{ClientCert, Hba, HbaLine, LineError, LoginRule, Pattern, Source, Transport, Wanted};
use crate::network::Network;
use crate::{AuthMethod, CertName};

/// Reads a file of rules.
///
/// # Errors
/// Every line that is wrong, each with all that is wrong with it.
pub fn parse(text: &str) -> Result<Hba, Vec<LineError>> {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for Line { number, fields } in lines(text) {
        let mut wrong = Vec::new();
        match fields.map(|fields| Reader { fields: fields.iter(), wrong: &mut wrong }.rule(number)) {
            Ok(Some(rule)) => rules.push(rule),
            Ok(None) => {}
            Err(sentence) => wrong.push(sentence.to_owned()),
        }
        errors.extend(wrong.into_iter().map(|sentence| LineError { line: number, sentence }));
    }
    if errors.is_empty() { Ok(Hba { rules }) } else { Err(errors) }
}

/// What of PostgreSQL's syntax asks for something that no proxy can do for it.
fn included(word: &Word) -> Option<&'static str> {
    match word.text.as_str() {
        "include" | "include_if_exists" | "include_dir" if !word.quoted => {
            Some("includes a file, which is not supported; write its rules here")
        }
        text if !word.quoted && text.starts_with('@') && text.len() > 1 => {
            Some("takes names from a file (@…), which is not supported; write the names here")
        }
        _ => None,
    }
}

/// Reads the fields of one line from left to right and collects what is wrong.
struct Reader<'a> {
    fields: std::slice::Iter<'a, Vec<Word>>,
    wrong: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn wrong(&mut self, sentence: impl Into<String>) {
        self.wrong.push(sentence.into());
    }

    /// The rule; `None`: it is wrong.
    fn rule(mut self, line: usize) -> Option<HbaLine> {
        let transport = self.transport()?;
        let Some(databases) = self.fields.next() else {
            self.wrong("ends behind its type; write local|host DATABASE USER [ADDRESS] METHOD");
            return None;
        };
        let databases = self.names(databases, true);
        let Some(users) = self.fields.next() else {
            self.wrong("ends behind the database; write local|host DATABASE USER [ADDRESS] METHOD");
            return None;
        };
        let users = self.names(users, false);
        let source = if transport == Transport::Local { Source::All } else { self.source()? };
        let rule = self.login(transport)?;
        self.wrong.is_empty().then_some(HbaLine { line, transport, databases, users, source, rule })
    }

    fn transport(&mut self) -> Option<Transport> {
        let word = self.single("its type")?;
        if let Some(sentence) = included(&word) {
            self.wrong(sentence);
            return None;
        }
        match word.text.as_str() {
            "local" => Some(Transport::Local),
            // Without GSSAPI every connection is one without GSSAPI encryption.
            "host" | "hostnogssenc" => Some(Transport::Host),
            "hostssl" => Some(Transport::HostTls),
            "hostnossl" => Some(Transport::HostPlain),
            "hostgssenc" => {
                self.wrong("is for GSSAPI encryption, which the proxy does not speak; remove the line");
                None
            }
            other => {
                self.wrong(format!(
                    "begins with \"{}\"; a rule begins with local, host, hostssl or hostnossl",
                    shown(other)
                ));
                None
            }
        }
    }

    /// The next field, which has one word.
    fn single(&mut self, what: &str) -> Option<Word> {
        match self.fields.next().map(Vec::as_slice) {
            Some([word]) => Some(word.clone()),
            Some(_) => {
                self.wrong(format!("has a list for {what}; write one"));
                None
            }
            None => {
                self.wrong(format!("ends before {what}; write local|host DATABASE USER [ADDRESS] METHOD"));
                None
            }
        }
    }

    fn names(&mut self, words: &[Word], databases: bool) -> Vec<Wanted> {
        words.iter().filter_map(|word| self.name(word, databases)).collect()
    }

    fn name(&mut self, word: &Word, database: bool) -> Option<Wanted> {
        let what = if database { "a database" } else { "a user" };
        if let Some(sentence) = included(word) {
            self.wrong(sentence);
            return None;
        }
        if let Some(pattern) = word.text.strip_prefix('/') {
            return match Pattern::new(pattern) {
                Ok(pattern) => Some(Wanted::Pattern(pattern)),
                Err(sentence) => {
                    self.wrong(sentence);
                    None
                }
            };
        }
        if word.text.is_empty() {
            self.wrong(format!("has an empty name for {what}; write the name, or all"));
            return None;
        }
        if word.is("all") {
            return Some(Wanted::All);
        }
        if database && !word.quoted {
            match word.text.as_str() {
                "sameuser" => return Some(Wanted::SameUser),
                "replication" => return Some(Wanted::Replication),
                "samerole" | "samegroup" => {
                    self.wrong(format!(
                        "says {}, but the proxy does not know who is a member of which role; name the users",
                        word.text
                    ));
                    return None;
                }
                _ => {}
            }
        }
        if !database && !word.quoted && word.text.starts_with('+') {
            self.wrong(format!(
                "names the members of a role (\"{}\"), which the proxy does not know; name the users, or put the name in quotes if it begins with a plus",
                shown(&word.text)
            ));
            return None;
        }
        Some(Wanted::Name(word.text.clone()))
    }

    fn source(&mut self) -> Option<Source> {
        let word = self.single("the address")?;
        if word.is("all") {
            return Some(Source::All);
        }
        if word.is("samehost") {
            return Some(Source::SameHost);
        }
        if word.is("samenet") {
            self.wrong("says samenet, which the proxy cannot look up; write the networks, as 10.0.0.0/8");
            return None;
        }
        if let Ok(address) = word.text.parse::<IpAddr>() {
            let mask = self.single("the mask of the address")?;
            let Ok(mask) = mask.text.parse::<IpAddr>() else {
                self.wrong(format!(
                    "has an address without a mask; write {address}/{}",
                    if address.is_ipv4() { 32 } else { 128 }
                ));
                return None;
            };
            return self.network(Network::with_mask(address, mask));
        }
        if word.text.contains('/') {
            return self.network(Network::parse(&word.text));
        }
        self.wrong(format!(
            "has \"{}\" for its address; host names are not looked up, write an address as 192.0.2.7/32, a network as 10.0.0.0/8, samehost or all",
            shown(&word.text)
        ));
        None
    }

    fn network(&mut self, network: Result<Network, &'static str>) -> Option<Source> {
        match network {
            Ok(network) => Some(Source::Network(network)),
            Err(sentence) => {
                self.wrong(sentence);
                None
            }
        }
    }

    fn login(&mut self, transport: Transport) -> Option<LoginRule> {
        let word = self.single("the method")?;
        let method = match (word.text.as_str(), AuthMethod::from_word(&word.text)) {
            (_, Some(method)) => method,
            // What PostgreSQL makes of it on a Unix socket.
            ("ident", None) if transport == Transport::Local => AuthMethod::Peer,
            (other, None) => {
                let known = AuthMethod::WORDS.map(|(word, _)| word).join(", ");
                self.wrong(format!("asks for the method \"{}\"; the proxy knows {known}", shown(other)));
                return None;
            }
        };
        if method == AuthMethod::Peer && transport != Transport::Local {
            self.wrong("asks for peer over a network; peer is for local lines only");
        }
        if method == AuthMethod::Cert && transport != Transport::HostTls {
            self.wrong("asks for cert where no certificate comes; cert is for hostssl lines only");
        }
        let mut rule = LoginRule { method, map: None, cert_name: CertName::CommonName, client_cert: ClientCert::Any };
        while let Some(field) = self.fields.next() {
            for word in field {
                self.option(word, transport, &mut rule);
            }
        }
        Some(rule)
    }

    fn option(&mut self, word: &Word, transport: Transport, rule: &mut LoginRule) {
        let Some((name, value)) = word.text.split_once('=') else {
            return self.wrong(format!("has \"{}\" behind its method; an option is name=value", shown(&word.text)));
        };
        match (name, value) {
            ("map", value) if !value.is_empty() => {
                let named =
                    matches!(rule.method, AuthMethod::Cert | AuthMethod::Peer) || transport == Transport::HostTls;
                if !named {
                    self.wrong("has a map, which only peer and certificates use; remove it");
                }
                rule.map = Some(value.to_owned());
            }
            ("clientcert", _) if transport != Transport::HostTls => {
                self.wrong("asks for a certificate where none comes; clientcert is for hostssl lines only");
            }
            ("clientcert", "verify-ca") if rule.method == AuthMethod::Cert => {
                self.wrong("says clientcert=verify-ca, but cert always checks the name; remove the option");
            }
            ("clientcert", "verify-ca") => rule.client_cert = ClientCert::Valid,
            ("clientcert", "verify-full") => rule.client_cert = ClientCert::Named,
            ("clientcert", other) => {
                self.wrong(format!("says clientcert={}; write verify-ca or verify-full", shown(other)));
            }
            ("clientname", "CN") => rule.cert_name = CertName::CommonName,
            ("clientname", "SAN") => rule.cert_name = CertName::Alternative,
            ("clientname", other) => self.wrong(format!("says clientname={}; write CN or SAN", shown(other))),
            (other, _) => self
                .wrong(format!("has the option \"{}\"; the proxy knows map, clientcert and clientname", shown(other))),
        }
    }
}

/// A word for a message, cut where it gets long.
fn shown(text: &str) -> String {
    text.chars().take(40).collect::<String>().escape_debug().to_string()
}
