//! What a client asks for.

use config::Tenants;
use policy::tenant::split_user;
use wire::startup::{Replication, StartupMessage};

use super::Denied;

/// What a client asks for at startup.
pub(super) struct Wish {
    pub(super) user: String,
    /// The tenant that stood behind the user's name.
    pub(super) suffix: String,
    pub(super) database: String,
    pub(super) replication: Replication,
    pub(super) application: String,
    pub(super) startup: Vec<(Box<str>, Box<[u8]>)>,
}

impl Wish {
    pub(super) fn read(message: &StartupMessage<'_>, tenants: &Tenants) -> Result<Self, Denied> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let named = text(message.user);
        let (user, suffix) = split_user(tenants, &named);
        // Without a database of its own, a client means the one that is called as its user is.
        let database = if message.database == message.user { user.to_owned() } else { text(message.database) };
        let startup: Vec<(Box<str>, Box<[u8]>)> = message
            .settings
            .iter()
            .map(|setting| (setting.name.to_ascii_lowercase().into(), setting.value.as_ref().into()))
            .collect();
        let application = startup.iter().find(|(name, _)| &**name == "application_name");
        Ok(Self {
            user: user.to_owned(),
            suffix: suffix.to_owned(),
            database,
            replication: message.replication,
            application: application.map_or_else(String::new, |(_, value)| text(value)),
            startup,
        })
    }

    /// The user's name for a message.
    pub(super) fn shown_user(&self) -> Box<str> {
        self.user.as_str().into()
    }

    /// It asks for the server's log as such, in no database.
    pub(super) fn replicates_physically(&self) -> bool {
        self.replication == Replication::Physical
    }
}
