//! Recent history exchanges: every binding matches, and the message is remembered unless it asks not to be.

use crate::model::{FieldTableRef, FieldValue};

/// Whether a message with these headers is to be remembered (`x-recent-history-no-store`).
pub(super) fn is_stored(headers: Option<FieldTableRef<'_>>) -> bool {
    let asks = headers.and_then(|headers| headers.get(b"x-recent-history-no-store"));
    asks != Some(FieldValue::Boolean(true))
}
