//! The machines of an authority.

/// The role of a machine of an authority. Code that handles all machines of an authority iterates
/// over [`MachineRole::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MachineRole {
    /// Runs the node.
    Node,
    /// Runs the node's execution client.
    Execution,
}

impl MachineRole {
    /// All roles, in the order of the lanes of a page.
    pub const ALL: [Self; 2] = [Self::Node, Self::Execution];

    /// The roles whose machines serve the node.
    pub fn beside_node() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|role| *role != Self::Node)
    }

    /// The word in scenario files, and the beginning of the names of its machines: `execution3` is
    /// of authority 3.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Execution => "execution",
        }
    }
}
