//! `Entry`: one entry of a list, whose fields are read one by one; what is wrong with a field is noted, and the others are
//! read all the same.

use serde_json::{Map, Value};

use super::problem::{Notes, Place, Problem, shown};
use super::tables::table_of;
use crate::model::{FieldTable, Refusal, ShortString};

/// Most bytes of a text that is no name.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a table, as it travels and is logged.
const TABLE_BYTES_MAX: usize = 128 * 1024;
/// Most tags of a user or vhost.
const TAGS_MAX: usize = 255;

/// See the head of the file.
pub(super) struct Entry<'a> {
    pub(super) place: Place,
    object: &'a Map<String, Value>,
    notes: &'a mut Notes,
}

impl<'a> Entry<'a> {
    pub(super) fn new(
        list: &'static str,
        index: usize,
        object: &'a Map<String, Value>,
        notes: &'a mut Notes,
    ) -> Self {
        let entry = label(object);
        Self {
            place: Place { list, index, entry },
            object,
            notes,
        }
    }

    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// Notes that a field is wrong.
    pub(super) fn refuse(&mut self, field: Option<&str>, expected: &str, found: &Value, fix: &str) {
        let problem = format!("expected {expected}, found {}", shown(found));
        self.refuse_with(field, problem, fix);
    }

    /// Notes that a field is wrong, in other words.
    pub(super) fn refuse_with(&mut self, field: Option<&str>, problem: String, fix: &str) {
        let problem = self.problem(field, problem, fix);
        self.notes.refuse(problem);
    }

    /// Notes that the entry is refused as a declaration would be.
    pub(super) fn refuse_as(&mut self, field: &str, refusal: &Refusal, fix: &str) {
        self.refuse_with(Some(field), refusal.explanation.clone(), fix);
    }

    /// Notes that something is ignored.
    pub(super) fn warn(&mut self, field: Option<&str>, problem: impl Into<String>) {
        let problem = self.problem(field, problem.into(), "");
        self.notes.warn(problem);
    }

    fn problem(&self, field: Option<&str>, problem: String, fix: &str) -> Problem {
        Problem {
            place: Some(self.place.clone()),
            field: field.map(str::to_owned),
            problem,
            fix: fix.to_owned(),
        }
    }

    /// Reads the fields of an object within this entry.
    pub(super) fn within<T>(
        &mut self,
        object: &Map<String, Value>,
        read: impl FnOnce(&mut Entry<'_>) -> T,
    ) -> T {
        read(&mut Entry {
            place: self.place.clone(),
            object,
            notes: self.notes,
        })
    }

    /// Warns of fields that are not among `known`.
    pub(super) fn know(&mut self, known: &[&str]) {
        let unknown = self
            .object
            .keys()
            .filter(|field| !known.contains(&field.as_str()));
        for field in unknown.cloned().collect::<Vec<_>>() {
            self.warn(Some(&field), "unknown, ignored");
        }
    }

    /// A field that must be there.
    fn required(&mut self, field: &str, expected: &str) -> Option<&'a Value> {
        let value = self.get(field);
        if value.is_none() {
            self.refuse_with(
                Some(field),
                format!("expected {expected}, found nothing"),
                "add the field",
            );
        }
        value
    }

    /// A name of at most 255 bytes.
    pub(super) fn name(&mut self, field: &str) -> Option<ShortString> {
        let value = self.required(field, "a name")?;
        let name = value.as_str().and_then(|text| ShortString::new(text.as_bytes()));
        if name.is_none() {
            let fix = "write a text in quotes; a longer name cannot travel in AMQP";
            self.refuse(Some(field), "a name of at most 255 bytes", value, fix);
        }
        name
    }

    /// A text.
    pub(super) fn text(&mut self, field: &str) -> Option<&'a str> {
        let value = self.required(field, "a text")?;
        let text = value.as_str().filter(|text| text.len() <= TEXT_BYTES_MAX);
        if text.is_none() {
            self.refuse(
                Some(field),
                "a text of at most 64 KiB",
                value,
                "write a text in quotes",
            );
        }
        text
    }

    /// A text, if it is there; the default when it is wrong, which is noted.
    pub(super) fn optional_text(&mut self, field: &str) -> Option<&'a str> {
        self.get(field)?;
        self.text(field)
    }

    /// True or false.
    pub(super) fn boolean(&mut self, field: &str) -> Option<bool> {
        let value = self.required(field, "true or false")?;
        if value.as_bool().is_none() {
            let fix = "write true or false without quotes";
            self.refuse(Some(field), "true or false", value, fix);
        }
        value.as_bool()
    }

    /// True or false, false when it is not there.
    pub(super) fn optional_boolean(&mut self, field: &str) -> Option<bool> {
        match self.get(field) {
            Some(_) => self.boolean(field),
            None => Some(false),
        }
    }

    /// A whole number, 0 when it is not there.
    pub(super) fn optional_integer(&mut self, field: &str) -> Option<i64> {
        let Some(value) = self.get(field) else {
            return Some(0);
        };
        if value.as_i64().is_none() {
            self.refuse(
                Some(field),
                "a whole number",
                value,
                "write a number without quotes",
            );
        }
        value.as_i64()
    }

    /// An object, as AMQP's tables are; an empty one when it is not there.
    pub(super) fn table(&mut self, field: &str) -> Option<FieldTable> {
        let empty = Value::Object(Map::new());
        let value = self.get(field).unwrap_or(&empty);
        // RabbitMQ writes an empty table as a list at times.
        if value.as_array().is_some_and(Vec::is_empty) {
            return Some(FieldTable::default());
        }
        let Some(object) = value.as_object() else {
            self.refuse(Some(field), "an object", value, "write it in braces");
            return None;
        };
        match table_of(object) {
            Ok(table) if table.as_bytes().len() <= TABLE_BYTES_MAX => Some(table),
            Ok(_) => {
                let problem = "expected at most 128 KiB, found more".to_owned();
                self.refuse_with(Some(field), problem, "make it smaller");
                None
            }
            Err(problem) => {
                self.refuse_with(Some(field), problem, "write a value that AMQP has");
                None
            }
        }
    }

    /// Tags: a list of texts, or one text with commas between.
    pub(super) fn tags(&mut self, field: &str) -> Option<Vec<ShortString>> {
        let Some(value) = self.get(field) else {
            return Some(Vec::new());
        };
        let texts: Option<Vec<&str>> = match value {
            Value::String(text) => Some(text.split(',').map(str::trim).collect()),
            Value::Array(values) => values.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let tags = texts.and_then(|texts| {
            let tags = texts.iter().filter(|tag| !tag.is_empty());
            tags.map(|tag| ShortString::new(tag.as_bytes())).collect()
        });
        let tags = tags.filter(|tags: &Vec<_>| tags.len() <= TAGS_MAX);
        if tags.is_none() {
            let fix = "write [\"administrator\"], or \"administrator,monitoring\"";
            self.refuse(Some(field), "a list of at most 255 tags", value, fix);
        }
        tags
    }

    /// Limits, by name: whole numbers, negative for none. Others are refused as RabbitMQ does.
    pub(super) fn limits<const N: usize>(
        &mut self,
        field: &str,
        names: [&str; N],
    ) -> Option<[Option<u64>; N]> {
        let Some(value) = self.get(field) else {
            return Some([None; N]);
        };
        if value.as_array().is_some_and(Vec::is_empty) {
            return Some([None; N]);
        }
        let Some(object) = value.as_object() else {
            let expected = format!("an object with {}", names.join(", "));
            self.refuse(Some(field), &expected, value, "write it in braces");
            return None;
        };
        let mut limits = Some([None; N]);
        for (name, value) in object {
            let index = names.iter().position(|known| known == name);
            let path = format!("{field}.{name}");
            match (index, value.as_i64()) {
                (None, _) => {
                    let expected = format!("one of {}", names.join(", "));
                    self.refuse(Some(&path), &expected, value, "leave it out");
                    limits = None;
                }
                (Some(_), None) => {
                    let fix = "write a number without quotes; a negative one is no limit";
                    self.refuse(Some(&path), "a whole number", value, fix);
                    limits = None;
                }
                (Some(index), Some(limit)) => {
                    if let Some(limits) = &mut limits {
                        limits[index] = u64::try_from(limit).ok();
                    }
                }
            }
        }
        limits
    }
}

/// What an entry calls itself.
fn label(object: &Map<String, Value>) -> String {
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    let name = match (
        text("name"),
        text("user"),
        text("source").zip(text("destination")),
    ) {
        (Some(name), ..) => format!("{name:?}"),
        (None, Some(user), _) => format!("user {user:?}"),
        (None, None, Some((source, destination))) => format!("{source:?} to {destination:?}"),
        _ => String::new(),
    };
    match text("vhost") {
        Some(vhost) if !name.is_empty() => format!("{name} in vhost {vhost:?}"),
        _ => name,
    }
}
