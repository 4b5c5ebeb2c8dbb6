//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the arithmetic, the stored verifier and the keys.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// Iterations of PBKDF2 for passwords that we hash ourselves: PostgreSQL's default (`scram_iterations`).
pub const DEFAULT_ITERATIONS: u32 = 4_096;

/// Bytes of salt for passwords that we hash ourselves: PostgreSQL's default.
pub const SALT_LENGTH: usize = 16;

/// Most iterations that we run ourselves: about 0.4 s. A verifier may name more, since checking against it runs none.
const MAX_OWN_ITERATIONS: u32 = 1_000_000;

/// One key or digest.
pub(crate) type Key = [u8; 32];

/// The keys of a password under one salt and iteration count. Whoever holds them can log in as the user wherever the
/// verifier has that salt and count, so they are not printed and are wiped when dropped.
#[derive(Clone)]
pub struct ScramKeys {
    /// Proves that we know the password.
    pub client_key: Key,
    /// The digest of the client key: what a server stores.
    pub stored_key: Key,
    /// Proves that the server knows the verifier.
    pub server_key: Key,
}

impl ScramKeys {
    /// Derives the keys from a password. It takes 1.7 ms for 4,096 iterations: keep the result.
    ///
    /// # Errors
    /// [`Error::UnusableSecret`] for no iterations or more than 1,000,000.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self> {
        if iterations == 0 || iterations > MAX_OWN_ITERATIONS {
            return Err(Error::UnusableSecret("its SCRAM iteration count is out of bounds"));
        }
        let salted = Zeroizing::new(salted_password(&prepare(password), salt, iterations));
        let client_key = hmac(&salted[..], &[b"Client Key"]);
        let server_key = hmac(&salted[..], &[b"Server Key"]);
        Ok(Self { client_key, stored_key: sha256(&client_key), server_key })
    }
}

impl PartialEq for ScramKeys {
    /// In a time that tells nothing. One password has one client key under a salt and a count.
    fn eq(&self, other: &Self) -> bool {
        self.client_key.ct_eq(&other.client_key).into()
    }
}

impl Eq for ScramKeys {}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        for key in [&mut self.client_key, &mut self.stored_key, &mut self.server_key] {
            key.zeroize();
        }
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(…)")
    }
}

/// What a server stores of a user's password: enough to check it, not enough to log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub(crate) iterations: u32,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: Key,
    pub(crate) server_key: Key,
    known: bool,
}

impl ScramVerifier {
    /// From a plain password. It takes 1.7 ms for 4,096 iterations: keep the result. Give it a salt of
    /// [`SALT_LENGTH`], from [`user_salt`] for example.
    ///
    /// # Errors
    /// [`Error::UnusableSecret`] for no iterations or more than 1,000,000.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self> {
        let keys = ScramKeys::derive(password, salt, iterations)?;
        let (stored_key, server_key) = (keys.stored_key, keys.server_key);
        Ok(Self { iterations, salt: salt.to_vec(), stored_key, server_key, known: true })
    }

    /// From what `pg_authid` holds: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the last three in base64.
    pub fn parse(stored: &str) -> Option<Self> {
        let (head, keys) = stored.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|count| (1..=i32::MAX as u32).contains(count))?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty() && salt.len() <= 256)?;
        let key = |text: &str| Key::try_from(STANDARD.decode(text).ok()?).ok();
        Some(Self { iterations, salt, stored_key: key(stored_key)?, server_key: key(server_key)?, known: true })
    }

    /// For a user who does not exist: the same exchange with a salt that stays the same from one try to the next, as a
    /// real one's would, and a refusal at its end whatever the client proves. Give it the iteration count of the users
    /// who do exist.
    pub fn mock(server_secret: &[u8], user: &[u8], iterations: u32) -> Self {
        let key = hmac(server_secret, &[b"mock key", user]);
        let salt = user_salt(server_secret, user).to_vec();
        Self { iterations: iterations.max(1), salt, stored_key: key, server_key: key, known: false }
    }

    /// Whether `password` is the password. Costs what [`ScramVerifier::from_password`] does.
    pub fn matches(&self, password: &[u8]) -> bool {
        let Ok(keys) = ScramKeys::derive(password, &self.salt, self.iterations) else {
            return false;
        };
        bool::from(keys.stored_key.ct_eq(&self.stored_key) & self.is_known())
    }

    /// Iterations of PBKDF2 that a client has to run.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    pub(crate) fn is_known(&self) -> Choice {
        Choice::from(u8::from(self.known))
    }

    /// The client key that made `proof` over `message`, if it is the right one: its digest is the stored key.
    pub(crate) fn open(&self, proof: &Key, message: &[&[u8]]) -> Option<Key> {
        let client_key = xor(proof, &hmac(&self.stored_key, message));
        let right = sha256(&client_key).ct_eq(&self.stored_key) & self.is_known();
        bool::from(right).then_some(client_key)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Display for ScramVerifier {
    /// As `pg_authid` holds it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// A salt for this user that does not change while `server_secret` does not. Used for real and for unknown users
/// alike, so that their salts cannot be told apart.
pub fn user_salt(server_secret: &[u8], user: &[u8]) -> [u8; SALT_LENGTH] {
    let digest = hmac(server_secret, &[b"user salt", user]);
    let mut salt = [0; SALT_LENGTH];
    salt.iter_mut().zip(digest).for_each(|(place, byte)| *place = byte);
    salt
}

/// SASLprep as PostgreSQL applies it: a password that is not UTF-8, or that holds something SASLprep prohibits, is
/// used as it is.
pub(crate) fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    // A text that is mapped to nothing at all is no password; PostgreSQL then takes the raw bytes as well.
    let prepared = prepared.filter(|text| !text.is_empty());
    Zeroizing::new(prepared.map_or_else(
        || password.to_vec(),
        |text| match text {
            Cow::Borrowed(text) => text.as_bytes().to_vec(),
            Cow::Owned(text) => text.into_bytes(),
        },
    ))
}

/// PBKDF2 with HMAC-SHA-256 and one block of output.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let keyed = keyed(password);
    let mut last = finish(keyed.clone(), &[salt, &1u32.to_be_bytes()]);
    let mut sum = last;
    for _ in 1..iterations {
        last = finish(keyed.clone(), &[&last]);
        sum = xor(&sum, &last);
    }
    sum
}

/// HMAC-SHA-256 of the parts, one behind the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    finish(keyed(key), parts)
}

/// HMAC takes keys of any length (RFC 2104): longer than a block they are hashed first, shorter ones are padded.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    let fill = |block: &mut [u8; 64], bytes: &[u8]| {
        block.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    };
    if key.len() > block.len() {
        fill(&mut block, &sha256(key))
    } else {
        fill(&mut block, key)
    }
    let keyed = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    keyed
}

fn finish(mut keyed: Hmac<Sha256>, parts: &[&[u8]]) -> Key {
    parts.iter().for_each(|part| keyed.update(part));
    keyed.finalize().into_bytes().into()
}

pub(crate) fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

pub(crate) fn xor(left: &Key, right: &Key) -> Key {
    let mut result = *left;
    result.iter_mut().zip(right).for_each(|(byte, other)| *byte ^= other);
    result
}

/// Takes the attribute `name` (a letter, `=`, a value without a comma) from the front of a SCRAM message.
pub(crate) fn attribute<'a>(rest: &mut &'a [u8], name: u8) -> Option<&'a [u8]> {
    let value = rest.strip_prefix(&[name, b'='])?;
    let end = value.iter().position(|&byte| byte == b',').unwrap_or(value.len());
    let (value, tail) = value.split_at(end);
    *rest = tail.strip_prefix(b",").unwrap_or(tail);
    Some(value)
}

/// Printable ASCII without a comma, at least one character: what a nonce is made of.
pub(crate) fn is_nonce(nonce: &[u8]) -> bool {
    !nonce.is_empty() && nonce.iter().all(|&byte| byte.is_ascii_graphic() && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    const PASSWORD: &[u8] = b"pencil";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    #[test]
    fn the_exchange_of_rfc_7677_holds() {
        let salt = STANDARD.decode(SALT).unwrap();
        let keys = ScramKeys::derive(PASSWORD, &salt, 4_096).unwrap();
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let message = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={SALT},i=4096,c=biws,r={nonce}");
        let proof = xor(&keys.client_key, &hmac(&keys.stored_key, &[message.as_bytes()]));
        assert_eq!(STANDARD.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let signature = hmac(&keys.server_key, &[message.as_bytes()]);
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");

        let verifier = ScramVerifier::from_password(PASSWORD, &salt, 4_096).unwrap();
        assert_eq!(verifier.open(&proof, &[message.as_bytes()]), Some(keys.client_key));
        assert_eq!(verifier.open(&proof, &[b"another message"]), None);
    }

    #[test]
    fn hmac_takes_keys_of_any_length() {
        // RFC 4231, test cases 2 and 6.
        let short = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(short[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        let long = hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(long[..4], [0x60, 0xe4, 0x31, 0x59]);
    }

    #[test]
    fn a_stored_verifier_is_read_and_written_as_the_server_does() {
        // Written by PostgreSQL 15 for the password "pencil".
        let text = concat!(
            "SCRAM-SHA-256$4096:EGvBCCMu5my0KFs+5EDhyw==$9p0j5nKDDa527/X7apwMidq93DCm1gh2BzQ57r4ZL/I=:",
            "76y3GbcwzS6JsSYX/phCraqHbdQRN+T1yF5p+LpGhrg="
        );
        let verifier = ScramVerifier::parse(text).expect("a verifier");
        assert_eq!(verifier.to_string(), text);
        assert_eq!(verifier.iterations(), 4_096);
        assert!(verifier.matches(b"pencil") && !verifier.matches(b"Pencil"));
        let made = ScramVerifier::from_password(b"foo", &[1; SALT_LENGTH], 7).unwrap();
        let read = ScramVerifier::parse(&made.to_string()).unwrap();
        assert_eq!(read, made);
        assert!(read.matches(b"foo") && !read.matches(b"Foo"));
        for bad in [
            "",
            "SCRAM-SHA-256",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$4096:AA==$AA==:AA==",
            &text.replace("4096", "0"),
            &text.replace("4096", "-1"),
            &text.replace("4096", "4294967296"),
            &text.replace("EGvBCCMu5my0KFs+5EDhyw==", ""),
            &text.replace("EGvB", "EGv"),
            &text.replace(':', ";"),
            &text[..text.len() - 1],
            &text.replace("SCRAM-SHA-256", "SCRAM-SHA-1"),
        ] {
            assert!(ScramVerifier::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_mock_has_a_stable_salt_per_user_and_lets_nobody_in() {
        let mock = |user: &[u8]| ScramVerifier::mock(b"server secret", user, 4_096);
        assert_eq!(mock(b"ann"), mock(b"ann"));
        assert_ne!(mock(b"ann").salt, mock(b"bob").salt);
        assert_ne!(mock(b"ann").salt, ScramVerifier::mock(b"other secret", b"ann", 4_096).salt);
        assert_eq!(mock(b"ann").salt.len(), SALT_LENGTH);
        // Even a proof that holds is refused: take the stored key for a digest that we know.
        let mut open = mock(b"ann");
        open.stored_key = sha256(&[7; 32]);
        let proof = xor(&[7; 32], &hmac(&open.stored_key, &[b"m"]));
        assert_eq!(open.open(&proof, &[b"m"]), None);
        open.known = true;
        assert_eq!(open.open(&proof, &[b"m"]), Some([7; 32]));
    }

    #[test]
    fn passwords_are_prepared_as_postgres_does() {
        for (password, prepared) in [
            (&b"pencil"[..], &b"pencil"[..]),
            ("a\u{a0}b".as_bytes(), b"a b"),
            ("I\u{ad}X".as_bytes(), b"IX"),
            ("\u{2168}".as_bytes(), b"IX"),
            ("\u{aa}".as_bytes(), b"a"),
            (b"tab\there", b"tab\there"),
            ("\u{627}1".as_bytes(), "\u{627}1".as_bytes()),
            (b"\xff\xfe", b"\xff\xfe"),
            ("\u{ad}".as_bytes(), "\u{ad}".as_bytes()),
            (b"", b""),
        ] {
            assert_eq!(&prepare(password)[..], prepared, "{password:?}");
        }
    }

    #[test]
    fn iterations_are_bounded_before_they_are_run() {
        for iterations in [0, MAX_OWN_ITERATIONS + 1, u32::MAX] {
            assert!(matches!(ScramKeys::derive(b"x", b"salt", iterations), Err(Error::UnusableSecret(_))));
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let verifier = ScramVerifier::from_password(b"foo", &[1; 16], 1).unwrap();
        assert_eq!(format!("{verifier:?}"), "ScramVerifier { iterations: 1, .. }");
        assert_eq!(format!("{:?}", ScramKeys::derive(b"foo", b"s", 1).unwrap()), "ScramKeys(…)");
    }
}
