//! The message being handled on this thread, in a frame that is set only while an actor's handler
//! is polled. Tasks of the actor have none.

use std::{cell::RefCell, mem, sync::Arc};

use crate::mailbox::{
    envelope::{MessageId, Meta, Origin},
    home::MessageTables,
};

thread_local! {
    static CURRENT: RefCell<Option<Box<Frame>>> = const { RefCell::new(None) };
}

/// An actor and the message that it is handling.
pub(crate) struct Frame {
    /// Number of the actor.
    pub number: u64,
    pub incarnation: u64,
    pub tables: Arc<MessageTables>,
    pub id: MessageId,
    pub correlation: MessageId,
    pub kind: &'static str,
    pub meta: Meta,
    pub loses_replies: bool,
}

impl Frame {
    pub fn new(number: u64, incarnation: u64, tables: Arc<MessageTables>) -> Self {
        let id = MessageId::new(number, Origin::Mailbox, 0);
        Self {
            number,
            incarnation,
            tables,
            id,
            correlation: id,
            kind: "",
            meta: Meta::default(),
            loses_replies: false,
        }
    }

    /// Sets the frame to the next message.
    pub fn begin(&mut self, kind: &'static str, meta: Meta) {
        self.id = meta.id(self.number);
        self.correlation = meta.correlation.unwrap_or(self.id);
        self.kind = kind;
        self.meta = meta;
        self.loses_replies = false;
    }
}

/// Sets a frame as the current one until dropped, also by a panic.
pub(crate) struct Placed<'a> {
    frame: &'a mut Option<Box<Frame>>,
    /// The frame of an outer handler, because a handler may block on a runtime of its own.
    outer: Option<Box<Frame>>,
}

impl<'a> Placed<'a> {
    pub fn new(frame: &'a mut Option<Box<Frame>>) -> Self {
        let outer = CURRENT.with(|current| mem::replace(&mut *current.borrow_mut(), frame.take()));
        Self { frame, outer }
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        *self.frame =
            CURRENT.with(|current| mem::replace(&mut *current.borrow_mut(), self.outer.take()));
    }
}

/// Accesses the current frame; none outside of a handler.
pub(crate) fn with<T>(access: impl FnOnce(&mut Frame) -> T) -> Option<T> {
    CURRENT.with(|current| current.borrow_mut().as_deref_mut().map(access))
}

/// True if an injected fault suppresses the answers to this message.
pub(crate) fn loses_replies() -> bool {
    with(|frame| frame.loses_replies).unwrap_or(false)
}
