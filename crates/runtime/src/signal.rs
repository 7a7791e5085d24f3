//! The wish of the operator that the process ends.

/// What asked the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// SIGINT: a person pressed ctrl-c. In simulation, the world's graceful stop.
    Interrupt,
    /// SIGTERM: a service manager stops the process.
    Terminate,
}

/// Waits until the process is asked to end. Signals that come before the first call keep their default effect,
/// which is to end the process at once; call it early and keep it in a loop's `select!`.
#[cfg(not(madsim))]
pub async fn shutdown() -> Shutdown {
    use tokio::signal::unix::{SignalKind, signal};

    let listen = |kind| {
        signal(kind)
            .map_err(|error| tracing::warn!(%error, ?kind, "cannot listen for signal"))
            .ok()
    };
    let (interrupt, terminate) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
    );
    // A signal that cannot be listened for keeps its default effect, so waiting forever here is right.
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

/// Waits until the process is asked to end. Without anybody waiting here, the world's graceful stop is a kill.
#[cfg(madsim)]
pub async fn shutdown() -> Shutdown {
    crate::sim::shutdown().await
}
