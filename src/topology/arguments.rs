//! Arguments of declarations: which count as equal, and the order bindings keep them in.

use crate::model::{FieldTable, FieldTableRef, FieldValue, Refusal};

use super::erlang_term::{is_float, same_value};
use super::refusal::{Entity, inequivalent_argument};

/// Checks that a second declaration's `received` arguments equal the `current` ones under each of `keys`, in this
/// order; other arguments are not compared. 406 names the first that differs.
pub(super) fn check_equivalence(
    entity: Entity<'_>,
    keys: &[&str],
    received: FieldTableRef<'_>,
    current: FieldTableRef<'_>,
) -> Result<(), Refusal> {
    for key in keys {
        let (received, current) = (received.get(key.as_bytes()), current.get(key.as_bytes()));
        let equivalent = match (received, current) {
            (None, None) => true,
            (Some(received), Some(current)) => {
                is_float(received) == is_float(current) && same_value(received, current)
            }
            (Some(value), None) | (None, Some(value)) => is_default(key, value),
        };
        if !equivalent {
            return Err(inequivalent_argument(key, entity, received, current));
        }
    }
    Ok(())
}

/// The same arguments ordered by key, so that equal ones have equal bytes: a binding's arguments are part of its
/// identity, and the order they were sent in is not.
pub(super) fn in_key_order(arguments: FieldTableRef<'_>) -> FieldTable {
    let mut entries: Vec<_> = arguments.iter().map_while(Result::ok).collect();
    entries.sort_by_key(|(key, _)| *key);
    let entries = entries.into_iter();
    entries
        .fold(FieldTable::builder(), |table, (key, value)| {
            table.value(key, value)
        })
        .build()
}

/// Whether leaving the argument out means the same as `value`.
fn is_default(key: &str, value: FieldValue<'_>) -> bool {
    key == "x-queue-type" && value.as_string() == Some(b"classic")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(received: FieldTable, current: FieldTable) -> Result<(), String> {
        let queue = Entity::queue(b"/", b"q");
        check_equivalence(
            queue,
            &["x-queue-type", "x-max-length"],
            received.as_ref(),
            current.as_ref(),
        )
        .map_err(|refusal| refusal.explanation)
    }

    #[test]
    fn integers_of_any_width_are_equivalent_and_floats_are_not() {
        let current = FieldTable::builder().int("x-max-length", 5).build();
        assert_eq!(
            verdict(
                FieldTable::builder().long("x-max-length", 5).build(),
                current.clone()
            ),
            Ok(())
        );
        let float = FieldTable::builder()
            .value("x-max-length", FieldValue::Double(5.0))
            .build();
        assert!(verdict(float, current).is_err());
    }

    #[test]
    fn an_absent_queue_type_is_classic() {
        let classic = FieldTable::builder().string("x-queue-type", "classic").build();
        assert_eq!(verdict(classic.clone(), FieldTable::default()), Ok(()));
        assert_eq!(verdict(FieldTable::default(), classic), Ok(()));
    }

    #[test]
    fn a_difference_is_told_as_rabbitmq_tells_it() {
        let (five, six) = (
            FieldTable::builder().int("x-max-length", 5),
            FieldTable::builder().long("x-max-length", 6),
        );
        let (five, six) = (five.build(), six.build());
        let head = "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': ";
        let text = |received, current| {
            verdict(received, current)
                .expect_err("they differ")
                .replace(head, "")
        };
        assert_eq!(text(six, five.clone()), "received '6' but current is '5'");
        assert_eq!(
            text(FieldTable::default(), five.clone()),
            "received none but current is the value '5' of type 'signedint'"
        );
        assert_eq!(
            text(five, FieldTable::default()),
            "received the value '5' of type 'signedint' but current is none"
        );
    }

    #[test]
    fn bindings_keep_their_arguments_in_key_order() {
        let one = FieldTable::builder().int("b", 1).string("a", "x").build();
        let other = FieldTable::builder().string("a", "x").int("b", 1).build();
        assert_eq!(in_key_order(one.as_ref()), in_key_order(other.as_ref()));
    }
}
