//! Rules for every `Cargo.toml`: lints, versions and licence come from the workspace.

use super::{Finding, Rule};

/// Keys of `[package]` that the workspace sets.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// The findings in one manifest.
pub fn check(path: &str, content: &str) -> Vec<Finding> {
    // The root lists versions; a shim has the version and dependencies of the crate that it
    // replaces; fuzzing, ethrex and the comparison with other frameworks are separate workspaces.
    let separate = [
        "crates/shims/",
        "fuzz/",
        "interop/",
        "crates/actor_system/comparison/",
    ];
    if path == "Cargo.toml" || separate.iter().any(|directory| path.starts_with(directory)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut find = |line: usize, what: &str, message: String| {
        findings.push(Finding {
            path: path.to_owned(),
            line,
            rule: Rule::Manifest,
            what: what.to_owned(),
            message,
        });
    };
    let mut section = String::new();
    let mut lints = false;
    let mut inherited = Vec::new();
    for (line, text) in (1..).zip(content.lines()) {
        let text = text.trim();
        if text.starts_with('[') {
            section = text.trim_matches(['[', ']']).to_owned();
            continue;
        }
        let Some((key, value)) = text.split_once('=').filter(|_| !text.starts_with('#')) else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        let from_workspace =
            (key.ends_with(".workspace") && value == "true") || value.contains("workspace = true");
        let name = key.trim_end_matches(".workspace");
        match section.as_str() {
            "lints" => lints |= from_workspace || (key == "workspace" && value == "true"),
            "package" if INHERITED.contains(&name) && from_workspace => inherited.push(name),
            section if section.ends_with("dependencies") && !from_workspace => {
                let message = format!(
                    "`{name}` has a version of its own: put it into [workspace.dependencies] and \
                     write `{name}.workspace = true`"
                );
                find(line, name, message);
            }
            _ => {}
        }
    }
    if !lints {
        find(
            1,
            "lints",
            "the workspace's lints do not hold here: add `[lints]` with `workspace = true`"
                .to_owned(),
        );
    }
    for key in INHERITED.iter().filter(|key| !inherited.contains(key)) {
        find(
            1,
            key,
            format!("`{key}` is not the workspace's: write `{key}.workspace = true`"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"x\"\nversion.workspace = true\n\
        edition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n\
        [lints]\nworkspace = true\n\n\
        [dependencies]\na.workspace = true\nb = { workspace = true, features = [\"c\"] }\n\
        # d = \"1\"\n";

    fn found(content: &str) -> Vec<(usize, String)> {
        check("net/Cargo.toml", content)
            .into_iter()
            .map(|finding| (finding.line, finding.what))
            .collect()
    }

    #[test]
    fn shared_keys_come_from_the_workspace() {
        assert!(found(GOOD).is_empty());
        let own = format!(
            "{GOOD}\n[target.'cfg(unix)'.dev-dependencies]\ne = \"1\"\nf = {{ version = \"1\" }}\n"
        );
        assert_eq!(found(&own), [(18, "e".to_owned()), (19, "f".to_owned())]);
        assert_eq!(
            found(&GOOD.replace("[lints]\nworkspace = true", "")),
            [(1, "lints".to_owned())]
        );
        assert_eq!(
            found(&GOOD.replace("license.workspace = true", "license = \"MIT\"")),
            [(1, "license".to_owned())]
        );
    }
}
