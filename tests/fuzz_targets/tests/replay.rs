//! Every committed input again, without a fuzzer: those that once failed, and those that reach the
//! code of a target.
#![cfg(madsim)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use alys_fuzz_targets::TARGETS;

/// Committed inputs of one target: as many as a test replays in seconds.
const MAX_INPUTS: usize = 400;
/// Bytes of one committed input, and of all of one target: the repository keeps them for ever.
const MAX_INPUT_BYTES: usize = 8 * 1024;
const MAX_CORPUS_BYTES: usize = 256 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The names in a directory, without the extension `rs`.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries
        .map(|entry| {
            let name = entry.expect("a readable directory").file_name();
            let name = name.to_string_lossy().into_owned();
            name.strip_suffix(".rs").map_or(name.clone(), str::to_owned)
        })
        .collect()
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets have one name");
    assert_eq!(names(&fuzz().join("fuzz_targets")), targets);
    assert_eq!(names(&fuzz().join("corpus")), targets);
}

/// Messages of `crates/types/tests/golden` in the corpus of the target `messages`, and the bytes that
/// the target reads before them. Golden files change with the format, and the inputs with them:
/// `ALYS_BLESS=1` rewrites them.
#[test]
fn inputs_with_messages_have_the_format_of_today() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tag = [&[12][..], &[0x2a; alys_net::handshake::TAG_BYTES]].concat();
    let table: [(&str, &str, &[u8]); 9] = [
        ("proposal", "proposal", &[0]),
        ("vote", "vote", &[1]),
        ("confirmation", "confirmation", &[2]),
        ("certified-header", "certified-header", &[3]),
        ("status", "status", &[4]),
        ("status-answer", "status-answer", &[5]),
        ("range-request", "range-request", &[6]),
        ("block-range", "block-range", &[8]),
        ("tagged-status", "status", &tag),
    ];
    for (input, golden, head) in table {
        let golden = root.join(format!("crates/types/tests/golden/{golden}.txt"));
        let text = std::fs::read_to_string(&golden)
            .unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
        let message = hex::decode(text.trim()).expect("a golden file of a message is hex");
        let whole = [head, &message].concat();
        let half = whole[..whole.len().div_ceil(2)].to_vec();
        for (name, expected) in [(input.to_owned(), whole), (format!("{input}-cut"), half)] {
            let path = fuzz().join("corpus/messages").join(&name);
            // The corpus has the half of a status without the tag only.
            if name == "tagged-status-cut" {
                continue;
            }
            if std::env::var_os("ALYS_BLESS").is_some() {
                std::fs::write(&path, &expected).expect("writes");
            }
            let found = std::fs::read(&path).expect("reads");
            assert!(
                found == expected,
                "{name} has another format than its golden file"
            );
        }
    }
}

#[test]
fn committed_inputs_pass() {
    for target in TARGETS {
        let directory = fuzz().join("corpus").join(target.name);
        let inputs = names(&directory);
        assert!((1..=MAX_INPUTS).contains(&inputs.len()), "{}", target.name);
        let mut total = 0;
        for name in &inputs {
            let path = directory.join(name);
            let input =
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(input.len() <= MAX_INPUT_BYTES, "{} is long", path.display());
            total += input.len();
            println!("{}/{name}", target.name);
            (target.run)(&input);
        }
        assert!(total <= MAX_CORPUS_BYTES, "{}: {total} bytes", target.name);
        // The shortest input, which no corpus may lack.
        (target.run)(&[]);
    }
}
