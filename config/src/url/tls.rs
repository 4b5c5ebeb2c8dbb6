//! What a URL says about TLS, as libpq's parameters.

use super::UrlError;
use crate::{ChannelBinding, Negotiation, TlsMode, TlsVersion};

/// TLS parameters of a URL; `None`: left to `[upstream_tls]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlTls {
    /// `sslmode`.
    pub mode: Option<TlsMode>,
    /// `sslrootcert`: a file, or `system`.
    pub root_cert: Option<String>,
    /// `sslcert`: a file.
    pub cert: Option<String>,
    /// `sslkey`: a file.
    pub key: Option<String>,
    /// `sslnegotiation`.
    pub negotiation: Option<Negotiation>,
    /// `channel_binding`.
    pub channel_binding: Option<ChannelBinding>,
    /// `ssl_min_protocol_version`.
    pub min_version: Option<TlsVersion>,
    /// `sslsni`.
    pub server_name: Option<bool>,
}

impl UrlTls {
    /// Takes a parameter; `false`: it is none of these.
    pub(super) fn apply(&mut self, name: &str, value: &str) -> Result<bool, UrlError> {
        let wrong = |name, expected| UrlError::Value { name, expected };
        match name {
            "sslmode" => {
                let mode = TlsMode::from_word(value);
                self.mode =
                    Some(mode.ok_or_else(|| {
                        wrong("sslmode", "disable, allow, prefer, require, verify-ca or verify-full")
                    })?);
            }
            "sslrootcert" => self.root_cert = given(value),
            "sslcert" => self.cert = given(value),
            "sslkey" => self.key = given(value),
            "sslnegotiation" => {
                self.negotiation = Some(match value {
                    "postgres" => Negotiation::Postgres,
                    "direct" => Negotiation::Direct,
                    _ => return Err(wrong("sslnegotiation", "postgres or direct")),
                });
            }
            "channel_binding" => {
                let binding = binding(value);
                self.channel_binding =
                    Some(binding.ok_or_else(|| wrong("channel_binding", "disable, prefer or require"))?);
            }
            "ssl_min_protocol_version" => {
                let version = TlsVersion::from_word(value);
                self.min_version =
                    Some(version.ok_or_else(|| wrong("ssl_min_protocol_version", "TLSv1.2 or TLSv1.3"))?);
            }
            "sslsni" => {
                self.server_name = Some(match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(wrong("sslsni", "0 or 1")),
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// By its word.
pub(crate) fn binding(word: &str) -> Option<ChannelBinding> {
    match word {
        "disable" => Some(ChannelBinding::Disable),
        "prefer" => Some(ChannelBinding::Prefer),
        "require" => Some(ChannelBinding::Require),
        _ => None,
    }
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
