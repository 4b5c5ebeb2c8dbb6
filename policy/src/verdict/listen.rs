//! Errors of listening over a shared connection.

use std::time::Duration;

use config::units::show_duration as show;

use super::texts::{Texts, texts};

/// Why a client cannot listen, or can no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenRefusal {
    /// 54000: it listens to as many channels as one client may.
    TooManyChannels {
        /// How many that are.
        limit: usize,
    },
    /// 57P03: the connection that listens for all could not be made in time.
    NotReady {
        /// The database that was asked for.
        database: Box<str>,
        /// How long it was tried.
        waited: Duration,
    },
    /// 53400: it does not take its notifications off.
    TooSlow {
        /// Bytes kept for one client.
        limit: usize,
    },
    /// 08006: the connection that listens for all was lost, and perhaps notifications with it.
    Lost {
        /// The database that was asked for.
        database: Box<str>,
    },
}

impl ListenRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooManyChannels { .. } => "54000",
            Self::NotReady { .. } => "57P03",
            Self::TooSlow { .. } => "53400",
            Self::Lost { .. } => "08006",
        }
    }

    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, Self::TooSlow { .. } | Self::Lost { .. })
    }

    pub(super) fn texts(&self) -> Texts {
        match self {
            Self::TooManyChannels { limit } => texts(
                "too many channels",
                format!("A client may listen to {limit} channels."),
                "Tell what a notification is about in its payload, and use fewer channels.",
            ),
            Self::NotReady { database, waited } => texts(
                "could not listen in time",
                format!(
                    "The connection that listens for all clients of database \"{database}\" was not there after {}.",
                    show(*waited)
                ),
                "Retry later. Operators find the exact error in the proxy's log.",
            ),
            Self::TooSlow { limit } => texts(
                "terminating connection because notifications were not read",
                format!("More than {} MiB of them were waiting for this client.", limit / (1024 * 1024)),
                "Read from the connection while it listens, and keep its transactions short.",
            ),
            Self::Lost { database } => texts(
                "terminating connection because notifications may have been lost",
                format!("The connection that listened for all clients of database \"{database}\" was lost."),
                "Connect and listen again, then look for what was missed, as after any loss of a listening connection.",
            ),
        }
    }
}
