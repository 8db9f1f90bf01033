//! The task that reads one connection.

use crate::net::control::{Control, Order};
use crate::net::{CloseReason, SocketEvent};
use crate::runtime::{BufferPool, ReadHalf};
use std::rc::Rc;

/// Reads until the connection ends or the reader is told to stop.
pub(super) async fn read_connection<E: From<SocketEvent>>(
    mut read: ReadHalf,
    control: Rc<Control<E>>,
    pool: BufferPool,
) {
    let mut is_open = true;
    while is_open {
        is_open = match control.next_order().await {
            Order::Pause | Order::Read => read_once(&mut read, &control, &pool).await,
            Order::Discard => discard_once(&mut read, &pool).await,
            Order::Stop => false,
        };
    }
    control.set_reader_done();
}

/// Posts what one read brings. Returns whether there may be more to read.
async fn read_once<E: From<SocketEvent>>(
    read: &mut ReadHalf,
    control: &Control<E>,
    pool: &BufferPool,
) -> bool {
    let leftover = control.take_leftover();
    match read.read(pool, &leftover).await {
        Ok(buffer) if buffer.len() == leftover.len() => control.post_closed(CloseReason::Eof),
        Ok(buffer) => {
            // The order may have changed while this waited; then nobody wants the bytes.
            if control.order() == Order::Read {
                control.give_order(Order::Pause);
                control.post(SocketEvent::Received {
                    token: control.token,
                    buffer,
                });
            }
            return true;
        }
        Err(error) => control.post_closed(error.into()),
    }
    false
}

async fn discard_once(read: &mut ReadHalf, pool: &BufferPool) -> bool {
    read.read(pool, &[]).await.is_ok_and(|buffer| !buffer.is_empty())
}
