//! Output of the development network: the ready line, the lines of final blocks and their formats.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use alys_types::{Hash, Height};
use serde_json::json;

use super::accounts::{ACCOUNTS, ETHER, MNEMONIC};
use crate::actors::auxpow::PowFinal;
use crate::node::FinalBlock;

/// Heights at which the reports of validators are compared; slow validators are rarely further
/// behind.
const COMPARED_HEIGHTS: usize = 256;

/// Format of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Text,
    /// One JSON object a line.
    Json,
}

/// Facts about a network that has started.
#[derive(Debug, Clone)]
pub struct Ready {
    pub validators: usize,
    pub slot_ms: u64,
    pub fork: String,
    pub chain_id: u64,
    pub genesis_hash: Hash,
    pub datadir: String,
    /// JSON-RPC of each validator's execution client.
    pub rpc_urls: Vec<String>,
    /// The metrics of all validators.
    pub metrics_url: String,
    /// The JSON-RPC of miners of the first validator.
    pub mining_url: String,
    /// The last final height at the start; zero for a new chain.
    pub height: Height,
}

/// Two final blocks at one height: a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "validators disagree about final block {height}: {first:?} and {second:?} (hash, state root)"
)]
pub struct Disagreement {
    pub height: Height,
    pub first: (Hash, Hash),
    pub second: (Hash, Hash),
}

/// Collects the reports of all validators and selects the lines to print.
#[derive(Debug, Default)]
pub struct Report {
    /// The highest height printed.
    printed: Height,
    /// The number of the last proof of work printed.
    proof: u64,
    blocks: u64,
    transactions: u64,
    compared: BTreeMap<Height, (Hash, Hash)>,
}

impl Report {
    /// A report of blocks above `height`.
    pub fn after(height: Height) -> Report {
        Report {
            printed: height,
            ..Report::default()
        }
    }

    /// Adds a validator's report. True for the first one above all earlier heights, which is to be
    /// printed.
    ///
    /// # Errors
    /// A [`Disagreement`] with an earlier report.
    pub fn on_final(&mut self, block: &FinalBlock) -> Result<bool, Disagreement> {
        let own = (block.hash, block.state_root);
        let first = *self.compared.entry(block.height).or_insert(own);
        if first != own {
            return Err(Disagreement {
                height: block.height,
                first,
                second: own,
            });
        }
        while self.compared.len() > COMPARED_HEIGHTS {
            self.compared.pop_first();
        }
        if block.height <= self.printed {
            return Ok(false);
        }
        self.printed = block.height;
        self.blocks += 1;
        self.transactions += block.transactions as u64;
        Ok(true)
    }

    /// True for the first report of a range that is final by proof of work, which is to be printed.
    pub fn on_pow_final(&mut self, range: &PowFinal) -> bool {
        let is_new = range.sequence > self.proof;
        self.proof = self.proof.max(range.sequence);
        is_new
    }

    /// The highest height printed.
    pub fn height(&self) -> Height {
        self.printed
    }

    /// Writes the last line.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn write_stopped(
        &self,
        out: &mut impl Write,
        style: Style,
        seconds: u64,
    ) -> io::Result<()> {
        let Report {
            printed,
            blocks,
            transactions,
            ..
        } = self;
        match style {
            Style::Text => writeln!(
                out,
                "Stopped at final block {printed}: {blocks} blocks and {transactions} \
                 transactions in {seconds} s."
            ),
            Style::Json => line(
                out,
                "stopped",
                &[
                    ("height", json!(printed)),
                    ("blocks", json!(blocks)),
                    ("transactions", json!(transactions)),
                    ("seconds", json!(seconds)),
                ],
            ),
        }
    }
}

impl Ready {
    /// Writes the facts that a person or a script needs to use the network.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        match style {
            Style::Text => out
                .write_all(self.text().as_bytes())
                .and_then(|()| out.flush()),
            Style::Json => line(
                out,
                "ready",
                &[
                    ("version", json!(env!("CARGO_PKG_VERSION"))),
                    ("chain_id", json!(self.chain_id)),
                    ("rpc_url", json!(self.rpc_urls.first())),
                    ("rpc_urls", json!(self.rpc_urls)),
                    ("metrics_url", json!(self.metrics_url)),
                    ("mining_url", json!(self.mining_url)),
                    ("validators", json!(self.validators)),
                    ("slot_ms", json!(self.slot_ms)),
                    ("fork", json!(self.fork)),
                    ("genesis_hash", json!(self.genesis_hash)),
                    ("datadir", json!(self.datadir)),
                    ("height", json!(self.height)),
                    ("mnemonic", json!(MNEMONIC)),
                    (
                        "accounts",
                        json!(ACCOUNTS.map(
                            |a| json!({ "address": a.address, "private_key": a.private_key })
                        )),
                    ),
                ],
            ),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let Ready {
            validators,
            slot_ms,
            fork,
            chain_id,
            ..
        } = self;
        let seconds = *slot_ms as f64 / 1000.0;
        let _ = writeln!(
            text,
            "Alys {}: a development network of {validators} validator{}, a slot every {seconds} \
             s, rules of {fork}",
            env!("CARGO_PKG_VERSION"),
            if *validators == 1 { "" } else { "s" },
        );
        let _ = writeln!(
            text,
            "\nAccounts with {ETHER} coins each. Their keys are PUBLIC: never use them elsewhere."
        );
        for (index, account) in ACCOUNTS.iter().enumerate() {
            let _ = writeln!(
                text,
                "  {index}  {}  {}",
                account.address, account.private_key
            );
        }
        let _ = writeln!(text, "  Mnemonic: {MNEMONIC}\n");
        let _ = writeln!(text, "Chain id:  {chain_id}");
        if let Some((first, others)) = self.rpc_urls.split_first() {
            let _ = writeln!(text, "RPC:       {first}");
            if !others.is_empty() {
                let _ = writeln!(
                    text,
                    "           of the other validators: {}",
                    others.join(" ")
                );
            }
        }
        let _ = writeln!(text, "Metrics:   {}", self.metrics_url);
        let _ = writeln!(text, "Mining:    {}", self.mining_url);
        let state = match self.height {
            Height(0) => "a new chain".to_owned(),
            height => format!("continues after final block {height}"),
        };
        let _ = writeln!(
            text,
            "Data:      {} ({state})\n\nCtrl-C stops; the next start continues the chain.\n",
            self.datadir
        );
        text
    }
}

/// Writes the line of a final block. The text has the hash that the JSON-RPC knows, in full, so
/// that it can be looked up; the hash of the consensus block is in the JSON and in the log.
///
/// # Errors
/// The reader is gone.
pub fn write_block(out: &mut impl Write, style: Style, block: &FinalBlock) -> io::Result<()> {
    let FinalBlock {
        height,
        slot,
        hash,
        proposer,
        execution_hash,
        transactions,
        gas_used,
        after_ms,
        ..
    } = block;
    match style {
        Style::Text => writeln!(
            out,
            "block {height:>6}  slot {slot}  validator {proposer:>2}  {transactions:>4} txs  \
             {gas_used:>8} gas  final after {after_ms:>4} ms  {execution_hash}"
        )
        .and_then(|()| out.flush()),
        Style::Json => line(
            out,
            "block",
            &[
                ("height", json!(height)),
                ("slot", json!(slot)),
                ("proposer", json!(proposer)),
                ("transactions", json!(transactions)),
                ("gas_used", json!(gas_used)),
                ("finality_ms", json!(after_ms)),
                ("hash", json!(hash)),
                ("execution_hash", json!(execution_hash)),
                ("state_root", json!(block.state_root)),
            ],
        ),
    }
}

/// Writes the line of a range that is final by proof of work.
///
/// # Errors
/// The reader is gone.
pub fn write_pow_final(out: &mut impl Write, style: Style, range: &PowFinal) -> io::Result<()> {
    let PowFinal {
        sequence,
        first,
        end,
        end_hash,
        miner,
        carrier,
    } = range;
    match style {
        Style::Text => writeln!(
            out,
            "range {first}..{end} is final by proof of work {sequence} of {miner}"
        )
        .and_then(|()| out.flush()),
        Style::Json => line(
            out,
            "pow",
            &[
                ("sequence", json!(sequence)),
                ("first", json!(first)),
                ("end", json!(end)),
                ("end_hash", json!(end_hash)),
                ("miner", json!(miner)),
                ("carrier", json!(carrier.hash)),
            ],
        ),
    }
}

/// Writes an object in one line. The order of fields is kept, because people read these lines too.
fn line(out: &mut impl Write, event: &str, fields: &[(&str, serde_json::Value)]) -> io::Result<()> {
    write!(out, "{{\"event\":\"{event}\"")?;
    for (name, value) in fields {
        write!(out, ",\"{name}\":{value}")?;
    }
    writeln!(out, "}}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_types::Slot;

    fn block(height: u64, mark: u8) -> FinalBlock {
        FinalBlock {
            height: Height(height),
            slot: Slot(900 + height),
            hash: Hash([mark; 32]),
            proposer: 2,
            execution_hash: Hash([7; 32]),
            state_root: Hash([8; 32]),
            transactions: 3,
            gas_used: 63_000,
            after_ms: 321,
        }
    }

    fn range(sequence: u64) -> PowFinal {
        PowFinal {
            sequence,
            first: Height(12),
            end: Height(31),
            end_hash: Hash([5; 32]),
            miner: alys_types::Address([6; 20]),
            carrier: alys_consensus::BlockRef {
                slot: Slot(940),
                hash: Hash([4; 32]),
            },
        }
    }

    #[test]
    fn each_proof_of_work_is_printed_once() {
        let mut report = Report::default();
        let printed = [1, 1, 3, 2, 3, 4].map(|sequence| report.on_pow_final(&range(sequence)));
        assert_eq!(printed, [true, false, true, false, false, true]);
        let mut out = Vec::new();
        write_pow_final(&mut out, Style::Text, &range(3)).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.starts_with("range 12..31 is final by proof of work 3 of 0x0606"),
            "{text}"
        );
    }

    #[test]
    fn each_height_is_printed_once_in_order() {
        let mut report = Report::default();
        for (height, is_printed) in [
            (1, true),
            (1, false),
            (2, true),
            (1, false),
            (4, true),
            (3, false),
            (4, false),
        ] {
            assert_eq!(
                report.on_final(&block(height, height as u8)),
                Ok(is_printed),
                "{height}"
            );
        }
        let mut out = Vec::new();
        report
            .write_stopped(&mut out, Style::Text, 9)
            .expect("a vector takes everything");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "Stopped at final block 4: 3 blocks and 9 transactions in 9 s.\n"
        );
    }

    #[test]
    fn two_final_blocks_at_one_height_are_an_error() {
        let mut report = Report::default();
        report.on_final(&block(5, 1)).expect("the first");
        assert!(report.on_final(&block(5, 2)).is_err());
        let other_state = FinalBlock {
            state_root: Hash([9; 32]),
            ..block(5, 1)
        };
        assert!(report.on_final(&other_state).is_err());
    }

    #[test]
    fn the_compared_heights_are_bounded() {
        let mut report = Report::default();
        for height in 1..2000 {
            report.on_final(&block(height, 1)).expect("no disagreement");
        }
        assert_eq!(report.compared.len(), COMPARED_HEIGHTS);
    }

    #[test]
    fn a_line_has_the_hash_that_the_rpc_knows() {
        let mut out = Vec::new();
        write_block(&mut out, Style::Text, &block(1, 1)).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text");
        let hash = format!("0x{}", "07".repeat(32));
        assert!(text.ends_with(&format!("  {hash}\n")), "{text}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let ready = Ready {
            validators: 2,
            slot_ms: 2000,
            fork: "cancun".into(),
            chain_id: 7,
            genesis_hash: Hash([1; 32]),
            datadir: "d".into(),
            rpc_urls: vec!["http://127.0.0.1:1".into(), "http://127.0.0.1:2".into()],
            metrics_url: "http://127.0.0.1:3/metrics".into(),
            mining_url: "http://127.0.0.1:4".into(),
            height: Height(0),
        };
        let mut out = Vec::new();
        ready
            .write(&mut out, Style::Json)
            .expect("a vector takes everything");
        write_block(&mut out, Style::Json, &block(1, 1)).expect("a vector takes everything");
        write_pow_final(&mut out, Style::Json, &range(3)).expect("a vector takes everything");
        Report::default()
            .write_stopped(&mut out, Style::Json, 1)
            .expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let events: Vec<_> = lines
            .iter()
            .map(|line| line["event"].as_str().expect("an event"))
            .collect();
        assert_eq!(events, ["ready", "block", "pow", "stopped"]);
        assert_eq!(lines[0]["rpc_url"], "http://127.0.0.1:1");
        assert_eq!(lines[0]["metrics_url"], "http://127.0.0.1:3/metrics");
        assert_eq!(lines[0]["mining_url"], "http://127.0.0.1:4");
        assert_eq!(lines[2]["first"], 12);
        assert_eq!(lines[2]["end"], 31);
        assert_eq!(lines[0]["accounts"].as_array().map(Vec::len), Some(10));
        assert_eq!(lines[1]["height"], 1);
        assert_eq!(lines[1]["finality_ms"], 321);
    }
}
