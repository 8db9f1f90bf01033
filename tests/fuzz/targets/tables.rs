//! Field tables: every checked table can be walked to its depths, and its values are written as they were read.

#![no_main]

use lanemq::model::field_table::{FieldArrayRef, FieldTable, FieldTableRef, FieldValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|entries: &[u8]| {
    let table = FieldTableRef(entries);
    let _ = table.get(b"x-match");
    if table.validate().is_err() {
        return;
    }
    walk_table(table);
    let entries = table.iter().map(|entry| entry.expect("the table was checked"));
    let written = entries
        .fold(FieldTable::builder(), |builder, (name, value)| {
            builder.value(name, value)
        })
        .build();
    assert_eq!(written.as_ref().validate(), Ok(()));
    // Compared as text, because a float that is not a number differs from itself.
    assert_eq!(format!("{written:?}"), format!("{table:?}"));
});

fn walk_table(table: FieldTableRef<'_>) {
    for entry in table.iter() {
        walk(entry.expect("the table was checked").1);
    }
}

fn walk_array(array: FieldArrayRef<'_>) {
    for value in array.iter() {
        walk(value.expect("the array was checked"));
    }
}

fn walk(value: FieldValue<'_>) {
    match value {
        FieldValue::Table(table) => walk_table(table),
        FieldValue::Array(array) => walk_array(array),
        leaf => drop((leaf.as_integer(), leaf.as_string(), leaf.rabbit_type_name())),
    }
}
