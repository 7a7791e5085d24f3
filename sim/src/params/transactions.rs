//! The transactions of users: their forms, and the contracts that they deploy and call. Each
//! contract has one effect that shows from outside.

use alloy_primitives::{Bytes, hex};
use serde::{Deserialize, Serialize};

/// The form of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The oldest, with a chain id.
    Legacy,
    /// EIP-2930.
    AccessList,
    /// EIP-1559.
    DynamicFee,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Legacy, Self::AccessList, Self::DynamicFee];

    /// The feature that a final transaction of this form counts as.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Legacy => "final.legacy",
            Self::AccessList => "final.access-list",
            Self::DynamicFee => "final.dynamic-fee",
        }
    }
}

/// A contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Contract {
    /// Each call counts up in slot 0 and logs the count.
    Counter,
    /// Each call writes slot 0 and then reverts, with a word of data.
    Reverter,
    /// Each call logs as often as its argument says.
    Logger,
    /// Each call runs until its gas is gone.
    Spinner,
}

/// What puts the code behind it on the chain: its length is the second byte.
const PROLOGUE: [u8; 11] = hex!("600080600b6000396000f3");

impl Contract {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Counter, Self::Reverter, Self::Logger, Self::Spinner];

    const fn code(self) -> &'static [u8] {
        match self {
            Self::Counter => &hex!("60005460010180600055600052604260206000a100"),
            Self::Reverter => &hex!("6001600055604260005260206000fd"),
            Self::Logger => &hex!("6000355b8015601a57806000528060206000a1600190036003565b00"),
            Self::Spinner => &hex!("5b600056"),
        }
    }

    /// What a transaction that deploys it carries.
    pub fn init_code(self) -> Bytes {
        let code = self.code();
        let mut init = PROLOGUE.to_vec();
        init[1] = u8::try_from(code.len()).expect("each code above is shorter than 256 bytes");
        init.extend_from_slice(code);
        init.into()
    }

    /// The feature that a deployment counts as.
    pub const fn deployed(self) -> &'static str {
        match self {
            Self::Counter => "deploy.counter",
            Self::Reverter => "deploy.reverter",
            Self::Logger => "deploy.logger",
            Self::Spinner => "deploy.spinner",
        }
    }

    /// The feature that a final call counts as.
    pub const fn called(self) -> &'static str {
        match self {
            Self::Counter => "call.counter",
            Self::Reverter => "call.reverter",
            Self::Logger => "call.logger",
            Self::Spinner => "call.spinner",
        }
    }
}
