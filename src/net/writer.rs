//! The tasks that wait for a full socket.

use crate::net::control::{Control, Order};
use crate::net::{Outbound, SocketEvent};
use crate::runtime::{WriteHalf, within};
use std::rc::Rc;
use std::time::Duration;

/// Sends `bytes`, the first of what the socket refused, and says that it is writable again.
pub(super) async fn write_when_writable<E: From<SocketEvent>>(
    mut write: WriteHalf,
    control: Rc<Control<E>>,
    bytes: Vec<u8>,
) {
    let result = write.write_all(&bytes).await;
    control.set_blocked(false);
    match result {
        Ok(()) => control.post(SocketEvent::Writable { token: control.token }),
        Err(error) => control.post_closed(error.into()),
    }
}

/// Sends all of `outbound`, ends the stream, and waits for the peer to end its own; after `CLOSE_LIMIT` no longer.
///
/// Meanwhile the reader discards: closing a socket with bytes unread resets the connection, and a reset can overtake
/// the last answer.
pub(super) async fn close_after_flush<E: From<SocketEvent>>(
    mut write: WriteHalf,
    control: Rc<Control<E>>,
    mut outbound: Outbound,
) {
    control.give_order(Order::Discard);
    within(CLOSE_LIMIT, async {
        control.until_unblocked().await;
        flush(&mut write, &mut outbound).await;
        write.shutdown_write();
        control.until_reader_done().await;
    })
    .await;
    control.give_order(Order::Stop);
    write.shutdown();
}

/// Sends all of `outbound`, or as much as the peer takes before it is lost.
async fn flush(write: &mut WriteHalf, outbound: &mut Outbound) {
    while let Some(slice) = outbound.first_slice() {
        match write.write(slice).await {
            Ok(count) => outbound.consume(count),
            Err(_) => return,
        }
    }
}

/// How long a peer may take to read our last bytes and close its side.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
