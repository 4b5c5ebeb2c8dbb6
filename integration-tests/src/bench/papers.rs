//! What poolers and idle clients need to speak TLS with each other.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;

use crate::Scratch;
use crate::certificates::Authority;
use crate::cluster::folder_with;
use crate::secure::believing;

/// A certificate for poolers on this machine, and clients that believe it.
#[derive(Debug)]
pub struct Papers {
    folder: Scratch,
    clients: Arc<ClientConfig>,
}

impl Papers {
    /// New ones.
    pub fn make() -> Self {
        let authority = Authority::new("benchmark");
        let folder = folder_with(&authority.sign("pooler", &["localhost"]));
        let mut clients = believing(&authority).with_no_client_auth();
        // Each is a client of its own: none goes on where another has left off.
        clients.resumption = Resumption::disabled();
        Self { folder, clients: Arc::new(clients) }
    }

    /// How clients speak TLS.
    pub(super) fn clients(&self) -> Arc<ClientConfig> {
        self.clients.clone()
    }

    /// What pgweir's settings say.
    pub fn for_pgweir(&self) -> String {
        let [cert, key] = self.files().map(|file| file.display().to_string());
        format!("[tls]\nmode = 'allow'\ncert_file = '{cert}'\nkey_file = '{key}'\n")
    }

    /// What PgBouncer's settings say.
    pub fn for_pgbouncer(&self) -> String {
        let [cert, key] = self.files().map(|file| file.display().to_string());
        format!("client_tls_sslmode = allow\nclient_tls_cert_file = {cert}\nclient_tls_key_file = {key}\n")
    }

    fn files(&self) -> [PathBuf; 2] {
        ["server.crt", "server.key"].map(|name| self.folder.path().join(name))
    }
}
