//! Settings of the command line over a workload's keys: `--set publisher.body_bytes=1024`.

use super::workload::{Workload, WorkloadError};

/// The workload in `text` with `settings` applied in order, not yet checked.
pub(super) fn overridden(text: &str, origin: &str, settings: &[String]) -> Result<Workload, WorkloadError> {
    let origin = format!("{origin} with --set {}", settings.join(" --set "));
    let table: toml::Table = toml::from_str(text).map_err(|error| WorkloadError::parse(&origin, &error))?;
    let mut value = toml::Value::Table(table);
    for setting in settings {
        apply(&mut value, setting)?;
    }
    value
        .try_into()
        .map_err(|error| WorkloadError::parse(&origin, &error))
}

fn apply(value: &mut toml::Value, setting: &str) -> Result<(), WorkloadError> {
    let refuse = |reason: String| WorkloadError::Override {
        setting: setting.to_owned(),
        reason,
    };
    let (key, text) = setting
        .split_once('=')
        .ok_or_else(|| refuse("there is no '='".to_owned()))?;
    let path: Vec<&str> = key.trim().split('.').collect();
    assign(value, &path, &parse_value(text.trim())).map_err(refuse)
}

/// A TOML value, or the text itself as a string.
fn parse_value(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
    parsed
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Sets `path` in `value`; a list without an index in the path means each of its entries.
fn assign(value: &mut toml::Value, path: &[&str], new: &toml::Value) -> Result<(), String> {
    let Some((&head, rest)) = path.split_first() else {
        *value = new.clone();
        return Ok(());
    };
    match value {
        toml::Value::Table(table) if rest.is_empty() => {
            table.insert(head.to_owned(), new.clone());
            Ok(())
        }
        toml::Value::Table(table) => {
            let child = table
                .entry(head)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            assign(child, rest, new)
        }
        toml::Value::Array(items) => match head.parse::<usize>() {
            Ok(index) => assign(
                items.get_mut(index).ok_or(format!("there is no entry {index}"))?,
                rest,
                new,
            ),
            Err(_) => items.iter_mut().try_for_each(|item| assign(item, path, new)),
        },
        _ => Err(format!("{head:?} is below a plain value")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::AckMode;
    use super::*;

    const PLAIN: &str = "name = \"plain\"\n[[queue]]\n[[publisher]]\nbody_bytes = 16\n[[consumer]]\n";

    fn parse(text: &str, settings: &[&str]) -> Result<Workload, WorkloadError> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        Workload::parse(text, "test.toml", &settings)
    }

    #[test]
    fn a_setting_reaches_every_group_or_the_one_that_its_index_names() {
        let text = format!("{PLAIN}[[consumer]]\n");
        let workload = parse(
            &text,
            &["consumer.prefetch=10", "consumer.1.ack={ multiple = 5 }"],
        )
        .expect("they fit");
        assert_eq!(workload.consumers[0].prefetch, 10);
        assert_eq!(workload.consumers[0].ack, AckMode::Auto);
        assert_eq!(workload.consumers[1].ack, AckMode::Multiple(5));
    }

    #[test]
    fn a_setting_may_add_a_queue_argument() {
        let workload = parse(PLAIN, &["queue.0.arguments.x-lane=1"]).expect("it fits");
        assert_eq!(workload.queues[0].arguments["x-lane"].as_integer(), Some(1));
    }

    #[test]
    fn a_setting_for_an_unknown_key_is_refused_by_name() {
        let error = parse(PLAIN, &["publisher.size=3"])
            .expect_err("there is no such key")
            .to_string();
        assert!(error.contains("size"), "{error}");
    }
}
