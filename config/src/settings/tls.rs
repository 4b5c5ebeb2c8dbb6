//! `[tls]`, `[upstream_tls]` and the TLS parameters of URLs. Files are read here; what stands in them is looked at by
//! whoever speaks TLS.

use std::sync::Arc;

use super::*;
use crate::url::{UrlTls, binding};

/// How messages call the parts of an identity.
struct Names<'a> {
    cert: &'a str,
    key: &'a str,
}

impl Builder<'_> {
    pub(super) fn client_tls(&mut self) -> ClientTls {
        let identity = self.identity_of("tls");
        let authorities = self.text(&["tls", "ca_file"]).and_then(|path| self.pem(&["tls", "ca_file"], path));
        let given = TlsMode::from_word(&self.word(&["tls", "mode"]));
        let has_cert = self.given(&["tls", "cert_file"]).is_some();
        let mode = given.unwrap_or(if has_cert { TlsMode::Prefer } else { TlsMode::Disable });
        if mode != TlsMode::Disable && !has_cert {
            self.wrong(&["tls", "mode"], "needs a certificate to show to clients; add tls.cert_file and tls.key_file");
        }
        if mode >= TlsMode::VerifyCa && self.given(&["tls", "ca_file"]).is_none() {
            self.wrong(
                &["tls", "mode"],
                "checks clients' certificates; add tls.ca_file, the authorities that sign them",
            );
        }
        ClientTls { mode, identity, authorities, min_version: self.min_version("tls") }
    }

    /// `[upstream_tls]`: what holds for servers whose URL says nothing else. Whether it fits together is asked for each
    /// server, with its URL.
    pub(super) fn upstream_tls(&mut self) -> UpstreamTls {
        let section = "upstream_tls";
        let identity = self.identity_of(section);
        let path = [section, "ca_file"];
        let authorities = self.text(&path).and_then(|name| self.authorities(&path, name));
        UpstreamTls {
            mode: TlsMode::from_word(&self.word(&[section, "mode"])).unwrap_or(TlsMode::Prefer),
            authorities,
            identity,
            negotiation: match self.word(&[section, "negotiation"]).as_str() {
                "direct" => Negotiation::Direct,
                _ => Negotiation::Postgres,
            },
            channel_binding: binding(&self.word(&[section, "channel_binding"])).unwrap_or(ChannelBinding::Prefer),
            min_version: self.min_version(section),
            server_name: true,
        }
    }

    /// What holds for one server: its URL's parameters, else those of `[upstream_tls]`.
    pub(super) fn tls_of(&mut self, path: &[&str], url: UrlTls, common: &UpstreamTls) -> Arc<UpstreamTls> {
        let names = Names { cert: "sslcert", key: "sslkey" };
        let identity = match (url.cert, url.key) {
            (None, None) => common.identity.clone(),
            (cert, key) => self.identity(path, cert, key, &names),
        };
        let wanted = url.root_cert.is_some();
        let authorities = match url.root_cert {
            Some(name) => self.authorities(path, name),
            None => common.authorities.clone(),
        };
        // As for libpq, the system's authorities are of no use without the host's name.
        let system = wanted && authorities == Some(Authorities::System);
        let tls = UpstreamTls {
            mode: url.mode.unwrap_or(if system { TlsMode::VerifyFull } else { common.mode }),
            authorities,
            identity,
            negotiation: url.negotiation.unwrap_or(common.negotiation),
            channel_binding: url.channel_binding.unwrap_or(common.channel_binding),
            min_version: url.min_version.unwrap_or(common.min_version),
            server_name: url.server_name.unwrap_or(common.server_name),
        };
        self.check_upstream_tls(path, &tls, wanted || common.authorities.is_some());
        Arc::new(tls)
    }

    /// As [`Builder::tls_of`], for the URL that a flag brought: mistakes are told under its name.
    pub(super) fn tls_of_flag(&mut self, url: UrlTls, common: &UpstreamTls, flag: &str) -> Arc<UpstreamTls> {
        let before = self.written.mistakes.len();
        let tls = self.tls_of(&["upstream"], url, common);
        for mistake in self.written.mistakes.iter_mut().skip(before) {
            mistake.place = Place::Override(flag.to_owned());
        }
        tls
    }

    /// `authorities`: somebody tried to name some, so that their absence is told elsewhere.
    fn check_upstream_tls(&mut self, path: &[&str], tls: &UpstreamTls, authorities: bool) {
        let word = tls.mode.word();
        if tls.mode >= TlsMode::VerifyCa && !authorities {
            self.wrong(path, &format!("asks for {word} and names no authority; add sslrootcert=FILE or sslrootcert=system to the URL, or upstream_tls.ca_file"));
        }
        let unchecked = !matches!(tls.mode, TlsMode::Disable | TlsMode::VerifyFull);
        if tls.authorities == Some(Authorities::System) && unchecked {
            self.wrong(
                path,
                &format!("takes the system's authorities, which sign for everybody, with {word}; use verify-full"),
            );
        }
        if tls.negotiation == Negotiation::Direct && tls.mode < TlsMode::Require {
            self.wrong(
                path,
                &format!(
                    "begins with TLS directly, where {word} could not fall back; use require, verify-ca or verify-full"
                ),
            );
        }
        if tls.channel_binding == ChannelBinding::Require && tls.mode == TlsMode::Disable {
            self.wrong(path, "requires channel binding without TLS; allow TLS, or set channel_binding to prefer");
        }
    }

    /// What the admin port shows.
    pub(super) fn admin_identity(&mut self) -> Option<Identity> {
        let (cert, key) = (self.text(&["admin", "tls_cert_file"]), self.text(&["admin", "tls_key_file"]));
        let path = ["admin", if cert.is_some() { "tls_cert_file" } else { "tls_key_file" }];
        self.identity(&path, cert, key, &Names { cert: "tls_cert_file", key: "tls_key_file" })
    }

    fn identity_of(&mut self, section: &str) -> Option<Identity> {
        let (cert, key) = (self.text(&[section, "cert_file"]), self.text(&[section, "key_file"]));
        let path = [section, if cert.is_some() { "cert_file" } else { "key_file" }];
        self.identity(&path, cert, key, &Names { cert: "cert_file", key: "key_file" })
    }

    fn identity(
        &mut self,
        path: &[&str],
        cert: Option<String>,
        key: Option<String>,
        names: &Names<'_>,
    ) -> Option<Identity> {
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => return None,
            (Some(_), None) => {
                self.wrong(path, &format!("names a certificate without its key; add {}", names.key));
                return None;
            }
            (None, Some(_)) => {
                self.wrong(path, &format!("names a key without its certificate; add {}", names.cert));
                return None;
            }
        };
        let chain = self.pem(path, cert);
        let key_file = self.pem(path, key)?;
        Some(Identity { chain: chain?, key_path: key_file.path, key: Secret::new(&*key_file.text) })
    }

    fn authorities(&mut self, path: &[&str], name: String) -> Option<Authorities> {
        if name == "system" {
            return Some(Authorities::System);
        }
        self.pem(path, name).map(Authorities::File)
    }

    fn pem(&mut self, path: &[&str], file: String) -> Option<PemFile> {
        match self.sources.read(&file) {
            Ok(text) => Some(PemFile { path: file, text: text.into() }),
            Err(why) => {
                self.wrong(path, &format!("cannot read {file}: {why}; correct the path or its permissions"));
                None
            }
        }
    }

    fn min_version(&self, section: &str) -> TlsVersion {
        TlsVersion::from_word(&self.word(&[section, "min_version"])).unwrap_or(TlsVersion::V1_2)
    }
}
