//! `alys mine explain` as pools call it: by argument, file and pipe, with its exit codes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use alys_tests::process::Stream;
use alys_tests::{Process, World, alys, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// Exit code and standard output of a line of the shell.
fn run(world: &World, line: &str) -> Result<(Option<i32>, String)> {
    let command = alys::shell(world, line)?;
    let mut process = Process::start(world, "alys mine", &command)?;
    let status = process.wait_end(world, COMMAND_TIMEOUT)?;
    Ok((status.code(), process.text(Stream::Out)))
}

/// Merge-mined blocks of other chains: commitment and proof of the one named.
fn block(name: &str) -> Result<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/pow/tests/vectors/blocks.txt");
    let text = fs::read_to_string(path)?;
    let line = text.lines().find(|line| line.starts_with(name));
    let words: Vec<&str> = line.context("no such block")?.split(' ').collect();
    Ok((words[3].to_owned(), words[4].to_owned()))
}

#[test]
fn a_proof_is_explained_from_argument_file_and_pipe() {
    scenario(
        "a_proof_is_explained_from_argument_file_and_pipe",
        LIMIT,
        |world| {
            let (commitment, proof) = block("dogecoin")?;
            fs::write(world.dir().join("proof.hex"), format!("{proof}\n"))?;
            let options = format!("--chain-id 98 --commitment {commitment}");
            for line in [
                format!("alys mine explain {proof} {options}"),
                format!("alys mine explain @proof.hex {options}"),
                format!("alys mine explain - {options} < proof.hex"),
            ] {
                let (code, text) = run(world, &line)?;
                ensure!(code == Some(0), "{line}: {code:?}, {text}");
                ensure!(text.contains("passed       chain root"), "{text}");
                ensure!(text.contains("not reached  work"), "{text}");
            }
            let line = "alys mine explain @proof.hex --chain-id 98 --bits 1d00ffff --json";
            let (code, text) = run(world, line)?;
            let json: Value = serde_json::from_str(&text)?;
            ensure!(code == Some(1), "{code:?}, {text}");
            ensure!(json["rules"][5]["rule"] == "work", "{text}");
            ensure!(json["rules"][5]["status"] == "failed", "{text}");
            for line in [
                "alys mine explain xyz",
                "alys mine explain @nowhere.hex",
                "alys mine explain 00 --bits 00000000",
            ] {
                let (code, text) = run(world, line)?;
                ensure!(
                    code == Some(2) && text.is_empty(),
                    "{line}: {code:?}, {text}"
                );
            }
            Ok(())
        },
    );
}
