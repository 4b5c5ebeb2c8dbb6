//! PEM files: what should be in them, and what people put into them instead.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// All certificates in a file, at least one.
pub(super) fn certificates(path: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let certificates = read.map_err(|error| TlsError::new(path, format!("is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(TlsError::new(path, "holds no certificate (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates)
}

/// The key in a file.
pub(super) fn key(path: &str, text: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        _ if text.contains("ENCRYPTED") => {
            TlsError::new(path, "holds an encrypted key; decrypt it, as by openssl pkey -in FILE -out PLAIN")
        }
        pem::Error::NoItemsFound => TlsError::new(path, "holds no key (-----BEGIN PRIVATE KEY-----)"),
        error => TlsError::new(path, format!("is not PEM: {error}")),
    })
}
