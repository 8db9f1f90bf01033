//! The signals a service obeys.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::thread;

/// A signal, by what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop in good order.
    Terminate,
    /// SIGINT: the same, from a terminal.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Hangup,
}

/// A thread that waits for signals; dropping it ends the thread and leaves the signals without effect.
pub struct SignalListener {
    handle: Handle,
}

impl SignalListener {
    /// Takes over SIGTERM, SIGINT and SIGHUP, and calls `on_signal` for each on a thread of its own, where it may
    /// block and take locks.
    ///
    /// The error is the system's when it makes no thread or pipe.
    pub fn start(mut on_signal: impl FnMut(Signal) + Send + 'static) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for number in signals.forever() {
                on_signal(signal_of(number));
            }
        })?;
        Ok(Self { handle })
    }
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn signal_of(number: i32) -> Signal {
    match number {
        SIGTERM => Signal::Terminate,
        SIGINT => Signal::Interrupt,
        _ => Signal::Hangup,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_hangup_is_told_to_the_callback() {
        let (sender, receiver) = mpsc::channel();
        let listener = SignalListener::start(move |signal| sender.send(signal).expect("the test waits"))
            .expect("a thread");
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)
            .expect("a signal to oneself");
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(Signal::Hangup));
        drop(listener);
    }
}
