//! Broadcast to several actors with the same message type.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::join_all;

use alys_actor_system::{Addr, AskError, Message, Reply, TellError};

/// Maximum members of a group, because a broadcast creates one message for each without waiting.
pub const MAX_MEMBERS: usize = 1024;

/// Error of [`Group::join`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The group already has a member with this name.
    #[error("the group has a member named {name} already")]
    NameTaken {
        /// The requested name.
        name: Arc<str>,
    },
    /// The group already has the maximum number of members.
    #[error("the group has {limit} members already")]
    TooManyMembers {
        /// [`MAX_MEMBERS`].
        limit: usize,
    },
}

/// Name and outcome of each member, in the order in which they joined.
pub type ByMember<T> = Vec<(Arc<str>, T)>;

/// Named actors with the same message type. It is a plain value: a clone is independent of later
/// changes.
pub struct Group<M: Message> {
    /// Members in the order in which they joined.
    members: Vec<(Arc<str>, Addr<M>)>,
}

impl<M: Message> Group<M> {
    /// A group without members.
    pub const fn new() -> Self {
        Self {
            members: Vec::new(),
        }
    }

    /// Adds a member as the last one.
    ///
    /// # Errors
    /// [`JoinError`] if the name is taken or the group has [`MAX_MEMBERS`] members.
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

    /// Removes a member and returns its address; none if there is no member with this name.
    pub fn leave(&mut self, name: &str) -> Option<Addr<M>> {
        let index = self
            .members
            .iter()
            .position(|(other, _)| &**other == name)?;
        Some(self.members.remove(index).1)
    }

    /// Removes the members that have terminated, and returns their names in the order in which they
    /// joined.
    pub fn remove_ended(&mut self) -> Vec<Arc<str>> {
        self.members
            .extract_if(.., |(_, addr)| addr.is_closed())
            .map(|(name, _)| name)
            .collect()
    }

    /// Address of the member with this name.
    pub fn get(&self, name: &str) -> Option<&Addr<M>> {
        self.members()
            .find(|(other, _)| *other == name)
            .map(|(_, addr)| addr)
    }

    /// Names and addresses of the members, in the order in which they joined.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Addr<M>)> {
        self.members.iter().map(|(name, addr)| (&**name, addr))
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if the group has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Tells every member a clone of `msg`, without waiting. An error of one member does not affect
    /// the others, and returns its message.
    pub fn broadcast(&self, msg: M) -> ByMember<Result<(), TellError<M>>>
    where
        M: Clone,
    {
        self.broadcast_with(|_| msg.clone())
    }

    /// Tells every member the message that `make` returns for its index, without waiting. Indexes
    /// start at 0, in the order in which members joined.
    pub fn broadcast_with(
        &self,
        mut make: impl FnMut(usize) -> M,
    ) -> ByMember<Result<(), TellError<M>>> {
        let outcome = |(index, (name, addr)): (usize, &(Arc<str>, Addr<M>))| {
            (name.clone(), addr.tell(make(index)).map(drop))
        };
        self.members.iter().enumerate().map(outcome).collect()
    }

    /// Asks all members concurrently and waits up to `deadline` for their answers. A slow member
    /// delays the result, but not the answers of the others. The outcome of each member is that of
    /// [`Addr::ask`].
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
