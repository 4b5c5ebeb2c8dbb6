//! A connection of our own that reads what a database says about itself.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::frontend as ask;
use wire::error::ErrorFields;
use wire::frame;
use wire::tag::Backend;
use wire::view;

use crate::aside::{Kind, Place};
use crate::pool::Pool;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::upstream::dial::Dialled;
use crate::upstream::server::Server;

/// Bytes that one connection may bring, unless it is told that it may go on.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// The longest row: a source of 64 K characters, and its name.
const MAX_ROW: usize = 512 * 1024;

/// Nothing of the client's, nothing that a tenant could have made, nothing that could write.
const PREPARE: &str = "SET search_path TO pg_catalog; SET statement_timeout TO '10s'; \
    SET default_transaction_read_only TO on; SET client_encoding TO 'UTF8'";

/// The columns of a row.
pub(crate) type Row = Vec<Option<Box<[u8]>>>;

/// A connection besides the pool, as its user. Ends when dropped.
pub(crate) struct Session {
    stream: Stream,
    bytes: Vec<u8>,
    /// Bytes that may still come.
    left: usize,
    /// Where it is.
    server: Arc<Server>,
    /// The process there, as the login said.
    process: i32,
    _place: Place,
}

impl Session {
    /// Connects; `None`: no server answers, or there is no place for it.
    pub(crate) async fn open(shared: &Arc<Shared>, pool: &Arc<Pool>, kind: Kind) -> Option<Self> {
        let settings = pool.settings();
        // By what clients have proven, where nothing is configured; and not while the server refuses that.
        let target = pool.dialling_target()?;
        let place = shared.beside(kind).ok()?;
        let dialled = target.dial(shared, &settings, settings.connect_timeout).await.ok()?;
        Self::over(dialled, place).ok()
    }

    /// On a connection that is logged in.
    pub(crate) fn over(dialled: Dialled, place: Place) -> io::Result<Self> {
        let (server, process) = (dialled.server, dialled.shipped.cancel.process);
        let stream = dialled.shipped.stream.attach()?;
        Ok(Self { stream, bytes: Vec::new(), left: MAX_BYTES, server, process, _place: place })
    }

    /// Where it is connected to.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The process that serves it, as the login said.
    pub(crate) fn process(&self) -> i32 {
        self.process
    }

    /// Returns when the server has closed it. What it says without being asked is read with the next reply. May be dropped
    /// at any moment.
    pub(crate) async fn closed(&mut self) {
        while self.bytes.len() < MAX_ROW {
            if !matches!(self.stream.read_buf(&mut self.bytes).await, Ok(1..)) {
                return;
            }
        }
    }

    /// It may bring as much again.
    pub(crate) fn go_on(&mut self) {
        self.left = MAX_BYTES;
    }

    /// Makes it one that reads the catalogue, and nothing else.
    pub(crate) async fn prepare(&mut self) -> Result<(), String> {
        self.rows(PREPARE).await.map(drop)
    }

    /// Runs a text; every row that it returns.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, String> {
        let mut out = Vec::new();
        ask::query(&mut out, sql.as_bytes()).map_err(|error| error.to_string())?;
        self.stream.write_all(&out).await.map_err(|error| error.to_string())?;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let mut rest = self.bytes.as_slice();
            let mut ready = false;
            while let Some(message) = frame::next(&mut rest, MAX_ROW).map_err(|error| error.to_string())? {
                match Backend::from_byte(message.tag) {
                    Some(Backend::DataRow) => {
                        let values = view::Row::read(message.body()).map_err(|error| error.to_string())?;
                        rows.push(values.map_while(Result::ok).map(|value| value.map(Box::from)).collect());
                    }
                    Some(Backend::ErrorResponse) => {
                        failure = Some(ErrorFields::new(message.body()).message().into_owned());
                    }
                    Some(Backend::ReadyForQuery) => ready = true,
                    _ => {}
                }
            }
            let left = rest.len();
            self.bytes.drain(..self.bytes.len() - left);
            if ready {
                return failure.map_or(Ok(rows), Err);
            }
            let came = self.stream.read_buf(&mut self.bytes).await.map_err(|error| error.to_string())?;
            self.left = self.left.checked_sub(came).ok_or("it has too much to tell")?;
            if came == 0 {
                return Err("the server closed the connection".to_owned());
            }
        }
    }
}
