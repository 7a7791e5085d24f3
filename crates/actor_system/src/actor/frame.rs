//! Polls the code of an actor with the frame of its message set.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    actor::error::{Failure, Phase, panic_text},
    mailbox::current::{Frame, Placed},
};

/// Future of an actor's code. Sets the frame during each poll, and converts panics and errors to
/// failures.
pub(crate) struct InFrame<'a, F> {
    pub frame: &'a mut Option<Box<Frame>>,
    pub span: Option<tracing::Span>,
    pub phase: Phase,
    pub future: Pin<&'a mut F>,
}

impl<F, E> Future for InFrame<'_, F>
where
    F: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            frame,
            span,
            phase,
            future,
        } = &mut *self;
        let placed = Placed::new(frame);
        let entered = span.as_ref().map(tracing::Span::enter);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        drop((entered, placed));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Err(Failure::Errored {
                phase: *phase,
                source: Arc::new(error),
            })),
            Err(panic) => Poll::Ready(Err(Failure::Panicked {
                phase: *phase,
                message: panic_text(&*panic),
            })),
        }
    }
}
