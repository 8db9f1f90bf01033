//! The file of definitions that the settings name: read when the broker starts, when it gets SIGHUP, and to check it.

use super::core_loop::HelperReply;
use crate::definitions::{self, Definitions, Problem};
use crate::runtime::ReplySender;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tracing::{error, info, warn};

/// Most bytes of a file.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A file that cannot be imported, and all that is wrong with it.
#[derive(Debug)]
pub struct DefinitionsError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl fmt::Display for DefinitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let told = self.problems.iter().map(|problem| format!("{file}: {problem}"));
        f.write_str(&told.collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for DefinitionsError {}

/// Reads and checks a file.
///
/// # Errors
/// It cannot be read, or something is wrong with its entries.
pub fn read_definitions(file: &Path) -> Result<Definitions, DefinitionsError> {
    let refuse = |problems| DefinitionsError {
        file: file.to_owned(),
        problems,
    };
    let text = read_text(file).map_err(|error| refuse(vec![unreadable(&error)]))?;
    definitions::read(&text).map_err(refuse)
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 <= FILE_BYTES_MAX {
        true => Ok(text),
        false => Err(io::Error::other("it is larger than 256 MiB")),
    }
}

fn unreadable(error: &io::Error) -> Problem {
    Problem {
        place: None,
        field: None,
        problem: format!("cannot be read: {error}"),
        fix: "name a readable file in definitions.file, or leave the setting empty".to_owned(),
    }
}

/// Imports the file of a running broker anew; may go to another thread.
#[derive(Clone)]
pub struct Importer {
    pub(super) file: PathBuf,
    pub(super) control: ReplySender<HelperReply>,
}

impl Importer {
    /// Reads the file and hands it to the control shard, which tells the log what came of it. A file with faults changes
    /// nothing; they go to the log.
    pub fn import(&self) {
        if self.file.as_os_str().is_empty() {
            return info!("no definitions to read again: definitions.file is not set");
        }
        match read_definitions(&self.file) {
            Ok(definitions) => {
                let file = self.file.display();
                let warnings = definitions.warnings.iter();
                warnings.for_each(|warning| warn!("{file}: {warning}"));
                self.control.send(HelperReply::Definitions(Box::new(definitions)));
            }
            Err(refused) => {
                let problems = refused.to_string();
                problems.lines().for_each(|line| error!("{line}"));
                error!("definitions are not imported, nothing was changed");
            }
        }
    }
}
