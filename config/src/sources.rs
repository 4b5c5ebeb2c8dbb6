//! What a configuration takes from outside its text: variables, files, flags.

/// The world as far as a configuration may look at it. The binary lends the real one, tests a table.
pub trait Sources {
    /// The variable of this name, for `${NAME}`.
    fn env(&self, name: &str) -> Option<String>;

    /// The whole text of a file, for `password_file` and the like.
    ///
    /// # Errors
    /// Why it cannot be read, in a few words: `permission denied`.
    fn read(&self, path: &str) -> Result<String, String>;

    /// The files `NAME.toml` of a folder: each `NAME` with the whole text, sorted, for `tenant.directory`. Others are
    /// passed over.
    ///
    /// # Errors
    /// Why they cannot be read, in a few words.
    fn tenants(&self, folder: &str) -> Result<Vec<(String, String)>, String> {
        let _ = folder;
        Err("no folders here".to_owned())
    }

    /// Cores that the process may use, for `workers = "auto"`.
    fn cores(&self) -> usize {
        1
    }
}

/// No variables, no files, one core.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSources;

impl Sources for NoSources {
    fn env(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &str) -> Result<String, String> {
        Err("no files here".to_owned())
    }
}

/// What the command line and its variables say; it wins over the file.
///
/// ```
/// use config::{NoSources, Overrides, PoolMode, Settings};
/// let overrides = Overrides::default().with("pool.mode", "session").with("listen", "127.0.0.1:0");
/// let settings = Settings::from_upstream("postgres://app:x@127.0.0.1:5432/app", overrides, &NoSources).unwrap();
/// assert_eq!(settings.wildcard.unwrap().pool.mode, PoolMode::Session);
/// ```
#[derive(Clone, Default)]
pub struct Overrides {
    /// Key path, value without quotes, name of the flag.
    pub(crate) list: Vec<(String, String, String)>,
    /// The URL and the name of the flag.
    pub(crate) upstream: Option<(String, String)>,
}

impl Overrides {
    /// Sets a key; mistakes in it are told under the key's name.
    #[must_use]
    pub fn with(self, key: &str, value: impl Into<String>) -> Self {
        self.with_flag(key, value, key)
    }

    /// Sets a key; mistakes in it are told under the flag's name. Lists are separated by commas.
    #[must_use]
    pub fn with_flag(mut self, key: &str, value: impl Into<String>, flag: &str) -> Self {
        self.list.push((key.to_owned(), value.into(), flag.to_owned()));
        self
    }

    /// Serves every database of the server at this URL (see [`crate::Settings::from_upstream`]).
    #[must_use]
    pub fn with_upstream(mut self, url: impl Into<String>, flag: &str) -> Self {
        self.upstream = Some((url.into(), flag.to_owned()));
        self
    }
}

impl std::fmt::Debug for Overrides {
    /// Keys alone: a value may be a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list.iter().map(|(key, ..)| key)).finish()
    }
}
