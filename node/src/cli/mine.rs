//! `alys mine`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use alys_integrations::http::Endpoint;
use alys_pow::{Bits, Explanation, MAX_BYTES, Question, Row, Status, explain, reversed};
use alys_runtime::time::{self, Duration, Instant};
use alys_types::spec::AuxPowSpec;
use alys_types::{Address, Hash};
use clap::{Args, Subcommand};

use super::node::read_login;
use super::{Failure, LogArgs, init_log, stop_signal};
use crate::config;
use crate::files;
use crate::mining::miner::{self, MAX_THREADS, MinerConfig, MinerEvent};

/// Most characters that are read from standard input: a proof that is too long, so that its
/// explanation says so.
const MAX_INPUT_BYTES: u64 = 2 * MAX_BYTES as u64 + 1024;

/// `alys mine ..`
#[derive(Debug, Subcommand)]
pub enum MineCommand {
    /// Check an AuxPoW rule by rule, with the expected values and those found.
    ///
    /// Exit code 0: no rule is broken. 1: one is. 2: the arguments are wrong.
    Explain(ExplainArgs),
    /// Mine on this machine's CPU, for development and tests.
    ///
    /// It asks a node for work and submits proofs over the JSON-RPC of miners, as pools do. Its
    /// parent blocks belong to no other chain, so that the work is worth nothing elsewhere. `alys
    /// dev` mines by itself unless it is started with --no-mining.
    Dev(DevMinerArgs),
}

#[derive(Debug, Args)]
pub struct DevMinerArgs {
    /// The node's JSON-RPC of miners.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:3000",
        value_parser = config::parse_mining_url
    )]
    url: Endpoint,
    /// EVM address that the work pays; default: the node's.
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_fee_address)]
    address: Option<Address>,
    /// Threads, 1 to 64; those beyond the number of cores are of no use.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=MAX_THREADS as i64)
    )]
    threads: u8,
    /// Most hashes per second of all threads together. [default: no limit]
    #[arg(long, value_name = "HASHES", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// User to log in with.
    #[arg(long, value_name = "USER", requires = "password_file")]
    user: Option<String>,
    /// File with the password of that user.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The AuxPoW in hex, @FILE for a file with the hex, or - for standard input.
    #[arg(value_name = "HEX")]
    proof: String,
    /// AuxPoW chain id of the chain.
    #[arg(long, value_name = "ID", default_value_t = AuxPowSpec::default().chain_id)]
    chain_id: u16,
    /// The work: `hash` of createauxblock. Without it the root is not checked.
    #[arg(long, value_name = "HASH")]
    commitment: Option<Hash>,
    /// The difficulty: `bits` of createauxblock. Without them the work is not checked.
    #[arg(long, value_name = "BITS")]
    bits: Option<Bits>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// The failure names the broken rule, or the mistake in the arguments.
pub async fn run(command: MineCommand, log: &LogArgs) -> Result<(), Failure> {
    match command {
        MineCommand::Explain(args) => run_explain(&args),
        MineCommand::Dev(args) => {
            init_log(log, None, None, "warn")?;
            run_miner(args).await
        }
    }
}

/// Mines until a signal.
async fn run_miner(args: DevMinerArgs) -> Result<(), Failure> {
    let login = match (&args.user, &args.password_file) {
        (Some(user), Some(file)) => Some(read_login(user, file)?),
        _ => None,
    };
    let config = MinerConfig {
        endpoint: args.url,
        login,
        address: args.address.map(|address| address.to_string()),
        threads: usize::from(args.threads),
        rate: args.rate,
    };
    let mut stop = stop_signal().await;
    let mut console = Console::new(io::stderr().is_terminal());
    alys_runtime::select! {
        _ = &mut stop => {}
        never = miner::mine(config, |event| console.show(event)) => match never {},
    }
    console.end();
    Ok(())
}

/// The lines of a miner, on standard error.
struct Console {
    /// The progress is one line that is written again and again.
    is_terminal: bool,
    target: String,
    proofs: u64,
    shown: Option<Instant>,
}

/// Interval of progress lines that are not written again.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

impl Console {
    fn new(is_terminal: bool) -> Console {
        Console {
            is_terminal,
            target: String::new(),
            proofs: 0,
            shown: None,
        }
    }

    fn show(&mut self, event: MinerEvent) {
        match event {
            MinerEvent::Work {
                sequence,
                height,
                bits,
            } => {
                let number = sequence.map_or(String::new(), |number| format!("proof {number}, "));
                self.target = format!("{number}up to block {height}, bits {bits}");
            }
            MinerEvent::Accepted { height } => {
                self.line(&format!("accepted: proof of work up to block {height}"));
            }
            MinerEvent::Refused(reason) => self.line(&format!("refused: {reason}")),
            MinerEvent::Waiting(reason) => self.line(&format!("waiting: {reason}")),
            MinerEvent::Rate {
                hashes_per_second,
                proofs,
            } => {
                self.proofs = proofs;
                self.progress(hashes_per_second);
            }
        }
    }

    fn line(&self, text: &str) {
        let clear = if self.is_terminal { "\r\u{1b}[K" } else { "" };
        eprintln!("{clear}{text}");
    }

    fn progress(&mut self, hashes_per_second: f64) {
        let rate = shown_rate(hashes_per_second);
        let text = format!("{rate}, {} proofs; {}", self.proofs, self.target);
        if self.is_terminal {
            eprint!("\r\u{1b}[K{text}");
            return;
        }
        let now = time::now();
        let is_due = |at: Instant| now.saturating_duration_since(at) >= LINE_INTERVAL;
        if self.shown.is_none_or(is_due) {
            self.shown = Some(now);
            eprintln!("{text}");
        }
    }

    fn end(&self) {
        self.line(&format!("stopped after {} accepted proofs", self.proofs));
    }
}

/// Hashes per second with the prefix that people use.
fn shown_rate(hashes_per_second: f64) -> String {
    let units = [(1e9, "GH/s"), (1e6, "MH/s"), (1e3, "kH/s")];
    let unit = units.iter().find(|(size, _)| hashes_per_second >= *size);
    match unit {
        Some((size, name)) => format!("{:.1} {name}", hashes_per_second / size),
        None => format!("{hashes_per_second:.1} H/s"),
    }
}

fn run_explain(args: &ExplainArgs) -> Result<(), Failure> {
    let text = read(&args.proof)?;
    let digits: String = text.split_whitespace().collect();
    let digits = digits.strip_prefix("0x").unwrap_or(&digits);
    let bytes = hex::decode(digits)
        .map_err(|error| Failure::Refused(format!("the AuxPoW is not hex: {error}")))?;
    let question = Question {
        chain_id: args.chain_id,
        commitment: args.commitment.map(reversed),
        bits: args.bits,
    };
    let explanation = explain(&bytes, &question);
    if args.json {
        let json = serde_json::to_string_pretty(&explanation).map_err(Failure::refused)?;
        println!("{json}");
    } else {
        let is_coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print!("{}", render(&explanation, is_coloured));
    }
    match explanation.first_failure() {
        Some(row) => Err(Failure::Broken(format!(
            "the AuxPoW breaks the rule \"{}\" ({})",
            row.rule, row.source
        ))),
        None => Ok(()),
    }
}

/// The text of the argument, or of the file or input that it names.
fn read(argument: &str) -> Result<String, Failure> {
    if let Some(path) = argument.strip_prefix('@') {
        return files::read_text(Path::new(path)).map_err(Failure::refused);
    }
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    io::stdin()
        .take(MAX_INPUT_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| Failure::Refused(format!("standard input: {error}")))?;
    Ok(text)
}

/// The explanation as a table.
fn render(explanation: &Explanation, is_coloured: bool) -> String {
    let mut text = format!("AuxPoW of {} bytes\n", explanation.bytes);
    for (name, value) in [
        ("parent", &explanation.parent_hash),
        ("coinbase", &explanation.coinbase_id),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<12} {value}");
        }
    }
    text.push('\n');
    for row in &explanation.rules {
        render_row(&mut text, row, is_coloured);
    }
    text
}

fn render_row(text: &mut String, row: &Row, is_coloured: bool) {
    let (status, colour) = match row.status {
        Status::Passed => ("passed", "32"),
        Status::Failed => ("failed", "31"),
        Status::NotReached => ("not reached", "33"),
    };
    let mut status = format!("{status:<12}");
    if is_coloured {
        status = format!("\u{1b}[{colour}m{status}\u{1b}[0m");
    }
    let of = |value: &Option<String>| value.clone().unwrap_or_default();
    let lines = match row.status {
        Status::Passed => vec![(row.rule, of(&row.found))],
        Status::NotReached => vec![(row.rule, of(&row.note))],
        Status::Failed => vec![
            (row.rule, of(&row.found)),
            ("  expected", of(&row.expected)),
            ("  source", row.source.to_owned()),
            ("  note", of(&row.note)),
        ],
    };
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    for (position, (name, value)) in lines.enumerate() {
        let status = if position == 0 {
            status.as_str()
        } else {
            "            "
        };
        let _ = writeln!(text, "{status} {name:<18} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dogecoin block 371337 and Namecoin testnet block 233281.
    const BLOCKS: &str = include_str!("../../../crates/pow/tests/vectors/blocks.txt");

    fn block(name: &str) -> Vec<&'static str> {
        let line = BLOCKS.lines().find(|line| line.starts_with(name));
        line.expect("a block").split(' ').collect()
    }

    fn explain_with(proof: &str, chain_id: u16, commitment: Option<&str>) -> Result<(), Failure> {
        run_explain(&ExplainArgs {
            proof: proof.to_owned(),
            chain_id,
            commitment: commitment.map(|text| text.parse().expect("a hash")),
            bits: None,
            json: false,
        })
    }

    #[test]
    fn the_exit_code_says_if_a_rule_is_broken() {
        let dogecoin = block("dogecoin");
        let [.., commitment, proof] = dogecoin[..] else {
            panic!("{dogecoin:?}")
        };
        assert_eq!(explain_with(proof, 98, Some(commitment)), Ok(()));
        assert_eq!(explain_with(proof, 98, None), Ok(()));
        let spaced = format!("0x{}\n{}\n", &proof[..10], &proof[10..]);
        assert_eq!(explain_with(&spaced, 98, None), Ok(()));
        for (proof, chain_id, commitment, rule) in [
            (proof, 99, None, "slot"),
            (proof, 98, Some("11".repeat(32)), "chain root"),
            (&proof[2..], 98, None, "format"),
            (block("namecoin-testnet")[4], 1, None, "magic"),
        ] {
            let text = match explain_with(proof, chain_id, commitment.as_deref()) {
                Err(Failure::Broken(text)) => text,
                other => panic!("{rule}: {other:?}"),
            };
            assert!(
                text.contains(&format!("breaks the rule \"{rule}\"")),
                "{text}"
            );
        }
        // Paths of the command line are not on the simulated disk.
        let file = (!alys_runtime::is_simulated())
            .then_some(("@nowhere.hex", "nowhere.hex does not exist"));
        for (proof, expected) in [("01x", "not hex"), ("012", "not hex")]
            .into_iter()
            .chain(file)
        {
            let text = match explain_with(proof, 98, None) {
                Err(Failure::Refused(text)) => text,
                other => panic!("{proof}: {other:?}"),
            };
            assert!(text.contains(expected), "{proof}: {text}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_rule() {
        let proof = hex::decode(block("dogecoin")[4]).expect("hex");
        let question = Question {
            chain_id: 98,
            commitment: None,
            bits: Some("1b364184".parse().expect("bits")),
        };
        let explanation = explain(&proof, &question);
        let expected = "\
AuxPoW of 455 bytes
parent       45df41e40aba5b2a03d08bd1202a1c02ef3954d8aa22ea6c5ae62fd00f290ea9
coinbase     e5422732b20e9e7ecc243427abbe296e9528d308bb111aae8d30c3465e442de8

passed       format             455 bytes
passed       coinbase index     0
passed       coinbase branch    3 levels
passed       chain branch       3 levels
passed       parent chain id    chain id 0 of version 0x00000002
failed       work               45df41e40aba5b2a03d08bd1202a1c02ef3954d8aa22ea6c5ae62fd00f290ea9
               expected         a hash up to 0000000000364184000000000000000000000000000000000000000000000000
               source           Alys 4.4
passed       magic              input 0 at byte 4
passed       tag                48 bytes after the magic in input 0 at byte 4
passed       tree size          8
passed       slot               0
not reached  chain root         no commitment is given
";
        let text = render(&explanation, false);
        assert!(text.starts_with(expected), "{text}");
        let coloured = render(&explanation, true);
        assert!(
            coloured.contains("\u{1b}[31mfailed      \u{1b}[0m work"),
            "{coloured}"
        );
    }
}
