//! Shutdown signals.

/// The signal that requests the shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// SIGINT, sent by ctrl-c. In simulation, the world's graceful stop.
    Interrupt,
    /// SIGTERM, sent by a service manager.
    Terminate,
}

/// Waits for a shutdown signal. A signal before the first call has its default effect and ends the
/// process at once, so call this early and keep the future in the loop's `select!`.
#[cfg(not(madsim))]
pub async fn shutdown() -> Shutdown {
    use tokio::signal::unix::{SignalKind, signal};

    let listen = |kind| {
        signal(kind)
            .map_err(|error| tracing::warn!(%error, ?kind, "cannot listen for signal"))
            .ok()
    };
    let interrupt = listen(SignalKind::interrupt());
    let terminate = listen(SignalKind::terminate());
    // A signal without a listener keeps its default effect, so its future never completes.
    let received = |signal: Option<tokio::signal::unix::Signal>| async move {
        if let Some(mut signal) = signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    };
    tokio::select! {
        () = received(interrupt) => Shutdown::Interrupt,
        () = received(terminate) => Shutdown::Terminate,
    }
}

/// Waits for the world's graceful stop, which kills a process that does not wait here.
#[cfg(madsim)]
pub async fn shutdown() -> Shutdown {
    crate::sim::shutdown().await;
    Shutdown::Interrupt
}
