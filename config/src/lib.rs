//! Configuration: text in, settings out. Holding a value of these types means that it is valid.
//!
//! Nothing here opens a file, reads the environment or exits: the caller hands text in, lends [`Sources`] for what the
//! text refers to, and decides what to do with the [`Mistakes`] that come out, all of them at once, each with its key
//! path and line.
//!
//! ```
//! use config::{NoSources, Overrides, Settings};
//! let text = "
//! [databases.app]
//! upstream = 'postgres://db.example:5432/app'
//! sise = 5
//! ";
//! let mistakes = Settings::from_toml(text, &Overrides::default(), &NoSources).unwrap_err();
//! assert_eq!(mistakes.iter().next().unwrap().show("pgweir.toml"),
//!     "pgweir.toml:4: databases.app.sise: there is no such key; did you mean size?");
//! ```
#![forbid(unsafe_code)]

mod change;
mod diff;
pub mod hba;
mod ident;
mod json_schema;
mod mistake;
mod model;
mod network;
mod origins;
mod reference;
mod schema;
mod settings;
mod sources;
mod suggest;
mod text;
pub mod units;
mod url;
mod userlist;

pub use diff::{Change, Changes, Key, Values};
pub use ident::IdentMaps;
pub use json_schema::json_schema;
pub use mistake::{Mistake, Mistakes, Place};
pub use model::*;
pub use network::Network;
pub use origins::{Origins, Provenance};
pub use reference::reference;
pub use settings::TenantRows;
pub use sources::{NoSources, Overrides, Sources};
pub use url::{UrlError, UrlTls, parse_url};
pub use userlist::{UserlistError, parse_secret, parse_userlist};

pub use change::NotChanged;
pub use diff::Shown;
