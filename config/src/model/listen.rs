//! How LISTEN is served.

/// How LISTEN is served where upstreams are given back before the client leaves. In session mode neither key matters:
/// the client listens on its own upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listen {
    /// On which connection a client's channels are listened to.
    pub way: ListenWay,
    /// What becomes of the clients when that connection is lost.
    pub loss: ListenLoss,
}

/// On which connection a client's channels are listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenWay {
    /// On one for all clients of a database.
    Shared,
    /// On the client's upstream, which it keeps until it leaves.
    Pin,
}

/// What becomes of listening clients when the shared connection is lost: what was notified meanwhile is lost with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenLoss {
    /// They are closed, as if their server had gone: every driver notices that.
    Close,
    /// They stay, and get a warning once their channels are listened to again.
    Notice,
}

impl Default for Listen {
    fn default() -> Self {
        Self { way: ListenWay::Shared, loss: ListenLoss::Close }
    }
}
