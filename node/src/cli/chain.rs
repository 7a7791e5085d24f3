//! `alys genesis`.

use std::path::PathBuf;

use alloy_primitives::U256;
use alys_runtime::clock;
use alys_runtime::disk::Dir;
use alys_types::bls::PublicKeyBytes;
use alys_types::peg::BitcoinKey;
use alys_types::spec::BitcoinNetwork;
use alys_types::{Address, Authority, FaultModel, Slot};
use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use crate::files;
use crate::genesis::{self, ChainFiles, ExecutionFork, NewChain};
use crate::keys::{AuthoritiesFile, PublicAuthority};
use crate::toml_text;

/// `alys genesis ..`
#[derive(Debug, Subcommand)]
pub enum GenesisCommand {
    /// Write chain.toml and execution-genesis.json of a new chain.
    New(Box<NewArgs>),
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// Directory for the two files; created if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// An authority, as `alys keys show` prints it. Repeat it, in the order of the federation; 1 to
    /// 15.
    #[arg(
        long = "authority",
        value_name = "PUBKEY:PROOF:FEE_ADDRESS",
        value_parser = genesis::parse_authority,
        num_args = 1..,
        required_unless_present = "authorities_file"
    )]
    authorities: Vec<Authority>,
    /// A file with the concatenated authority.toml of all members, in place of --authority.
    #[arg(long, value_name = "FILE", conflicts_with = "authorities")]
    authorities_file: Option<PathBuf>,
    /// EVM chain id. No other chain should have it (https://chainlist.org).
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    chain_id: u64,
    /// Length of a slot in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    slot_ms: u64,
    /// Faults that the federation tolerates.
    #[arg(long, value_enum, default_value_t = FaultModelArg::Byzantine)]
    fault_model: FaultModelArg,
    /// Seconds from now until the chain starts.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    start_in: u64,
    /// Execution rules.
    #[arg(long, value_enum, default_value_t)]
    fork: ExecutionFork,
    /// Bitcoin network of deposits. A chain on regtest is for development.
    #[arg(long, value_enum, default_value_t = BitcoinNetworkArg::Regtest)]
    bitcoin_network: BitcoinNetworkArg,
    /// Height of Bitcoin's chain; deposits are in blocks above it.
    #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
    bitcoin_start: u32,
    /// A compressed public key of the script that deposits pay, in hex. Repeat it; 1 to 15. Default
    /// on regtest: the keys with the secrets 1, 2 and 3.
    #[arg(long = "bitcoin-key", value_name = "PUBKEY", num_args = 1..)]
    bitcoin_keys: Vec<BitcoinKey>,
    /// Number of keys that spend a deposit; default: more than half.
    #[arg(long, value_name = "M", requires = "bitcoin_keys")]
    bitcoin_threshold: Option<u8>,
    /// A balance at genesis, for development only. Repeat it.
    #[arg(
        long = "fund",
        value_name = "ADDRESS=ETHER",
        value_parser = genesis::parse_fund,
        num_args = 1..
    )]
    funded: Vec<(Address, U256)>,
    /// A BLS public key that signs changes of the federation. Repeat it. Default: the federation
    /// never changes.
    #[arg(long = "governance-key", value_name = "PUBKEY", num_args = 1..)]
    governance_keys: Vec<PublicKeyBytes>,
    /// Number of governance keys that must sign; default: more than half.
    #[arg(long, value_name = "N", requires = "governance_keys")]
    governance_threshold: Option<u8>,
}

/// Faults that the federation tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FaultModelArg {
    /// Up to a third of the authorities behave arbitrarily.
    Byzantine,
    /// Just under half of the authorities stop, and come back with their disks.
    Crash,
}

/// Networks of Bitcoin, by the names that Bitcoin Core has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BitcoinNetworkArg {
    Main,
    Test,
    Testnet4,
    Signet,
    Regtest,
}

impl From<BitcoinNetworkArg> for BitcoinNetwork {
    fn from(network: BitcoinNetworkArg) -> Self {
        match network {
            BitcoinNetworkArg::Main => BitcoinNetwork::Main,
            BitcoinNetworkArg::Test => BitcoinNetwork::Test,
            BitcoinNetworkArg::Testnet4 => BitcoinNetwork::Testnet4,
            BitcoinNetworkArg::Signet => BitcoinNetwork::Signet,
            BitcoinNetworkArg::Regtest => BitcoinNetwork::Regtest,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The failure names the remedy.
pub fn run(GenesisCommand::New(args): GenesisCommand) -> Result<(), Failure> {
    let NewArgs {
        authorities,
        authorities_file,
        ..
    } = *args;
    let (authorities, without_fees) = match authorities_file {
        Some(path) => read_authorities(&path)?,
        None => (authorities, Vec::new()),
    };
    let start_ms = clock::wall_ms().saturating_add(args.start_in.saturating_mul(1000));
    let new = NewChain {
        chain_id: args.chain_id,
        start_slot: Slot::at(start_ms, args.slot_ms),
        slot_duration_ms: args.slot_ms,
        fault_model: match args.fault_model {
            FaultModelArg::Byzantine => FaultModel::Byzantine,
            FaultModelArg::Crash => FaultModel::Crash,
        },
        authorities,
        governance: genesis::governance(args.governance_keys, args.governance_threshold),
        fork: args.fork,
        bitcoin: genesis::bitcoin(
            args.bitcoin_network.into(),
            args.bitcoin_start,
            args.bitcoin_keys,
            args.bitcoin_threshold,
        ),
        funded: args.funded,
    };
    let (files, texts) = ChainFiles::new(&new).map_err(Failure::refused)?;
    let dir = Dir::open(&args.out).map_err(Failure::refused)?;
    texts.write(&dir).map_err(Failure::refused)?;
    let set = files.genesis.set();
    println!("genesis hash            {}", files.genesis.hash());
    println!(
        "execution genesis hash  {}",
        files.genesis.spec().execution_genesis_hash
    );
    println!(
        "authorities             {}, quorum {}, tolerates {}",
        set.len(),
        set.quorum(),
        set.tolerated()
    );
    println!(
        "starts                  at slot {} ({} ms after the Unix epoch)",
        new.start_slot, start_ms
    );
    println!(
        "\nWritten to {}: chain.toml and execution-genesis.json.",
        dir.path().display()
    );
    println!(
        "Every node needs both. Another execution client takes the latter (for Geth: `geth init`)."
    );
    if !without_fees.is_empty() {
        println!(
            "Without a fee_address: authorities {without_fees:?}, in the order of the file. Their \
             share of the fees stays in the vault."
        );
    }
    if !new.funded.is_empty() {
        println!("Accounts have balances that no bitcoin stands behind: for development only.");
    }
    Ok(())
}

/// The authorities of a file, and the indices of those that name no fee address.
fn read_authorities(path: &std::path::Path) -> Result<(Vec<Authority>, Vec<usize>), Failure> {
    let name = path.display().to_string();
    let text = files::read_text(path).map_err(Failure::refused)?;
    let file: AuthoritiesFile = toml_text::read(&name, &text).map_err(Failure::refused)?;
    let authorities = file.authorities.iter();
    let without_fees = authorities
        .clone()
        .enumerate()
        .filter(|(_, authority)| authority.fee_address.is_none())
        .map(|(index, _)| index);
    Ok((
        authorities.map(PublicAuthority::complete).collect(),
        without_fees.collect(),
    ))
}
