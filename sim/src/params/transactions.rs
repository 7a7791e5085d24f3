//! The transactions of users: their types, and the contracts that they deploy and call. Each
//! contract has one effect that is visible from outside.

use alloy_primitives::{Bytes, hex};
use serde::{Deserialize, Serialize};

/// The type of a transaction envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The original type, with a chain id (EIP-155).
    Legacy,
    /// Type 1, with an access list (EIP-2930).
    AccessList,
    /// Type 2, with a base fee and a priority fee (EIP-1559).
    DynamicFee,
}

impl Form {
    /// All types.
    pub const ALL: [Self; 3] = [Self::Legacy, Self::AccessList, Self::DynamicFee];

    /// Returns the coverage feature of a final transaction of this type.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Legacy => "final.legacy",
            Self::AccessList => "final.access-list",
            Self::DynamicFee => "final.dynamic-fee",
        }
    }
}

/// A contract of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Contract {
    /// Increments slot 0 on each call and logs the count.
    Counter,
    /// Writes slot 0 on each call, then reverts with one word of data.
    Reverter,
    /// Emits as many logs as its argument says.
    Logger,
    /// Loops until the gas is used up.
    Spinner,
    /// Sets slots 0 and 1 on the first call, clears them on the next, and so on: a clearing call
    /// earns a larger refund than the fifth of its gas that is paid (EIP-3529).
    Toggle,
}

/// Init code that returns the code appended to it; the second byte is the length of that code.
const PROLOGUE: [u8; 11] = hex!("600080600b6000396000f3");

impl Contract {
    /// All contracts.
    pub const ALL: [Self; 5] = [
        Self::Counter,
        Self::Reverter,
        Self::Logger,
        Self::Spinner,
        Self::Toggle,
    ];

    /// Returns the code that a deployment leaves.
    pub const fn code(self) -> &'static [u8] {
        match self {
            Self::Counter => &hex!("60005460010180600055600052604260206000a100"),
            Self::Reverter => &hex!("6001600055604260005260206000fd"),
            Self::Logger => &hex!("6000355b8015601a57806000528060206000a1600190036003565b00"),
            Self::Spinner => &hex!("5b600056"),
            Self::Toggle => &hex!("600054156000556001541560015500"),
        }
    }

    /// Returns the data of a transaction that deploys this contract.
    pub fn init_code(self) -> Bytes {
        let code = self.code();
        let mut init = PROLOGUE.to_vec();
        init[1] = u8::try_from(code.len()).expect("each code above is shorter than 256 bytes");
        init.extend_from_slice(code);
        init.into()
    }

    /// Returns the coverage feature of a deployment.
    pub const fn deployed(self) -> &'static str {
        match self {
            Self::Counter => "deploy.counter",
            Self::Reverter => "deploy.reverter",
            Self::Logger => "deploy.logger",
            Self::Spinner => "deploy.spinner",
            Self::Toggle => "deploy.toggle",
        }
    }

    /// Returns the coverage feature of a final call.
    pub const fn called(self) -> &'static str {
        match self {
            Self::Counter => "call.counter",
            Self::Reverter => "call.reverter",
            Self::Logger => "call.logger",
            Self::Spinner => "call.spinner",
            Self::Toggle => "call.toggle",
        }
    }
}
