//! Where the settings come from: a file, flags, variables. Kept for as long as the process runs, for reloads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Mistakes, Overrides, Settings, Sources};

mod memory;

pub use memory::{Look, Memory};

/// Largest file that is read as configuration, userlist or secret: a slip such as a device or a dump must not fill the
/// memory.
const MAX_FILE: u64 = 16 << 20;

/// What `pgweir serve` was told. [`Source::load`] reads it anew each time, so a reload is the same call as the start.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The configuration file, if any.
    pub file: Option<PathBuf>,
    /// Flags and variables; they win over the file.
    pub overrides: Overrides,
    /// What was read last.
    pub memory: Arc<Memory>,
}

/// Why there are no settings. `Display` is one line for each thing that is wrong.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable {
        /// Its path.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file is not UTF-8.
    NotText {
        /// Its path.
        file: PathBuf,
        /// Line of the first byte that is not.
        line: usize,
    },
    /// The settings are wrong.
    Invalid {
        /// The file's path, or what stands for it.
        file: String,
        /// All that is wrong.
        mistakes: Mistakes,
    },
}

impl Source {
    /// Reads the file, the variables and the files it names, and checks all of it.
    ///
    /// # Errors
    /// See [`LoadError`]. Nothing else is changed by a failed load.
    pub fn load(&self) -> Result<Settings, LoadError> {
        let folder = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let machine = Machine { folder, memory: &self.memory };
        self.memory.begin();
        let text = self.file.as_deref().map_or(Ok(String::new()), |file| machine.text_of(file))?;
        let mut settings = Settings::from_toml(&text, &self.overrides, &machine)
            .map_err(|mistakes| LoadError::Invalid { file: self.name(), mistakes })?;
        Arc::make_mut(&mut settings.origins).name_file(&self.name());
        settings.log.file = settings.log.file.map(|file| machine.folder.join(file));
        let tenants = &mut settings.tenants;
        tenants.directory = tenants.directory.take().map(|directory| machine.folder.join(directory));
        settings.capture.directory = settings.capture.directory.map(|directory| machine.folder.join(directory));
        let state = settings.observe.state_directory.take();
        settings.observe.state_directory = state.map(|directory| machine.folder.join(directory));
        Ok(settings)
    }

    /// What the files are now that the last load has read; `None`: what they were. Waits for the file system.
    pub fn changed(&self) -> Option<Look> {
        self.memory.changed()
    }

    /// What the settings are called in messages.
    pub fn name(&self) -> String {
        self.file.as_deref().map_or_else(|| "pgweir serve".to_owned(), |file| file.display().to_string())
    }
}

/// The machine that the proxy runs on, with paths counted from the configuration file's folder.
struct Machine<'a> {
    folder: PathBuf,
    memory: &'a Memory,
}

impl Machine<'_> {
    fn text_of(&self, file: &Path) -> Result<String, LoadError> {
        let bytes = self.memory.read(file, MAX_FILE);
        let bytes = bytes.map_err(|cause| LoadError::Unreadable { file: file.to_owned(), cause })?;
        String::from_utf8(bytes).map_err(|error| {
            let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            LoadError::NotText { file: file.to_owned(), line: good.filter(|byte| **byte == b'\n').count() + 1 }
        })
    }
}

impl Sources for Machine<'_> {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &str) -> Result<String, String> {
        let bytes = self.memory.read(&self.folder.join(path), MAX_FILE).map_err(|cause| cause.to_string())?;
        String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
    }

    fn tenants(&self, folder: &str) -> Result<Vec<(String, String)>, String> {
        self.memory.tenants(&self.folder.join(folder))
    }

    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, cause } => {
                let file = file.display();
                write!(f, "{file}: cannot be read: {cause}; check the path given by --config and its permissions")
            }
            Self::NotText { file, line } => {
                write!(f, "{}:{line}: not UTF-8 text; save the file as UTF-8", file.display())
            }
            Self::Invalid { file, mistakes } => {
                for (place, mistake) in mistakes.iter().enumerate() {
                    f.write_str(if place > 0 { "\n" } else { "" })?;
                    f.write_str(&mistake.show(file))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_count_from_the_one_of_the_configuration() {
        let folder = std::env::temp_dir().join(format!("pgweir-source-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("tenants.d")).unwrap();
        let file = folder.join("pgweir.toml");
        let text = "[databases.a]\nupstream = 'postgres://h'\n[tenant]\ndirectory = 'tenants.d'\n\
            [observe]\nstate_directory = 'state'\n[capture]\ndirectory = 'captures'\n[log]\nfile = 'log'\n";
        std::fs::write(&file, text).unwrap();
        let settings = Source { file: Some(file), ..Source::default() }.load().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(settings.tenants.directory, Some(folder.join("tenants.d")));
        assert_eq!(settings.observe.state_directory, Some(folder.join("state")));
        assert_eq!(settings.capture.directory, Some(folder.join("captures")));
        assert_eq!(settings.log.file, Some(folder.join("log")));
    }
}
