//! How the program ends: asked first, forced later.
//!
//! Owns the two tokens that every part with a life of its own listens to, and the signals that pull
//! them. Never decides what a part does when it is asked, and is no global: whoever needs it is
//! handed a clone.

use std::{io, time::Duration};

use tokio_util::sync::CancellationToken;

/// Exit code of a process that could not end by itself.
const STUCK: i32 = 70;

/// The wish to end. Clones are the same wish.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    begun: CancellationToken,
    forced: CancellationToken,
}

impl Shutdown {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every part to finish what it holds and end.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Asks every part to end now, finished or not.
    pub fn force(&self) {
        self.begun.cancel();
        self.forced.cancel();
    }

    /// Whether somebody has asked.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until somebody asks.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Waits until patience is over.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Lets SIGINT and SIGTERM ask: the first politely, the second with force. Whatever hangs then,
    /// even a thread that waits for somebody to read our output, the process is gone after `most`.
    pub fn obey_signals(&self, most: Duration) -> io::Result<()> {
        let mut signals = Signals::new()?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            signals.next().await;
            tracing::info!("shutting down; a second signal stops at once");
            shutdown.begin();
            let forced = async {
                signals.next().await;
                shutdown.force();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = forced => {}
                () = tokio::time::sleep(most) => std::process::exit(STUCK),
            }
        });
        Ok(())
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler there is nothing to wait for, and nothing to obey.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn force_includes_the_polite_wish() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.has_begun());
        shutdown.clone().force();
        shutdown.begun().await;
        shutdown.forced().await;
    }
}
