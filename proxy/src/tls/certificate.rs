//! What stands in a certificate. Nothing here decides whether to believe it.

use std::time::SystemTime;

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Any, ObjectIdentifier};
use x509_cert::der::{Encode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::PeerCertificate;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// RSASSA-PSS, which names its hash in its parameters.
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
/// The arc of NIST's hash functions in DER: 2.16.840.1.101.3.4.2.
const NIST_HASHES: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// Reads a certificate in DER; `None`: it is none.
pub(super) fn read(der: &[u8]) -> Option<Certificate> {
    Certificate::from_der(der).ok()
}

/// The names in a certificate; `None`: it is none.
pub(super) fn names(der: &[u8]) -> Option<PeerCertificate> {
    let certificate = read(der)?;
    let held = certificate.tbs_certificate();
    let mut names = PeerCertificate {
        common_name: common_name(&certificate),
        subject: held.subject().to_string().into(),
        issuer: held.issuer().to_string().into(),
        ..PeerCertificate::default()
    };
    for name in alternatives(&certificate) {
        let (list, text) = match &name {
            GeneralName::DnsName(text) => (&mut names.dns_names, text),
            GeneralName::Rfc822Name(text) => (&mut names.emails, text),
            GeneralName::UniformResourceIdentifier(text) => (&mut names.uris, text),
            _ => continue,
        };
        if !text.as_str().contains('\0') {
            list.push(text.as_str().into());
        }
    }
    Some(names)
}

/// The common name to fall back to where a server's certificate has no alternative name of a host's kind, as libpq does.
pub(super) fn lone_common_name(der: &[u8]) -> Option<Box<str>> {
    let certificate = read(der)?;
    let of_hosts = |name: &GeneralName| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_));
    if alternatives(&certificate).iter().any(of_hosts) { None } else { common_name(&certificate) }
}

/// From when and until when a certificate holds.
pub(super) fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let certificate = read(der)?;
    let validity = certificate.tbs_certificate().validity();
    Some((validity.not_before.to_system_time(), validity.not_after.to_system_time()))
}

/// The public key of a certificate, in DER.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    read(der)?.tbs_certificate().subject_public_key_info().to_der().ok()
}

/// The `tls-server-end-point` data of a certificate (RFC 5929, section 4.1): its digest by the hash of its own signature,
/// by SHA-256 where that is MD5 or SHA-1. `None`: its signature has no such hash, as Ed25519 has none.
pub(super) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = read(der)?;
    let algorithm = certificate.signature_algorithm();
    let oid = algorithm.oid.to_string();
    let bits = match oid.as_str() {
        RSA_PSS => hash_of_pss(algorithm.parameters.as_ref()),
        // With RSA: MD5, SHA-1, then SHA-2; with ECDSA the same without MD5.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => Some(256),
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => Some(256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(512),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Some(224),
        _ => None,
    };
    Some(match bits? {
        224 => Sha224::digest(der).to_vec(),
        384 => Sha384::digest(der).to_vec(),
        512 => Sha512::digest(der).to_vec(),
        _ => Sha256::digest(der).to_vec(),
    })
}

/// Bits of the hash in the parameters of RSASSA-PSS. It stands first, under the tag [0]; left out it is SHA-1.
fn hash_of_pss(parameters: Option<&Any>) -> Option<u32> {
    let bytes = parameters?.value();
    if bytes.first() != Some(&0xa0) {
        return Some(256);
    }
    let arc = bytes.windows(NIST_HASHES.len()).position(|window| window == NIST_HASHES);
    match arc.and_then(|at| bytes.get(at + NIST_HASHES.len())) {
        Some(1) => Some(256),
        Some(2) => Some(384),
        Some(3) => Some(512),
        Some(4) => Some(224),
        _ => None,
    }
}

fn alternatives(certificate: &Certificate) -> Vec<GeneralName> {
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    found.ok().flatten().map(|(_, names)| names.0).unwrap_or_default()
}

fn common_name(certificate: &Certificate) -> Option<Box<str>> {
    let attribute = certificate.tbs_certificate().subject().iter().find(|attribute| attribute.oid == COMMON_NAME)?;
    let known = matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    let text = std::str::from_utf8(attribute.value.value()).ok().filter(|text| known && !text.contains('\0'))?;
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn der(params: CertificateParams, algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn text(text: &str) -> Ia5String {
        Ia5String::try_from(text).unwrap()
    }

    #[test]
    fn names_are_read() {
        let mut params = CertificateParams::new(["db.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop, Inc.");
        params.distinguished_name.push(DnType::CommonName, "anna");
        params.subject_alt_names.push(SanType::Rfc822Name(text("anna@shop.example")));
        params.subject_alt_names.push(SanType::URI(text("spiffe://shop/anna")));
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        let der = der(params, &rcgen::PKCS_ECDSA_P256_SHA256);
        let names = names(&der).unwrap();
        assert_eq!(names.common_name.as_deref(), Some("anna"));
        assert_eq!(&*names.subject, "CN=anna,O=Shop\\, Inc.");
        assert_eq!(names.dns_names, ["db.example".into()]);
        assert_eq!(names.emails, ["anna@shop.example".into()]);
        assert_eq!(names.uris, ["spiffe://shop/anna".into()]);
        assert_eq!(lone_common_name(&der), None, "it has names of hosts");
        assert!(validity(&der).is_some_and(|(from, to)| from < to));
    }

    #[test]
    fn a_name_with_a_nul_is_no_name() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "anna\0.evil.example");
        let der = der(params, &rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(names(&der).unwrap().common_name, None);
    }

    #[test]
    fn the_end_point_follows_the_signature() {
        for (algorithm, length) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let der = der(CertificateParams::default(), algorithm);
            assert_eq!(end_point(&der).map(|data| data.len()), length);
        }
        assert_eq!(end_point(b"no certificate"), None);
    }

    #[test]
    fn the_hash_of_pss_stands_in_its_parameters() {
        let parameters = |bytes: &[u8]| Any::new(Tag::Sequence, bytes).unwrap();
        let hash = |last| {
            let mut bytes = vec![0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09];
            bytes.extend(NIST_HASHES);
            bytes.extend([last, 0x05, 0x00]);
            parameters(&bytes)
        };
        assert_eq!(
            [1, 2, 3, 4, 9].map(|last| hash_of_pss(Some(&hash(last)))),
            [Some(256), Some(384), Some(512), Some(224), None]
        );
        assert_eq!(hash_of_pss(Some(&parameters(&[]))), Some(256), "SHA-1 is said by saying nothing");
        assert_eq!(hash_of_pss(None), None);
    }
}
