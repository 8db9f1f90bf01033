//! Waiting for time to pass.

use futures_lite::future;
use std::future::Future;
use std::time::Duration;

/// Waits for `duration`. A duration of zero is over at once and does not poll I/O.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await
}

/// What `future` returns, or `None` when it took longer than `limit`; it is dropped then.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    future::or(async { Some(future.await) }, async {
        sleep(limit).await;
        None
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{block_on, now};

    #[test]
    fn sleep_lasts_at_least_its_duration() {
        block_on(async {
            let begun = now();
            sleep(Duration::from_millis(5)).await;
            assert!(now().milliseconds_since(begun) >= 5);
        });
    }

    #[test]
    fn a_limit_ends_what_takes_longer() {
        block_on(async {
            assert_eq!(
                within(Duration::from_millis(1), std::future::pending::<u8>()).await,
                None
            );
            assert_eq!(within(Duration::from_secs(9), async { 7 }).await, Some(7));
        });
    }
}
