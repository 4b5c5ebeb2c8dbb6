//! The connection over which a server streams what was committed.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use wire::encode::frontend as ask;
use wire::error::ErrorFields;
use wire::frame::BadLength;
use wire::pgoutput::{Reader, Streamed, Transactions, status_update};
use wire::tag::Backend;
use wire::view;

use super::news::News;
use super::{Failure, PATIENCE};
use crate::aside::{Kind, Place};
use crate::control;
use crate::pool::{DialFailure, Pool};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::upstream::dial::{Failure as NotDialled, Target};
use crate::upstream::server::Server;

/// Bytes that are read at once.
const READ: usize = 16 * 1024;
/// Rows of an answer to a command; the longest has one.
const MAX_ROWS: usize = 16;
/// A server that says nothing for so long is not there any more, or decodes something for longer than anybody waits.
const SILENCE: Duration = Duration::from_secs(60);

/// A row of an answer, as texts.
type Row = Vec<Option<String>>;

/// A logged-in walsender.
pub(super) struct Link {
    stream: Stream,
    reader: Reader,
    _place: Place,
    /// Where it is.
    pub(super) server: Arc<Server>,
}

/// What was said wrong by the server.
impl From<BadLength> for Failure {
    fn from(error: BadLength) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<view::Malformed> for Failure {
    fn from(error: view::Malformed) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Link {
    /// Connects as the pool's user does, for logical replication.
    pub(super) async fn dial(shared: &Shared, pool: &Pool) -> Result<Self, Failure> {
        let target = pool.dialling_target().ok_or_else(|| Failure::Lost("no client has logged in yet".to_owned()))?;
        let place = shared.beside(Kind::Slot).map_err(|_| Failure::full())?;
        let mut own = Target::clone(&target);
        let parameters: [(&str, &[u8]); 2] = [("replication", b"database"), ("application_name", b"pgweir cache")];
        own.parameters.extend(parameters.map(|(name, value)| (name.into(), value.into())));
        let settings = pool.settings();
        let dialled = own.dial(shared, &settings, settings.connect_timeout).await;
        let dialled = dialled.map_err(|failure| refused_dial(failure, &target.user))?;
        let stream = dialled.shipped.stream.attach()?;
        Ok(Self { stream, reader: Reader::default(), _place: place, server: dialled.server })
    }

    /// When the server was started, by which two connections know that it is the same one.
    pub(super) async fn started(&mut self) -> Result<Option<String>, Failure> {
        let answer = tokio::time::timeout(PATIENCE, self.command("SELECT pg_postmaster_start_time()")).await;
        let rows = answer.map_err(|_| Failure::slow())??;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Makes a slot that ends with this connection; its name, and where it begins. Waits for all transactions that run.
    pub(super) async fn make_slot(&mut self) -> Result<(String, String), Failure> {
        let name = format!("pgweir_{:016x}", rand::rng().random::<u64>());
        // The old form, which all versions take.
        let make = format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT");
        let start = self.command(&make).await?.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten();
        start
            .map(|start| (name, start))
            .ok_or_else(|| Failure::Lost("the server does not say where the slot begins".to_owned()))
    }

    async fn command(&mut self, text: &str) -> Result<Vec<Row>, Failure> {
        let mut out = Vec::new();
        ask::query(&mut out, text.as_bytes()).map_err(|error| Failure::Lost(error.to_string()))?;
        self.stream.write_all(&out).await?;
        let (mut rows, mut failure, mut ready) = (Vec::new(), None, false);
        let mut bytes = vec![0; READ];
        while !ready {
            let came = self.stream.read(&mut bytes).await?;
            if came == 0 {
                return Err(failure.unwrap_or_else(Failure::closed));
            }
            self.reader.push(bytes.get(..came).unwrap_or_default(), |tag, body| {
                match Backend::from_byte(tag) {
                    Some(Backend::DataRow) if rows.len() < MAX_ROWS => {
                        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                        rows.push(view::Row::read(body)?.map_while(Result::ok).map(|value| value.map(text)).collect());
                    }
                    Some(Backend::ErrorResponse) => failure = Some(Failure::said(body)),
                    Some(Backend::ReadyForQuery) => ready = true,
                    _ => {}
                }
                Ok::<_, Failure>(())
            })?;
        }
        failure.map_or(Ok(rows), Err)
    }

    /// Has everything from the slot's beginning on streamed into `news`; returns when that has ended, and says why.
    ///
    /// `streams` is told when it begins. Whenever `due` is told, the server is told how far we are and asked how far it is:
    /// an answer says that everything in front of its place has been sent in front of it. Such an answer may come before
    /// the server has looked at what was committed last, and comes while it sends a large transaction. So it is the place
    /// that counts, and not that it came behind the question.
    pub(super) async fn hear(
        self,
        command: &str,
        news: &RefCell<News>,
        streams: &Notify,
        due: &Notify,
        heard: &Notify,
    ) -> Failure {
        let Self { stream, reader, _place, .. } = self;
        let (from, mut to) = tokio::io::split(stream);
        let mut out = Vec::new();
        let sent = match ask::query(&mut out, command.as_bytes()) {
            Ok(()) => to.write_all(&out).await.map_err(Failure::from),
            Err(error) => Err(Failure::Lost(error.to_string())),
        };
        if let Err(failure) = sent {
            return failure;
        }
        // Both at once: a server that waits for us to read must not wait for what we write.
        tokio::select! {
            failure = read(from, reader, news, streams, heard) => failure,
            failure = answer(to, news, due) => failure,
        }
    }
}

async fn answer(mut to: WriteHalf<Stream>, news: &RefCell<News>, due: &Notify) -> Failure {
    let mut out = Vec::new();
    loop {
        due.notified().await;
        out.clear();
        status_update(&mut out, news.borrow().applied(), true);
        if let Err(error) = to.write_all(&out).await {
            return error.into();
        }
    }
}

async fn read(
    mut from: ReadHalf<Stream>,
    mut reader: Reader,
    news: &RefCell<News>,
    streams: &Notify,
    heard: &Notify,
) -> Failure {
    let (mut transactions, mut bytes) = (Transactions::default(), vec![0; READ]);
    loop {
        let came = match tokio::time::timeout(SILENCE, from.read(&mut bytes)).await {
            Ok(Ok(0)) => return Failure::closed(),
            Ok(Ok(came)) => came,
            Ok(Err(error)) => return error.into(),
            Err(_) => return Failure::slow(),
        };
        let taken = reader.push(bytes.get(..came).unwrap_or_default(), |tag, body| {
            match Backend::from_byte(tag) {
                Some(Backend::CopyData) => match Streamed::read(body)? {
                    Streamed::Data(message) => {
                        if let Some(committed) = transactions.take(message)? {
                            news.borrow_mut().committed(&committed);
                            heard.notify_one();
                        }
                    }
                    // In the middle of a transaction its place is in front of it: it is true all the same.
                    Streamed::Keepalive { end } => news.borrow_mut().reached(end),
                },
                Some(Backend::CopyBothResponse) => streams.notify_one(),
                Some(Backend::ErrorResponse) => return Err(Failure::said(body)),
                Some(Backend::CopyDone | Backend::CommandComplete | Backend::ReadyForQuery) => {
                    return Err(Failure::Lost("the server has ended the stream".to_owned()));
                }
                _ => {}
            }
            Ok(())
        });
        if let Err(failure) = taken {
            return failure;
        }
    }
}

impl Failure {
    /// What an ErrorResponse means for us.
    fn said(body: &[u8]) -> Self {
        let fields = ErrorFields::new(body);
        Self::of(fields.sqlstate().as_bytes(), &fields.message())
    }
}

fn refused_dial(failure: NotDialled, user: &str) -> Failure {
    match control::told(failure) {
        DialFailure::Said { code, message } => match Failure::of(&code, &message) {
            Failure::NotAllowed(why) => Failure::NotAllowed(format!("user {user}: {why}")),
            other => other,
        },
        other => Failure::Lost(format!("no connection to the server: {other:?}")),
    }
}
