//! What to do about a setting that was refused.

use toml::{Table, Value};

/// The value of `section.key` in `table`.
pub fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

/// The setting that is written in `line` of a config file, or above it when its value takes several lines.
pub fn key_at(text: &str, line: usize) -> Option<String> {
    let above = || text.lines().take(line).collect::<Vec<_>>().into_iter().rev();
    let header = |line: &str| {
        Some(
            line.trim()
                .strip_prefix('[')?
                .split_once(']')?
                .0
                .trim()
                .to_owned(),
        )
    };
    if let Some(section) = above().next().and_then(header) {
        return Some(section);
    }
    let is_setting = |line: &&str| line.contains('=') && !line.trim_start().starts_with('#');
    let key = above().find(is_setting)?.split_once('=')?.0.trim().to_owned();
    match above().find_map(header) {
        Some(section) => Some(format!("{section}.{key}")),
        None => Some(key),
    }
}

/// What to do about `key`: take its default, or the nearest name that exists.
pub fn fix_for(key: Option<&str>, defaults: &Table) -> String {
    let Some(key) = key else {
        return "see config/lanemq.toml for the form of the file".to_owned();
    };
    match lookup(defaults, key) {
        Some(Value::Table(section)) => format!("[{key}] holds {}", list(section.keys())),
        Some(default) => format!("set {key} to what is expected; its default is {default}"),
        None => fix_for_unknown(key, defaults),
    }
}

fn fix_for_unknown(key: &str, defaults: &Table) -> String {
    let keys = all_keys(defaults);
    let nearest = keys
        .iter()
        .min_by_key(|known| distance(key, known))
        .filter(|known| distance(key, known) <= 3);
    // Often the key is right and its section is missing.
    let same_name = keys
        .iter()
        .find(|known| known.rsplit('.').next() == key.rsplit('.').next());
    match nearest.or(same_name) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("the settings are {}", list(keys.iter())),
    }
}

fn all_keys(defaults: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in defaults {
        match value {
            Value::Table(section) => keys.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => keys.push(name.clone()),
        }
    }
    keys
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Letters to change, insert or delete to make `left` into `right` (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_line_carries_its_section_and_may_begin_above() {
        let text = "cores = \"0\"\n[limits]\n# a = 1\nmemory = [\n  1,\n]\n[log]\n";
        let key = |line| key_at(text, line);
        assert_eq!(key(1).as_deref(), Some("cores"));
        assert_eq!(key(4).as_deref(), Some("limits.memory"));
        assert_eq!(key(5).as_deref(), Some("limits.memory"));
        assert_eq!(key(7).as_deref(), Some("log"));
        assert_eq!(key_at("", 1), None);
    }

    #[test]
    fn distance_counts_letters_to_change() {
        for (left, right, letters) in [
            ("", "", 0),
            ("abc", "", 3),
            ("frame_maks", "frame_max", 2),
            ("log", "net", 3),
        ] {
            assert_eq!(distance(left, right), letters, "{left} {right}");
            assert_eq!(distance(right, left), letters);
        }
    }
}
