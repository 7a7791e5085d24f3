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
