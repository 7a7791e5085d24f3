//! The repository keeps the rules of the house.

use xtask::{root, tidy};

#[test]
fn the_repository_is_tidy() {
    let findings = tidy::check(&root()).expect("git and cargo answer");
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

#[test]
fn the_rules_see_the_whole_repository() {
    let files = tidy::tracked(&root()).expect("git answers");
    for file in [
        "Cargo.toml",
        "crates/consensus/src/lib.rs",
        "xtask/tests/tidy.rs",
    ] {
        assert!(
            files.iter().any(|path| path == file),
            "{file} is not among {} files",
            files.len()
        );
    }
}
