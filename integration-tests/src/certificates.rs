//! Certificates made on the spot: authorities, and what they sign.

use std::time::{Duration, SystemTime};

use config::{Identity, PemFile, Secret};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one that nobody else trusts.
    pub fn new(name: &str) -> Self {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        let pem = params.self_signed(&key).expect("an authority signs itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// As the settings have it.
    pub fn file(&self) -> PemFile {
        PemFile { path: "authority.crt".to_owned(), text: self.pem.as_str().into() }
    }

    /// A certificate with this common name and these hosts.
    pub fn sign(&self, name: &str, hosts: &[&str]) -> Signed {
        self.finish(named(name, hosts))
    }

    /// One whose time is over.
    pub fn sign_expired(&self, name: &str, hosts: &[&str]) -> Signed {
        let mut params = named(name, hosts);
        params.not_before = (SystemTime::now() - 2 * DAY).into();
        params.not_after = (SystemTime::now() - DAY).into();
        self.finish(params)
    }

    fn finish(&self, params: CertificateParams) -> Signed {
        let key = KeyPair::generate().expect("keys can be made");
        let cert = params.signed_by(&key, &self.issuer).expect("an authority signs").pem();
        Signed { cert, key: key.serialize_pem() }
    }
}

impl Signed {
    /// As the settings have it.
    pub fn identity(&self) -> Identity {
        Identity {
            chain: PemFile { path: "own.crt".to_owned(), text: self.cert.as_str().into() },
            key_path: "own.key".to_owned(),
            key: Secret::new(self.key.as_str()),
        }
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("tests name hosts that can stand in a certificate");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
