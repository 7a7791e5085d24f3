//! Broadcast: several actors of one kind of message, addressed together.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::join_all;

use alys_actor_system::{Addr, AskError, Message, Reply, TellError};

/// Members that a group may have: a broadcast puts one message to each at once.
pub const MAX_MEMBERS: usize = 1024;

/// Reason for which a member cannot join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The group has a member of this name.
    #[error("the group has a member named {name} already")]
    NameTaken {
        /// The name asked for.
        name: Arc<str>,
    },
    /// The group has as many members as it may have.
    #[error("the group has {limit} members already")]
    TooManyMembers {
        /// [`MAX_MEMBERS`].
        limit: usize,
    },
}

/// Outcome by member: name and outcome, in the order in which they joined.
pub type ByMember<T> = Vec<(Arc<str>, T)>;

/// Named actors that understand the same messages. A plain value: who owns it changes it, who holds
/// a clone has the members of that moment.
pub struct Group<M: Message> {
    /// In the order in which they joined.
    members: Vec<(Arc<str>, Addr<M>)>,
}

impl<M: Message> Group<M> {
    /// A group without members.
    pub const fn new() -> Self {
        Self {
            members: Vec::new(),
        }
    }

    /// Adds a member, after all others.
    ///
    /// # Errors
    /// The name is taken, or there are too many members.
    pub fn join(&mut self, name: impl Into<Arc<str>>, addr: Addr<M>) -> Result<(), JoinError> {
        let name = name.into();
        if self.get(&name).is_some() {
            return Err(JoinError::NameTaken { name });
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(JoinError::TooManyMembers { limit: MAX_MEMBERS });
        }
        self.members.push((name, addr));
        Ok(())
    }

    /// Takes a member out. Its address, if there was one of this name.
    pub fn leave(&mut self, name: &str) -> Option<Addr<M>> {
        let index = self
            .members
            .iter()
            .position(|(other, _)| &**other == name)?;
        Some(self.members.remove(index).1)
    }

    /// Takes out the members that have ended for good. Their names, in the order in which they
    /// joined.
    pub fn remove_ended(&mut self) -> Vec<Arc<str>> {
        self.members
            .extract_if(.., |(_, addr)| addr.is_closed())
            .map(|(name, _)| name)
            .collect()
    }

    /// The member of this name.
    pub fn get(&self, name: &str) -> Option<&Addr<M>> {
        self.members()
            .find(|(other, _)| *other == name)
            .map(|(_, addr)| addr)
    }

    /// Names and addresses, in the order in which they joined.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Addr<M>)> {
        self.members.iter().map(|(name, addr)| (&**name, addr))
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Tells every member the same, without waiting. A refusal of one does not affect the others;
    /// its message is in its error.
    pub fn broadcast(&self, msg: M) -> ByMember<Result<(), TellError<M>>>
    where
        M: Clone,
    {
        self.broadcast_with(|_| msg.clone())
    }

    /// Tells every member what `make` makes for its place, from 0 in the order in which they
    /// joined, without waiting.
    pub fn broadcast_with(
        &self,
        mut make: impl FnMut(usize) -> M,
    ) -> ByMember<Result<(), TellError<M>>> {
        let told = |(index, (name, addr)): (usize, &(Arc<str>, Addr<M>))| {
            (name.clone(), addr.tell(make(index)).map(drop))
        };
        self.members.iter().enumerate().map(told).collect()
    }

    /// Asks every member at once and waits up to `deadline` for all answers: a slow member delays
    /// the whole, but costs no other member its answer.
    pub async fn ask_all<R: Send + 'static>(
        &self,
        make: impl Fn(Reply<R>) -> M + Sync,
        deadline: Duration,
    ) -> ByMember<Result<R, AskError>> {
        let make = &make;
        let asks = self.members.iter().map(|(name, addr)| async move {
            let answer = addr.ask(make, deadline).await;
            (name.clone(), answer)
        });
        join_all(asks).await
    }
}

impl<M: Message> Default for Group<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Message> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            members: self.members.clone(),
        }
    }
}

impl<M: Message> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.members()).finish()
    }
}
