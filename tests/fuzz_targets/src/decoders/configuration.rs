//! The files and arguments of an operator: the node's configuration, the chain spec, the execution
//! genesis, public keys, addresses.
//!
//! The first byte selects the reader, the rest is the text.

use std::path::Path;

use alys_node::config::{self, Config, Overrides};
use alys_node::keys::AuthoritiesFile;
use alys_node::{genesis, toml_text};
use alys_types::Genesis;

/// Accounts of an execution genesis whose state is computed; a fuzzer finds nothing in more.
const MAX_ACCOUNTS: usize = 16;

pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match kind % 8 {
        0 => {
            if let Err(error) =
                Config::parse("node.toml", text, Path::new("/"), Overrides::default())
            {
                assert!(!error.to_string().is_empty());
            }
        }
        1 => {
            if let Ok(read) = genesis::parse_chain("chain.toml", text) {
                let again = Genesis::new(read.spec().clone()).expect("it was accepted");
                assert_eq!(again.hash(), read.hash());
            }
        }
        2 => {
            if let Ok(read) = genesis::parse_execution("genesis.json", text)
                && read.alloc.len() <= MAX_ACCOUNTS
            {
                let _ = genesis::execution_hash("genesis.json", &read);
            }
        }
        3 => {
            let _ = toml_text::read::<AuthoritiesFile>("authority.toml", text);
        }
        4 => {
            let _ = genesis::parse_authority(text);
        }
        5 => {
            let _ = genesis::parse_fund(text);
        }
        6 => {
            let _ = (config::parse_address(text), config::parse_url(text));
        }
        _ => {
            let _ = config::parse_peer(text);
        }
    }
}
