//! `Problem`: what is wrong with a file, or ignored in it, told so that it can be mended.

use std::fmt;

use serde_json::Value;

/// Where an entry stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The list.
    pub list: &'static str,
    /// Its index in the list, from 0.
    pub index: usize,
    /// What it calls itself: `"orders" in vhost "/"`; empty when it does not say.
    pub entry: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.index)?;
        match self.entry.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.entry),
        }
    }
}

/// Something wrong with an entry, or ignored of it.
///
/// ```text
/// queues[3] ("orders" in vhost "/"): durable: expected true or false, found "yes"
///    fix: write true or false without quotes
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, unless it concerns the file as a whole.
    pub place: Option<Place>,
    /// The field.
    pub field: Option<String>,
    /// What was expected and what was found.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        write!(f, "{}", self.problem)?;
        match self.fix.is_empty() {
            true => Ok(()),
            false => write!(f, "\n   fix: {}", self.fix),
        }
    }
}

/// What was noted while a file was read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Notes {
    pub(super) fn refuse(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn warn(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }
}

/// A value as a text names it: short ones as they are written, long ones cut.
pub(super) fn shown(value: &Value) -> String {
    const LENGTH_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn of_file(field: Option<&str>, problem: String, fix: &str) -> Problem {
    Problem {
        place: None,
        field: field.map(str::to_owned),
        problem,
        fix: fix.to_owned(),
    }
}

pub(super) fn not_json(error: &serde_json::Error) -> Problem {
    let problem = format!(
        "expected JSON, found a fault at line {}, column {}: {error}",
        error.line(),
        error.column()
    );
    of_file(
        None,
        problem,
        "export the file anew, or mend it with a tool for JSON",
    )
}

pub(super) fn not_an_object(found: &Value) -> Problem {
    let problem = format!(
        "expected an object with lists such as \"users\" and \"queues\", found {}",
        shown(found)
    );
    of_file(
        None,
        problem,
        "write the lists in braces: {\"users\": [...], \"queues\": [...]}",
    )
}

pub(super) fn not_a_list(key: &str, found: &Value) -> Problem {
    let problem = format!("expected a list, found {}", shown(found));
    of_file(
        Some(key),
        problem,
        "write the entries in brackets, or leave the key out",
    )
}

pub(super) fn unknown_key(key: &str) -> Problem {
    of_file(Some(key), "unknown, ignored".to_owned(), "")
}
