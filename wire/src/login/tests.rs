//! Logins from end to end in memory: drivers that frame and step exactly as the proxy has to.

mod client_side;
mod mutation;
mod server_side;

use super::*;
use crate::encode::frontend as client_says;
use crate::error::{Error, Result};
use crate::frame;
use crate::login::server::{AwaitCleartext, AwaitMd5, AwaitSaslFinal, AwaitSaslInitial, ChannelBinding};
use crate::startup::ProtocolVersion;

const USER: &[u8] = b"ann";
const PASSWORD: &[u8] = b"pencil";
const SERVER_SECRET: &[u8] = b"of this process";
/// Few, so that the tests are quick.
const ITERATIONS: u32 = 3;
const NONCE: [u8; 18] = [5; 18];

/// How the server of a test asks for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Trust,
    Cleartext,
    Md5,
    Scram,
}

const METHODS: [Method; 4] = [Method::Trust, Method::Cleartext, Method::Md5, Method::Scram];

/// Where the server of a test stands. The enum only dispatches.
#[derive(Debug)]
enum Stand {
    Startup(AwaitStartup),
    Cleartext(AwaitCleartext),
    Md5(AwaitMd5),
    Initial(AwaitSaslInitial),
    Final(AwaitSaslFinal),
    LoggedIn(LoggedIn),
    Cancelled,
    Failed(Error),
}

/// A server fed with bytes in pieces of any size.
struct Server {
    stand: Option<Stand>,
    method: Method,
    binding: ChannelBinding,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Server {
    fn new(method: Method) -> Self {
        let stand = Some(Stand::Startup(AwaitStartup::new()));
        Self { stand, method, binding: ChannelBinding::None, buffer: Vec::new(), out: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
        while let Some(stand) = self.stand.take() {
            match self.step(stand) {
                Ok((stand, true)) => self.stand = Some(stand),
                Ok((stand, false)) => return self.stand = Some(stand),
                Err(error) => return self.stand = Some(Stand::Failed(error)),
            }
        }
    }

    /// One message, if it is all there: the next state, and whether there was one.
    fn step(&mut self, stand: Stand) -> Result<(Stand, bool)> {
        if let Stand::Startup(state) = stand {
            return self.open(state);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        let frame = server::next_message(&mut rest)?;
        self.buffer = rest.to_vec();
        let Some(frame) = frame else { return Ok((stand, false)) };
        let next = match stand {
            Stand::Cleartext(state) => {
                let cleartext = state.receive(frame)?;
                if !cleartext.is(PASSWORD) {
                    return Err(cleartext.refuse());
                }
                Stand::LoggedIn(cleartext.accept(&mut self.out))
            }
            Stand::Md5(state) => Stand::LoggedIn(state.receive(frame, &mut self.out)?),
            Stand::Initial(state) => Stand::Final(state.receive(frame, &mut self.out)?),
            Stand::Final(state) => Stand::LoggedIn(state.receive(frame, &mut self.out)?),
            other => return Ok((other, false)),
        };
        Ok((next, true))
    }

    fn open(&mut self, state: AwaitStartup) -> Result<(Stand, bool)> {
        let buffer = std::mem::take(&mut self.buffer);
        let opening = frame::opening(&buffer).map_err(|e| crate::error::Peer::Client.sent_bad_length(e))?;
        let Some(opening) = opening else {
            self.buffer = buffer;
            return Ok((Stand::Startup(state), false));
        };
        self.buffer = buffer[opening.total..].to_vec();
        let opened = state.receive(&opening, self.buffer.len(), &mut self.out)?;
        let stand = match opened {
            Opened::Tls(asked) => Stand::Startup(asked.refuse(&mut self.out)),
            Opened::Gss(asked) => Stand::Startup(asked.refuse(&mut self.out)),
            Opened::Cancel(_) => Stand::Cancelled,
            Opened::Startup(started, message) => self.challenge(started, message.user == USER)?,
        };
        Ok((stand, true))
    }

    fn challenge(&mut self, started: Started, known: bool) -> Result<Stand> {
        let out = &mut self.out;
        Ok(match self.method {
            Method::Trust => Stand::LoggedIn(started.trust(out)),
            Method::Cleartext => Stand::Cleartext(started.cleartext(out)),
            Method::Md5 => {
                let secret = if known { Md5Secret::from_password(USER, PASSWORD) } else { Md5Secret::mock() };
                Stand::Md5(started.md5(secret, [1, 2, 3, 4], out))
            }
            Method::Scram => {
                let verifier =
                    if known { verifier() } else { ScramVerifier::mock(SERVER_SECRET, &started.user, ITERATIONS) };
                Stand::Initial(started.scram(verifier, [9; 18], self.binding.clone(), out)?)
            }
        })
    }

    fn logged_in(&self) -> &LoggedIn {
        match &self.stand {
            Some(Stand::LoggedIn(logged_in)) => logged_in,
            other => panic!("not logged in: {other:?}"),
        }
    }

    fn failure(&self) -> &Error {
        match &self.stand {
            Some(Stand::Failed(error)) => error,
            other => panic!("not failed: {other:?}"),
        }
    }

    /// State and output as one text, to compare runs by.
    fn summary(&self) -> String {
        format!("{:?} {:?}", self.stand, self.out)
    }
}

fn verifier() -> ScramVerifier {
    ScramVerifier::from_password(PASSWORD, &scram::user_salt(SERVER_SECRET, USER), ITERATIONS).unwrap()
}

fn keys(password: &[u8]) -> ScramKeys {
    ScramKeys::derive(password, &scram::user_salt(SERVER_SECRET, USER), ITERATIONS).unwrap()
}

fn password(text: &[u8]) -> ClientSecret {
    ClientSecret::Password(text.to_vec().into())
}

fn startup(user: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client_says::startup_message(&mut out, ProtocolVersion::V3_0, [(&b"user"[..], user)]).unwrap();
    out
}

/// Runs our client against our server: what the client says flight by flight, the server, and what became of it.
fn converse(user: &[u8], secret: ClientSecret, mut server: Server) -> (Vec<Vec<u8>>, Server, Result<bool>) {
    let mut flights = vec![Vec::new()];
    let mut login = ClientLogin::start(user, [], secret, ProtocolVersion::V3_0, &mut flights[0]).unwrap();
    let mut read = 0;
    loop {
        server.feed(flights.last().unwrap());
        if let Some(Stand::LoggedIn(_)) = server.stand {
            crate::encode::backend::backend_key_data(&mut server.out, 7, b"keys").unwrap();
            crate::encode::backend::ready_for_query(&mut server.out, crate::tag::TransactionStatus::Idle);
        } else if let Some(Stand::Failed(error)) = &server.stand {
            let report = crate::encode::Report::of(error);
            crate::encode::backend::error_response(&mut server.out, &report);
        }
        let answer = server.out[read..].to_vec();
        read = server.out.len();
        assert!(!answer.is_empty(), "the server must go on: {:?}", server.stand);
        let mut rest = &answer[..];
        let mut flight = Vec::new();
        while let Some(frame) = client::next_message(&mut rest).unwrap() {
            login = match login.receive(frame, &mut flight) {
                Ok(ClientStep::Continue(login)) => login,
                Ok(ClientStep::Done(_)) => return (flights, server, Ok(true)),
                Ok(ClientStep::Refused(_)) => return (flights, server, Ok(false)),
                Err(error) => return (flights, server, Err(error)),
            };
        }
        flights.push(flight);
    }
}
