//! Logins cut at every byte, and logins whose bytes were changed at random (from a fixed seed).

use super::*;
use crate::startup::{GSSENC_REQUEST, SSL_REQUEST};
use crate::tag::Backend;

/// The flights of a client, recorded once per method. Nonces and salts are fixed, so they serve again.
fn recorded(method: Method, given: &[u8]) -> Vec<Vec<u8>> {
    let secret = if method == Method::Scram {
        ClientSecret::ScramKeys { keys: keys(given), nonce: NONCE }
    } else {
        password(given)
    };
    let encryption = [GSSENC_REQUEST, SSL_REQUEST].map(|code| [8u32.to_be_bytes(), code.to_be_bytes()].concat());
    encryption.into_iter().chain(converse(USER, secret, Server::new(method)).0).collect()
}

fn whole(method: Method, flights: &[Vec<u8>]) -> Server {
    let mut server = Server::new(method);
    flights.iter().for_each(|flight| server.feed(flight));
    server
}

#[test]
fn a_login_cut_at_every_byte_ends_the_same() {
    for method in METHODS {
        for given in [PASSWORD, b"wrong"] {
            let flights = recorded(method, given);
            let expected = whole(method, &flights).summary();
            for (cut_flight, flight) in flights.iter().enumerate() {
                for cut in 0..=flight.len() {
                    let mut server = Server::new(method);
                    for (index, flight) in flights.iter().enumerate() {
                        let (first, second) = flight.split_at(if index == cut_flight { cut } else { 0 });
                        server.feed(first);
                        server.feed(second);
                    }
                    assert_eq!(server.summary(), expected, "{method:?}, flight {cut_flight} cut at {cut}");
                }
            }
            let mut server = Server::new(method);
            flights.iter().flatten().for_each(|byte| server.feed(&[*byte]));
            assert_eq!(server.summary(), expected, "{method:?}, byte by byte");
        }
    }
}

/// What a client makes of a server's bytes that arrive in two pieces.
fn client_outcome(secret: ClientSecret, bytes: &[u8], cut: usize) -> String {
    let mut out = Vec::new();
    let mut login = ClientLogin::start(USER, [], secret, ProtocolVersion::V3_2, &mut out).unwrap();
    let mut buffer = Vec::new();
    for piece in [&bytes[..cut], &bytes[cut..]] {
        buffer.extend_from_slice(piece);
        let mut rest = &buffer[..];
        loop {
            let frame = match client::next_message(&mut rest) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return format!("{error:?} {out:?}"),
            };
            login = match login.receive(frame, &mut out) {
                Ok(ClientStep::Continue(login)) => login,
                other => return format!("{other:?} {out:?}"),
            };
        }
        buffer = rest.to_vec();
    }
    format!("awaits {out:?}")
}

fn scram_keys() -> ClientSecret {
    ClientSecret::ScramKeys { keys: keys(PASSWORD), nonce: NONCE }
}

/// What a server says during a login by SCRAM with the fixed nonces.
fn servers_bytes() -> Vec<u8> {
    let (_, server, outcome) = converse(USER, scram_keys(), Server::new(Method::Scram));
    assert_eq!(outcome, Ok(true));
    server.out
}

#[test]
fn a_servers_answers_cut_at_every_byte_end_the_same() {
    let bytes = servers_bytes();
    let expected = client_outcome(scram_keys(), &bytes, 0);
    assert!(expected.starts_with("Ok(Done"), "{expected}");
    for cut in 0..=bytes.len() {
        assert_eq!(client_outcome(scram_keys(), &bytes, cut), expected, "cut at {cut}");
    }
}

/// xorshift64*: enough to stir bytes, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Changes, drops, doubles or inserts a few bytes.
    fn stir(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let byte = [0, 0xff, b',', b'=', self.below(256) as u8][self.below(5)];
            match (self.below(4), bytes.get_mut(at)) {
                (0, Some(place)) => *place = byte,
                (1, Some(place)) => *place ^= 1 << self.below(8),
                (2, Some(_)) => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()))),
                _ => bytes.insert(at, byte),
            }
        }
    }
}

#[test]
fn no_change_to_a_clients_bytes_panics_or_lets_somebody_else_in() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for method in METHODS {
        let flights = recorded(method, PASSWORD);
        for _ in 0..3_000 {
            let mut changed = flights.clone();
            let index = random.below(changed.len());
            random.stir(&mut changed[index]);
            let server = whole(method, &changed);
            match server.stand {
                Some(Stand::LoggedIn(logged_in)) if method == Method::Md5 || method == Method::Scram => {
                    assert_eq!(logged_in.user(), USER, "{changed:?}");
                }
                Some(Stand::Failed(_)) => refused += 1,
                _ => {}
            }
        }
    }
    assert!(refused > 2_000, "changes are mostly refused, and {refused} were");
}

#[test]
fn no_change_to_a_servers_bytes_panics() {
    let mut random = Random(0x0dd0_beef);
    let bytes = servers_bytes();
    let mut failed = 0;
    for round in 0..5_000 {
        let mut changed = bytes.clone();
        random.stir(&mut changed);
        let secret = if round % 2 == 0 { scram_keys() } else { password(PASSWORD) };
        failed += usize::from(!client_outcome(secret, &changed, 0).starts_with("Ok(Done"));
    }
    assert!(failed > 2_500, "changes are mostly refused, and {failed} were");
    for tag in Backend::ALL {
        for body in [&b""[..], &[0; 4], &[0xff; 9], b"a\0b\0"] {
            let message = [&[tag.byte()][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat();
            client_outcome(scram_keys(), &message, 0);
            client_outcome(scram_keys(), &[&bytes[..24.min(bytes.len())], &message].concat(), 3);
        }
    }
}
