//! `alys keys`.

use std::path::PathBuf;

use alys_runtime::disk::Dir;
use alys_types::Address;
use clap::{Args, Subcommand};

use super::{Failure, open_locked};
use crate::keys::{self, PublicParts, Purpose, ScryptCost};

/// `alys keys ..`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a block-signing key and a network identity, and print their public parts.
    ///
    /// Writes keystore.json (encrypted, EIP-2335), identity.key, authority.toml (public, for `alys
    /// genesis new`) and votes.new, which marks a key that has never voted. Overwrites nothing.
    New(NewArgs),
    /// Print the public parts of the keys of a data directory.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// The node's data directory; created if it is missing.
    #[arg(long, value_name = "DIR", env = "ALYS_DATADIR")]
    datadir: PathBuf,
    /// File with the password of the new key; default: the environment variable ALYS_PASSWORD, else
    /// a prompt.
    #[arg(long, value_name = "FILE", env = "ALYS_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// EVM address that receives the authority's share of the fees. Without one it stays in the
    /// vault that collects all fees.
    #[arg(long, value_name = "ADDRESS")]
    fee_address: Option<Address>,
    /// Cost of one guess at the password, a power of two. Less than the default does not protect a
    /// key.
    #[arg(long, value_name = "N", default_value_t = 262_144)]
    scrypt_n: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The node's data directory.
    #[arg(long, value_name = "DIR", env = "ALYS_DATADIR")]
    datadir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// The failure names the remedy.
pub fn run(command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::New(args) => {
            let cost = ScryptCost::new(args.scrypt_n).map_err(Failure::refused)?;
            let (dir, lock) = open_locked(&args.datadir)?;
            drop(lock);
            // Checked before the prompt for a password.
            if dir.exists(keys::KEYSTORE).map_err(Failure::refused)? {
                let path = dir.path().join(keys::KEYSTORE).display().to_string();
                return Err(Failure::refused(keys::KeysError::Exists { path }));
            }
            let password = keys::password::obtain(args.password_file.as_deref(), Purpose::Choose)
                .map_err(Failure::refused)?;
            let parts =
                keys::create(&dir, &password, cost, args.fee_address).map_err(Failure::refused)?;
            print_parts(&parts, args.json);
            if !args.json {
                println!(
                    "\nWritten to {}. Keep a copy of keystore.json and its password;",
                    dir.path().display()
                );
                println!(
                    "never run two nodes with one key, nor a node from a copy of its data \
                     directory."
                );
            }
        }
        KeysCommand::Show(args) => {
            if !args.datadir.is_dir() {
                let path = args.datadir.display();
                return Err(Failure::Refused(format!(
                    "{path} is not a directory; give --datadir"
                )));
            }
            let dir = Dir::open(&args.datadir).map_err(Failure::refused)?;
            print_parts(&keys::show(&dir).map_err(Failure::refused)?, args.json);
        }
    }
    Ok(())
}

fn print_parts(parts: &PublicParts, json: bool) {
    let PublicParts { authority, peer_id } = parts;
    if json {
        let value = serde_json::json!({
            "public_key": authority.public_key,
            "proof_of_possession": authority.proof_of_possession,
            "fee_address": authority.fee_address,
            "peer_id": peer_id,
            "authority": authority.to_argument(),
        });
        println!("{value}");
        return;
    }
    println!("public key           {}", authority.public_key);
    println!("proof of possession  {}", authority.proof_of_possession);
    println!("peer id              {peer_id}");
    println!(
        "for `alys genesis new`:\n  --authority {}",
        authority.to_argument()
    );
    if authority.fee_address.is_none() {
        println!("  (put the EVM address for the authority's fees in place of FEE_ADDRESS)");
    }
}
