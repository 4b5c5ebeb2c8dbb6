//! A listener's connection to its server.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::frontend as ask;
use wire::error::ErrorFields;
use wire::frame;
use wire::tag::Backend;
use wire::view::Notification;

use super::{PATIENCE, Place};
use crate::aside::{Kind, Place as SidePlace};
use crate::control;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::upstream::dial::Failure;
use crate::upstream::server::Server;

/// The longest message that this connection is sent, in bytes: a notification is shorter than 8100.
const MAX_MESSAGE: usize = 64 * 1024;

/// A logged-in connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    bytes: Vec<u8>,
    _place: SidePlace,
    /// The server.
    pub(super) server: Arc<Server>,
    /// The server's process.
    pub(super) process: i32,
}

/// What the server says, as far as it matters here.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// Somebody has notified.
    Notified(Notification<'a>),
    /// An error: its SQLSTATE and message.
    Error([u8; 5], String),
    /// A query has been answered.
    Ready,
}

impl Link {
    /// Connects as a user of this pool does. The error is for the log.
    pub(super) async fn dial(shared: &Shared, pool: &Pool, place: &Place) -> Result<Self, String> {
        let settings = pool.settings();
        let target = pool.dialling_target().ok_or_else(|| format!("{:?}", control::told(Failure::Forgotten)))?;
        if Place::of(&target, place.encoding.as_bytes()) != *place {
            return Err("the configuration names another server by now".to_owned());
        }
        let side = shared.beside(Kind::Listener).map_err(|_| "max_side_connections has been reached")?;
        let dialled = place.target(&target).dial(shared, &settings, settings.connect_timeout).await;
        let dialled = dialled.map_err(|failure| format!("{:?}", control::told(failure)))?;
        let process = dialled.shipped.cancel.process;
        let stream = dialled.shipped.stream.attach().map_err(|error| error.to_string())?;
        let mut link = Self { stream, bytes: Vec::new(), _place: side, server: dialled.server, process };
        let sql = format!("SET client_encoding TO '{}'; SET application_name TO 'pgweir listener'", place.encoding);
        match tokio::time::timeout(PATIENCE, link.run(sql.as_bytes())).await {
            Ok(Ok(())) => Ok(link),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the server did not answer in time".to_owned()),
        }
    }

    async fn run(&mut self, sql: &[u8]) -> io::Result<()> {
        self.send(sql).await?;
        let (mut ready, mut refused) = (false, None);
        while !ready {
            self.fill().await?;
            self.drain(|said| match said {
                Said::Ready => ready = true,
                Said::Error(_, message) => refused = Some(message),
                Said::Notified(_) => {}
            })?;
        }
        refused.map_or(Ok(()), |why| Err(io::Error::other(why)))
    }

    /// Sends a query.
    pub(super) async fn send(&mut self, sql: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(sql.len() + 8);
        ask::query(&mut out, sql).map_err(io::Error::other)?;
        match tokio::time::timeout(PATIENCE, self.stream.write_all(&out)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits for more bytes. Nothing is lost when it is dropped.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Hands every whole message that matters to `each`.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Said<'_>)) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = bytes.as_slice();
        while let Some(message) = frame::next(&mut rest, MAX_MESSAGE).map_err(io::Error::other)? {
            if let Some(said) = read(message.tag, message.body())? {
                each(said);
            }
        }
        self.bytes = rest.to_vec();
        Ok(())
    }

    /// Says goodbye; nobody waits for an answer.
    pub(super) async fn close(mut self) {
        let mut out = Vec::new();
        ask::terminate(&mut out);
        let farewell = async {
            self.stream.write_all(&out).await?;
            self.stream.shutdown().await
        };
        drop(tokio::time::timeout(PATIENCE, farewell).await);
    }
}

fn read(tag: u8, body: &[u8]) -> io::Result<Option<Said<'_>>> {
    Ok(match Backend::from_byte(tag) {
        Some(Backend::NotificationResponse) => {
            Some(Said::Notified(Notification::read(body).map_err(io::Error::other)?))
        }
        Some(Backend::ErrorResponse) => {
            let fields = ErrorFields::new(body);
            Some(Said::Error(*fields.sqlstate().as_bytes(), fields.message().into_owned()))
        }
        Some(Backend::ReadyForQuery) => Some(Said::Ready),
        Some(_) => None,
        None => return Err(io::Error::other("a message of unknown type")),
    })
}

/// A future that makes a connection.
pub(super) type Dialling = std::pin::Pin<Box<dyn Future<Output = Result<Link, String>>>>;

/// Begins to connect as a user of this pool does.
pub(super) fn dialling(shared: &Arc<Shared>, pool: Arc<Pool>, place: &Place) -> Dialling {
    let (shared, place) = (shared.clone(), place.clone());
    Box::pin(async move { Link::dial(&shared, &pool, &place).await })
}
