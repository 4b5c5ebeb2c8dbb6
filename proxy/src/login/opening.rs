//! TLS at the beginning of a client's connection, and who is let in without it.

use config::TlsMode;
use policy::verdict::{Refusal, SecurityLack};
use wire::login::server::ChannelBinding;
use wire::startup::is_direct_tls;

use super::{Denied, Gate, Guest};
use crate::tls::Version;
use crate::tls::clients::{Clients, Manner};

impl Guest {
    /// Whether the client speaks TLS without having asked. Inside TLS, and over a Unix socket, nobody does.
    pub(super) fn begins_with_tls(&self) -> bool {
        let first = self.bytes.first().copied();
        self.secured.is_none() && !self.peer.is_unix() && first.is_some_and(is_direct_tls)
    }

    /// Whether the client says goodbye in place of its first packet, as node-postgres does when it is ended at once. The
    /// server that reads its length there says nothing, and closes.
    pub(super) fn begins_with_goodbye(&self) -> bool {
        let mut goodbye = Vec::new();
        wire::encode::frontend::terminate(&mut goodbye);
        self.bytes.starts_with(&goodbye)
    }

    /// What a SCRAM exchange with this client is bound to.
    pub(super) fn channel_binding(&self) -> ChannelBinding {
        let data = self.secured.as_ref().and_then(|secured| secured.binding.as_deref());
        data.map_or(ChannelBinding::None, |data| ChannelBinding::TlsServerEndPoint(data.to_vec()))
    }

    /// Whether what is known of the connection is enough for `tls.mode`. Unix sockets need no TLS.
    pub(super) fn may_log_in(&self, mode: TlsMode, user: &str) -> Result<(), Denied> {
        if mode < TlsMode::Require || self.peer.is_unix() {
            return Ok(());
        }
        let lacks = |lack| Denied::from(Refusal::NotSecured { user: user.into(), lack });
        let Some(secured) = &self.secured else {
            return Err(lacks(SecurityLack::Tls));
        };
        if mode < TlsMode::VerifyCa {
            return Ok(());
        }
        let certificate = secured.certificate.as_deref();
        let Some(certificate) = certificate else {
            return Err(lacks(SecurityLack::Certificate));
        };
        if mode == TlsMode::VerifyFull && certificate.common_name.as_deref() != Some(user) {
            return Err(lacks(SecurityLack::OwnCertificate));
        }
        Ok(())
    }
}

impl Gate {
    /// Shakes hands with a client that has asked for TLS, or begun with it.
    pub(super) async fn secure(&self, guest: &mut Guest, tls: &Clients, manner: Manner) -> Result<(), Denied> {
        guest.flush().await?;
        let stream = guest.stream.take().ok_or(Denied::Gone)?;
        let early = std::mem::take(&mut guest.bytes);
        match tls.accept(stream, early, manner).await {
            Ok((stream, secured)) => {
                let load = self.telemetry.load();
                match secured.version {
                    Version::Tls12 => load.tls12_handshakes.increment(),
                    Version::Tls13 => load.tls13_handshakes.increment(),
                }
                guest.stream = Some(stream);
                guest.secured = Some(secured);
                Ok(())
            }
            Err(error) => {
                self.telemetry.load().tls_failures.increment();
                tracing::info!(address = %guest.peer, %error, "no TLS connection with a client");
                Err(Denied::Gone)
            }
        }
    }
}
