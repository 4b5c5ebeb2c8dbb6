//! One side of a TLS connection without its socket: bytes from the peer in, bytes for the peer out.
//!
//! rustls' unbuffered interface does the cryptography; the buffers are ours, because they decide what an idle
//! connection costs: none of them is kept while it is empty.
//!
//! | buffer | holds | at most |
//! |---|---|---|
//! | `incoming` | a record that has not all come | one read; in a handshake [`MAX_HANDSHAKE`] |
//! | `plain` | what was decrypted and not taken yet | one read |
//! | `outgoing` | what was encrypted and not sent yet | [`CHUNK`] and what TLS adds |

use std::fmt;
use std::io;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon as Connection, UnbufferedStatus,
};
use rustls::{CommonState, Error};

/// Bytes that are encrypted at once, in two records.
pub(super) const CHUNK: usize = 32 * 1024;
/// Bytes of a handshake that are held at most: rustls refuses messages of more than 64 KiB.
const MAX_HANDSHAKE: usize = 96 * 1024;
/// More than TLS adds to a record: head, explicit nonce, content type, authentication tag.
const RECORD_OVERHEAD: usize = 64;
/// Bytes in a record, at most.
const RECORD: usize = 16 * 1024;

/// One side of a TLS connection.
pub(super) struct Channel {
    machine: Machine,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    plain_taken: usize,
    outgoing: Vec<u8>,
    outgoing_sent: usize,
    /// The plain bytes that are in `outgoing` and that the caller was not told to be sent.
    promised: usize,
    closed: bool,
    close_said: bool,
    /// It has failed: nothing is read and nothing encrypted any more.
    broken: bool,
}

enum Machine {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Where a connection stands when nothing more can be done with the bytes that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The handshake goes on: send what is to be sent, then read.
    Handshaking,
    /// The handshake is done.
    Open,
}

/// What to say once everything that has come is dealt with.
#[derive(Clone, Copy)]
enum Say<'a> {
    Nothing,
    Data(&'a [u8]),
    Goodbye,
}

/// What one look at a connection led to.
enum Turn {
    /// Look again.
    Moved,
    /// Bytes are missing.
    Blocked,
    /// It has been said.
    Said,
    /// The peer says no more.
    Closed,
}

impl Channel {
    /// The server's side, before its handshake.
    pub(super) fn server(connection: UnbufferedServerConnection) -> Self {
        Self::new(Machine::Server(connection))
    }

    /// The client's side, before its handshake.
    pub(super) fn client(connection: UnbufferedClientConnection) -> Self {
        Self::new(Machine::Client(connection))
    }

    fn new(machine: Machine) -> Self {
        Self {
            machine,
            incoming: Vec::new(),
            plain: Vec::new(),
            plain_taken: 0,
            outgoing: Vec::new(),
            outgoing_sent: 0,
            promised: 0,
            closed: false,
            close_said: false,
            broken: false,
        }
    }

    /// What the handshake has settled.
    pub(super) fn state(&self) -> &CommonState {
        match &self.machine {
            Machine::Client(connection) => connection,
            Machine::Server(connection) => connection,
        }
    }

    /// Where bytes of the peer are appended to, before [`Channel::progress`] or [`Channel::read`].
    pub(super) fn incoming(&mut self) -> &mut Vec<u8> {
        &mut self.incoming
    }

    /// Takes the handshake as far as it goes.
    ///
    /// # Errors
    /// The peer's certificate, or its bytes, were refused. What [`Channel::unsent`] then holds tells it why.
    pub(super) fn progress(&mut self) -> io::Result<Standing> {
        self.look(&mut [], Say::Nothing)?;
        if self.closed {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer closed during the TLS handshake"));
        }
        if !self.state().is_handshaking() {
            return Ok(Standing::Open);
        }
        if self.incoming.len() > MAX_HANDSHAKE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS handshake without end"));
        }
        Ok(Standing::Handshaking)
    }

    /// Decrypts what has come, into `into` and what does not fit there into a buffer for [`Channel::take`]. `Ok(0)`:
    /// nothing for us was in it.
    ///
    /// # Errors
    /// The bytes are not what the peer sent, or not TLS.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.look(into, Say::Nothing)
    }

    /// What was decrypted before.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let waiting = self.plain.get(self.plain_taken..).unwrap_or_default();
        let taken = copy(into, waiting);
        self.plain_taken += taken;
        if self.plain_taken == self.plain.len() {
            self.plain = Vec::new();
            self.plain_taken = 0;
        }
        taken
    }

    /// The peer has said that it says no more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Encrypts `data`, at most [`CHUNK`] bytes of it; they are owed to the caller until they are sent.
    ///
    /// # Errors
    /// The connection can carry no more, or what has come meanwhile is not TLS.
    pub(super) fn encrypt(&mut self, data: &[u8]) -> io::Result<()> {
        let data = data.get(..CHUNK).unwrap_or(data);
        self.look(&mut [], Say::Data(data))?;
        self.promised = data.len();
        Ok(())
    }

    /// Says, once, that nothing more will be said.
    ///
    /// # Errors
    /// The connection can carry no more.
    pub(super) fn say_goodbye(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.close_said, true) {
            self.look(&mut [], Say::Goodbye)?;
        }
        Ok(())
    }

    /// What has to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.outgoing.get(self.outgoing_sent..).unwrap_or_default()
    }

    /// So many bytes of it were.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.outgoing_sent += bytes;
        if self.outgoing_sent >= self.outgoing.len() {
            self.outgoing = Vec::new();
            self.outgoing_sent = 0;
        }
    }

    /// The plain bytes that an earlier [`Channel::encrypt`] took, and that the caller was not told of.
    pub(super) fn promised(&self) -> usize {
        self.promised
    }

    /// The caller is told now.
    pub(super) fn keep_promise(&mut self) -> usize {
        std::mem::take(&mut self.promised)
    }

    /// Looks at everything that has come; then says what is to be said. Gives the bytes that went into `into`.
    fn look(&mut self, into: &mut [u8], say: Say<'_>) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (mut used, mut taken) = (0, 0);
        let outcome = loop {
            let plain = &mut self.plain;
            let mut sink = |bytes: &[u8]| {
                let fits = match plain.is_empty() {
                    true => copy(into.get_mut(taken..).unwrap_or_default(), bytes),
                    false => 0,
                };
                taken += fits;
                plain.extend_from_slice(bytes.get(fits..).unwrap_or_default());
            };
            let incoming = self.incoming.get_mut(used..).unwrap_or_default();
            let (discard, turn) = self.machine.turn(incoming, &mut self.outgoing, &mut sink, say);
            used += discard;
            match turn {
                Ok(Turn::Moved) => {}
                Ok(Turn::Blocked | Turn::Said) => break Ok(()),
                Ok(Turn::Closed) => self.closed = true,
                Err(error) => break Err(error),
            }
        };
        // A buffer of its own size for what is left, so that a connection that is idle in the middle of a record keeps
        // no more than that.
        self.incoming = match self.incoming.get(used..) {
            Some(rest) if used > 0 => rest.to_vec(),
            _ => std::mem::take(&mut self.incoming),
        };
        outcome.map_err(|error| self.failed(error)).map(|()| taken)
    }

    /// Collects what rustls wants the peer to be told of the failure. The bytes that failed are not looked at again.
    fn failed(&mut self, error: Error) -> io::Error {
        self.broken = true;
        while self.state().wants_write() {
            let (_, turned) = self.machine.turn(&mut self.incoming, &mut self.outgoing, &mut |_| {}, Say::Nothing);
            if !matches!(turned, Ok(Turn::Moved)) {
                break;
            }
        }
        self.incoming = Vec::new();
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl Machine {
    fn turn(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
        say: Say<'_>,
    ) -> (usize, Result<Turn, Error>) {
        match self {
            Machine::Client(connection) => {
                let process = Connection::<ClientConnectionData>::process_tls_records;
                turn(connection, process, incoming, outgoing, sink, say)
            }
            Machine::Server(connection) => {
                let process = Connection::<ServerConnectionData>::process_tls_records;
                turn(connection, process, incoming, outgoing, sink, say)
            }
        }
    }
}

/// One look: `process` says what there is, and it is done. Gives the bytes of `incoming` that are used up, too.
fn turn<D>(
    connection: &mut Connection<D>,
    process: for<'c, 'i> fn(&'c mut Connection<D>, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
    say: Say<'_>,
) -> (usize, Result<Turn, Error>) {
    let UnbufferedStatus { mut discard, state } = process(connection, incoming);
    let turn = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    sink(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Turn::Moved),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => append(outgoing, RECORD_OVERHEAD, |room| {
            data.encode(room).map_err(|error| match error {
                EncodeError::InsufficientSize(needed) => Some(needed.required_size),
                EncodeError::AlreadyEncoded => None,
            })
        })
        .map(|()| Turn::Moved),
        // It is in `outgoing`, and leaves before anything that is said later.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Turn::Moved)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match say {
            Say::Nothing => Ok(Turn::Blocked),
            Say::Data(data) => {
                let guess = data.len() + (data.len() / RECORD + 2) * RECORD_OVERHEAD;
                append(outgoing, guess, |room| traffic.encrypt(data, room).map_err(needed)).map(|()| Turn::Said)
            }
            Say::Goodbye => {
                append(outgoing, 2 * RECORD_OVERHEAD, |room| traffic.queue_close_notify(room).map_err(needed))
                    .map(|()| Turn::Said)
            }
        },
        Ok(ConnectionState::PeerClosed) => Ok(Turn::Closed),
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => match say {
            Say::Data(_) => Err(Error::General("the connection is not open".to_owned())),
            Say::Nothing | Say::Goodbye => Ok(Turn::Blocked),
        },
        // Early data is never offered and never accepted.
        Ok(_) => Err(Error::General("a state of the connection that was not asked for".to_owned())),
    };
    (discard, turn)
}

fn needed(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(needed) => Some(needed.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `write` writes; it gives the room that it needs where there is too little.
fn append(
    out: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Error> {
    let (end, mut room) = (out.len(), guess);
    loop {
        out.resize(end + room, 0);
        match write(out.get_mut(end..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(end + written);
                return Ok(());
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(end);
                return Err(Error::General("the connection can carry no more".to_owned()));
            }
        }
    }
}

/// Copies what fits.
fn copy(into: &mut [u8], from: &[u8]) -> usize {
    let length = into.len().min(from.len());
    if let (Some(into), Some(from)) = (into.get_mut(..length), from.get(..length)) {
        into.copy_from_slice(from);
    }
    length
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("closed", &self.closed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
