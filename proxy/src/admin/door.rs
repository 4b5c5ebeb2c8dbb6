//! How a connection to the admin port begins: in clear text or by TLS, as the settings in force say.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use config::{Admin, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::AdminContext;
use crate::stream::Stream;
use crate::tls::operators::Operators;

/// What somebody is told who speaks in clear text where TLS is spoken.
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nContent-Length: 114\r\n\
    Connection: close\r\n\r\n{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"this port speaks TLS; ask for it by https://\"}\n";

/// As much of a request in clear text as is read, in bytes.
const MAX_ASKED: usize = 4096;

/// How connections are spoken to.
#[derive(Debug, Clone)]
pub(super) enum Manner {
    /// In clear text.
    Clear,
    /// By TLS.
    Tls(Operators),
}

/// The port's door.
pub(super) struct Door {
    context: Arc<AdminContext>,
    /// Made from these settings: an address that changes with them tells of a reload.
    made: Option<(Arc<Settings>, Manner)>,
}

impl Door {
    pub(super) fn new(context: Arc<AdminContext>) -> Self {
        Self { context, made: None }
    }

    /// How this connection is spoken to; `None`: not at all, because others can reach this address and what is in force
    /// now would show them everything.
    pub(super) fn manner(&mut self, stream: &TcpStream) -> Option<Manner> {
        let settings = self.context.state.settings();
        let inside = stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        if !inside && !settings.admin.as_ref().is_some_and(Admin::guards_network) {
            tracing::error!(
                "the admin port can be reached by others, and asks for too little: nobody is let in; set admin.token and admin.tls_cert_file"
            );
            return None;
        }
        match &self.made {
            Some((known, manner)) if Arc::ptr_eq(known, &settings) => Some(manner.clone()),
            _ => {
                let manner = self.make(&settings)?;
                self.made = Some((settings, manner.clone()));
                Some(manner)
            }
        }
    }

    fn make(&self, settings: &Settings) -> Option<Manner> {
        let Some(tls) = settings.admin.as_ref().and_then(|admin| admin.tls.as_ref()) else {
            return Some(Manner::Clear);
        };
        match Operators::new(tls) {
            Ok(operators) => Some(Manner::Tls(operators)),
            // A reload has tried the same and would have been refused.
            Err(error) => {
                tracing::error!(%error, "the admin port's TLS cannot be made: nobody is let in");
                None
            }
        }
    }
}

/// Begins a connection.
pub(super) async fn open(mut stream: TcpStream, manner: &Manner, patience: Duration) -> io::Result<Stream> {
    _ = stream.set_nodelay(true);
    let Manner::Tls(operators) = manner else { return Ok(Stream::Tcp(stream)) };
    let begin = async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        // A method's first letter; TLS begins with 22.
        if first.iter().all(u8::is_ascii_uppercase) {
            // What was not read when it is closed would take the answer with it.
            let mut asked = [0; MAX_ASKED];
            if stream.read(&mut asked).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            stream.write_all(SPEAK_TLS.as_bytes()).await?;
            stream.shutdown().await?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        operators.accept(Stream::Tcp(stream)).await
    };
    tokio::time::timeout(patience, begin).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_as_long_as_it_says() {
        let (head, body) = SPEAK_TLS.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
