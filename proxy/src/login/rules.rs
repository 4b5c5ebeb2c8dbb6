//! Which rule decides about a client, and what of it does not need a conversation: certificates, system users.

use config::hba::{ClientCert, LoginRule, Origin, Visit};
use config::{AuthMethod, CertName, Settings};
use policy::verdict::{LoginRefusal, Refusal};

use super::{Denied, Guest, Wish};
use crate::stream::{Peer, Stream};
use crate::tls::PeerCertificate;

/// Where the system keeps the names of its users.
const SYSTEM_USERS: &str = "/etc/passwd";

impl Guest {
    /// Where it comes from, as rules see it.
    fn origin(&self) -> Origin {
        match self.peer {
            Peer::Unix(_) => Origin::Local,
            Peer::Tcp(address) => Origin::Network {
                client: address.ip(),
                ours: self.stream.as_ref().and_then(Stream::local_ip).unwrap_or(address.ip()),
                encrypted: self.secured.is_some(),
            },
        }
    }

    /// Nobody can listen in between: a password may be asked for in clear text.
    pub(super) fn is_private(&self) -> bool {
        self.peer.is_local() || self.secured.is_some()
    }

    /// The certificate that it has shown, if it is a valid one.
    fn certificate(&self) -> Option<&PeerCertificate> {
        self.secured.as_ref()?.certificate.as_deref()
    }
}

/// The rule that decides about this client; its certificate is checked if the rule wants one besides the method.
pub(super) fn rule_for(guest: &Guest, wish: &Wish, settings: &Settings) -> Result<LoginRule, Denied> {
    let origin = guest.origin();
    let rule = match &settings.auth.hba {
        None => settings.auth.default_rule(),
        Some(hba) => {
            let visit =
                Visit { database: &wish.database, user: &wish.user, replication: wish.replicates_physically(), origin };
            hba.rule(&visit).map(|line| line.rule.clone()).ok_or_else(|| kept_out(guest, wish, false))?
        }
    };
    if rule.method == AuthMethod::Reject {
        return Err(kept_out(guest, wish, true));
    }
    let fits = match (rule.client_cert, guest.certificate()) {
        (ClientCert::Any, _) | (ClientCert::Valid, Some(_)) => true,
        (ClientCert::Named, Some(certificate)) => is_named(certificate, &rule, wish, settings),
        (ClientCert::Valid | ClientCert::Named, None) => false,
    };
    if fits { Ok(rule) } else { Err(Refusal::Login(LoginRefusal::Certificate { user: wish.shown_user() }).into()) }
}

fn kept_out(guest: &Guest, wish: &Wish, rejected: bool) -> Denied {
    let host = match guest.peer {
        Peer::Tcp(address) => address.ip().to_canonical().to_string().into(),
        Peer::Unix(_) => "[local]".into(),
    };
    let (user, database, encrypted) = (wish.shown_user(), wish.database.as_str().into(), guest.secured.is_some());
    Refusal::Login(LoginRefusal::Rule { host, user, database, encrypted, rejected }).into()
}

/// The method `cert`: the certificate's name is the user's, or is mapped to it.
pub(super) fn check_certificate(
    guest: &Guest,
    wish: &Wish,
    rule: &LoginRule,
    settings: &Settings,
) -> Result<(), Denied> {
    let certificate = guest.certificate();
    if certificate.is_some_and(|certificate| is_named(certificate, rule, wish, settings)) {
        return Ok(());
    }
    Err(Refusal::Login(LoginRefusal::Certificate { user: wish.shown_user() }).into())
}

fn is_named(certificate: &PeerCertificate, rule: &LoginRule, wish: &Wish, settings: &Settings) -> bool {
    let allows = |name: &str| settings.auth.maps.allows(rule.map.as_deref(), name, &wish.user);
    match rule.cert_name {
        CertName::CommonName => certificate.common_name.as_deref().is_some_and(allows),
        CertName::Alternative => {
            let names = certificate.dns_names.iter().chain(&certificate.emails).chain(&certificate.uris);
            names.map(|name| &**name).any(allows)
        }
    }
}

/// The method `peer`: the system's user at the other end of the socket is the user, or is mapped to it.
pub(super) fn check_peer(guest: &Guest, wish: &Wish, rule: &LoginRule, settings: &Settings) -> Result<(), Denied> {
    let system = match &guest.stream {
        Some(Stream::Unix(socket)) => socket.peer_cred().ok().and_then(|peer| system_user(peer.uid())),
        _ => None,
    };
    if system.is_some_and(|system| settings.auth.maps.allows(rule.map.as_deref(), &system, &wish.user)) {
        return Ok(());
    }
    Err(Refusal::Login(LoginRefusal::Peer { user: wish.shown_user() }).into())
}

/// The name of a user of the system. Read anew each time: it is a small file, and peer logins are rare.
fn system_user(id: u32) -> Option<String> {
    name_of(id, &std::fs::read_to_string(SYSTEM_USERS).ok()?)
}

fn name_of(id: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let own: u32 = fields.nth(1)?.parse().ok()?;
        (own == id && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_names_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\n# x\nbroken\nanna:x:1000:1000::/home/anna:/bin/sh\n::7::\n";
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(1000, users).as_deref(), Some("anna"));
        assert_eq!(name_of(7, users), None);
        assert_eq!(name_of(5, users), None);
    }
}
