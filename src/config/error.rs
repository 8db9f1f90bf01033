//! `ConfigError`: a setting refused, told so that it can be mended.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A config file, by the path it was named by.
    File(PathBuf),
    /// An environment variable, by its name.
    Environment(String),
    /// The command line, by the argument as it was written.
    Argument(String),
    /// All layers together: each value is right, their combination is not.
    Together,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Argument(argument) => write!(f, "argument {argument}"),
            Origin::Together => f.write_str("settings"),
        }
    }
}

/// A place in a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text.
    pub text: String,
}

/// A setting that was refused, or a file that could not be read.
///
/// ```text
/// config/lanemq.toml:12:13: limits.frame_max: invalid value: integer `12`, expected bytes from 4096 to ...
///    12 | frame_max = 12
///       |             ^
///    fix: set limits.frame_max to such a value; its default is "128 KiB"
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the setting was written.
    pub origin: Origin,
    /// The place in the file, when it came from one.
    pub place: Option<Box<Place>>,
    /// The setting, `section.key`, when there is one.
    pub key: Option<String>,
    /// What was found and what was expected.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.problem)?;
        if let Some(place) = &self.place {
            let indent = " ".repeat(place.column - 1);
            write!(f, "\n{:>5} | {}\n      | {indent}^", place.line, place.text)?;
        }
        write!(f, "\n   fix: {}", self.fix)
    }
}

impl std::error::Error for ConfigError {}

impl Place {
    /// The place of byte `offset` in `text`.
    pub fn at(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let line_start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        let text = text[line_start..].lines().next().unwrap_or("").to_owned();
        Self { line, column, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "a = 1\né = 2\n";
        assert_eq!(
            Place::at(text, 0),
            Place {
                line: 1,
                column: 1,
                text: "a = 1".into()
            }
        );
        let value = text.find('2').expect("it is there");
        assert_eq!(
            Place::at(text, value),
            Place {
                line: 2,
                column: 5,
                text: "é = 2".into()
            }
        );
        assert_eq!(Place::at(text, 99).line, 3);
    }
}
