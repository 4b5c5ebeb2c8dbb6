//! The md5 challenge: weak, still out there, replaced by SCRAM wherever both sides can.

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What PostgreSQL stores of an md5 password: the hex digest of password and user name. It is as good as the password
/// for logging in, so it is neither printed nor left in memory.
#[derive(Clone)]
pub struct Md5Secret {
    hex: Zeroizing<[u8; 32]>,
    known: bool,
}

impl Md5Secret {
    /// From a plain password.
    pub fn from_password(user: &[u8], password: &[u8]) -> Self {
        Self { hex: Zeroizing::new(hex_digest(&[password, user])), known: true }
    }

    /// From what `pg_authid` holds: `md5` and 32 hex digits, or the digits alone.
    pub fn parse(stored: &str) -> Option<Self> {
        let digits = stored.strip_prefix("md5").unwrap_or(stored);
        let mut hex: [u8; 32] = digits.as_bytes().try_into().ok()?;
        hex.make_ascii_lowercase();
        hex.iter().all(u8::is_ascii_hexdigit).then(|| Self { hex: Zeroizing::new(hex), known: true })
    }

    /// For a user who does not exist: challenged like any other, and refused whatever the answer is.
    pub fn mock() -> Self {
        Self { hex: Zeroizing::new([b'0'; 32]), known: false }
    }

    /// The answer to the challenge `salt`: `md5` and the hex digest of our digest and the salt.
    pub fn response(&self, salt: [u8; 4]) -> Zeroizing<Vec<u8>> {
        let mut response = Zeroizing::new(b"md5".to_vec());
        response.extend_from_slice(&hex_digest(&[&self.hex[..], &salt]));
        response
    }

    /// Whether `response` answers the challenge `salt`. Takes the same time for every response of the right length.
    pub fn accepts(&self, response: &[u8], salt: [u8; 4]) -> bool {
        let same = self.response(salt).ct_eq(response);
        bool::from(same & subtle::Choice::from(u8::from(self.known)))
    }

    /// Whether `password` is the password of `user`.
    pub fn matches(&self, user: &[u8], password: &[u8]) -> bool {
        let same = hex_digest(&[password, user]).ct_eq(&self.hex[..]);
        bool::from(same & subtle::Choice::from(u8::from(self.known)))
    }
}

impl fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Secret(…)")
    }
}

fn hex_digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(hasher.finalize()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_rfc_1321() {
        for (text, hex) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ] {
            assert_eq!(hex_digest(&[text.as_bytes()]), hex.as_bytes());
        }
    }

    #[test]
    fn we_answer_a_challenge_as_an_independent_client_does() {
        for (user, password, salt) in [("md5_user", "password", [0x2a, 0x3d, 0x8f, 0xe0]), ("é", "", [0, 0, 0, 0])] {
            let independent = postgres_protocol::authentication::md5_hash(user.as_bytes(), password.as_bytes(), salt);
            let secret = Md5Secret::from_password(user.as_bytes(), password.as_bytes());
            assert_eq!(&secret.response(salt)[..], independent.as_bytes());
            assert!(secret.accepts(independent.as_bytes(), salt));
            assert!(!secret.accepts(independent.as_bytes(), [1, 2, 3, 4]));
        }
        let known = Md5Secret::from_password(b"md5_user", b"password");
        assert_eq!(&known.response([0x2a, 0x3d, 0x8f, 0xe0])[..], b"md562af4dd09bbb41884907a838a3233294");
    }

    #[test]
    fn a_stored_hash_serves_as_the_password_does() {
        let plain = Md5Secret::from_password(b"ann", b"secret");
        let stored = format!("md5{}", std::str::from_utf8(&plain.hex[..]).unwrap());
        for text in [stored.clone(), stored.to_uppercase().replace("MD5", "md5"), stored[3..].to_string()] {
            let parsed = Md5Secret::parse(&text).expect("a stored hash");
            assert!(parsed.accepts(&plain.response([1, 2, 3, 4]), [1, 2, 3, 4]));
            assert!(parsed.matches(b"ann", b"secret") && !parsed.matches(b"bob", b"secret"));
        }
        for bad in ["", "md5", "md5xyz", &stored[..34], &format!("{stored}0"), &stored.replace(&stored[3..4], "g")] {
            assert!(Md5Secret::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_hash_that_the_server_stores_is_read() {
        // Written by PostgreSQL 15 for the user "md5u" with the password "pencil".
        let stored = Md5Secret::parse("md5e7a97d395fb22b42266826188b3f53e0").expect("a stored hash");
        assert!(stored.matches(b"md5u", b"pencil") && !stored.matches(b"md5u", b"Pencil"));
    }

    #[test]
    fn a_mock_refuses_even_its_own_answer() {
        let mock = Md5Secret::mock();
        assert!(!mock.accepts(&mock.response([1, 2, 3, 4]), [1, 2, 3, 4]));
        assert!(!format!("{mock:?}").contains('0'));
    }
}
