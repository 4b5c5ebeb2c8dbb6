//! Where the settings come from: a file, flags, variables. Kept for as long as the process runs, for reloads.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use config::{Mistakes, Overrides, Settings, Sources};

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
        let text = self.file.as_deref().map_or(Ok(String::new()), text_of)?;
        let machine = Machine { folder };
        let mut settings = Settings::from_toml(&text, &self.overrides, &machine)
            .map_err(|mistakes| LoadError::Invalid { file: self.name(), mistakes })?;
        settings.log.file = settings.log.file.map(|file| machine.folder.join(file));
        settings.capture.directory = settings.capture.directory.map(|directory| machine.folder.join(directory));
        Ok(settings)
    }

    /// What the settings are called in messages.
    pub fn name(&self) -> String {
        self.file.as_deref().map_or_else(|| "pgweir serve".to_owned(), |file| file.display().to_string())
    }
}

fn text_of(file: &Path) -> Result<String, LoadError> {
    let bytes = bytes_of(file).map_err(|cause| LoadError::Unreadable { file: file.to_owned(), cause })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        LoadError::NotText { file: file.to_owned(), line: good.filter(|byte| **byte == b'\n').count() + 1 }
    })
}

fn bytes_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
    }
    Ok(bytes)
}

/// The machine that the proxy runs on, with paths counted from the configuration file's folder.
struct Machine {
    folder: PathBuf,
}

impl Sources for Machine {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &str) -> Result<String, String> {
        let bytes = bytes_of(&self.folder.join(path)).map_err(|cause| cause.to_string())?;
        String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
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
