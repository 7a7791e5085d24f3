//! Dependencies between our crates, by the table of `ARCHITECTURE.md`, and on crates that some may
//! not use.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Finding, Rule};

const TYPES: &str = "alys-types";
const CONSENSUS: &str = "alys-consensus";
const PEG: &str = "alys-peg";
const PLANNER: &str = "alys-sync-planner";
const RUNTIME: &str = "alys-runtime";
const ACTORS: &str = "alys-actor-system";
const EXTRAS: &str = "alys-actor-extras";
const PATTERNS: &str = "alys-actor-patterns";
const STORAGE: &str = "alys-storage";
const NET: &str = "alys-net";
const INTEGRATIONS: &str = "alys-integrations";
const NODE: &str = "alys-node";
const SIM: &str = "alys-sim";
const MODEL: &str = "alys-model";
const TESTS: &str = "alys-tests";

const PURE: &[&str] = &[TYPES, CONSENSUS, PEG, PLANNER];

/// The crates below the node.
const BELOW_NODE: &[&[&str]] = &[PURE, &[RUNTIME, ACTORS, EXTRAS, STORAGE, NET, INTEGRATIONS]];

/// A crate of ours, and groups of ours that it and its tests may depend on.
type Arrow = (&'static str, &'static [&'static [&'static str]]);

const ARROWS: &[Arrow] = &[
    (TYPES, &[]),
    // No edges between pure crates but to types: a thing that two of them need is a type.
    (CONSENSUS, &[&[TYPES]]),
    (PEG, &[&[TYPES]]),
    (PLANNER, &[&[TYPES]]),
    (RUNTIME, &[&["getrandom", "futures-timer"]]),
    (ACTORS, &[&[RUNTIME]]),
    (EXTRAS, &[&[RUNTIME, ACTORS]]),
    (PATTERNS, &[&[RUNTIME, ACTORS, EXTRAS]]),
    (STORAGE, &[&[TYPES, RUNTIME]]),
    (NET, &[&[TYPES, RUNTIME]]),
    // The embedded execution client stores its chain with the node's engines: one set of crash
    // tests for both.
    (INTEGRATIONS, &[&[TYPES, RUNTIME, STORAGE]]),
    (NODE, BELOW_NODE),
    // The model shares no code with the crate that it checks.
    (MODEL, &[]),
    (SIM, &[BELOW_NODE[0], BELOW_NODE[1], &[NODE, MODEL]]),
    (TESTS, &[BELOW_NODE[0], BELOW_NODE[1], &[NODE, SIM]]),
    ("xtask", &[]),
    ("futures-timer", &[]),
    ("getrandom", &[]),
];

/// Third-party crates that pure crates may not use, but in tests.
const IMPURE: &[&str] = &[
    "tokio",
    "madsim",
    "madsim-tokio",
    "tokio-util",
    "futures",
    "rand",
    "rand_core",
    "rand_chacha",
    "getrandom",
    "rayon",
    "libc",
    "hyper",
    "tracing",
];

/// The packages of the executor.
const EXECUTOR: &[&str] = &["tokio", "madsim-tokio", "madsim"];

/// Crates that only the runtime uses, with its replacements. The manifest shows them: in code
/// `rand` may be the runtime's.
const WRAPPED: &[(&str, &str)] = &[
    ("rand", "alys_runtime::rand"),
    ("getrandom", "alys_runtime::rand"),
    ("rayon", "alys_runtime::par_map"),
];

/// A package of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its manifest, relative to the root of the repository.
    pub manifest: String,
    /// Its dependencies of all kinds.
    pub dependencies: Vec<Dependency>,
}

/// One dependency.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// For tests and benches only.
    pub dev: bool,
    /// The required version; `*` for none.
    pub version: String,
    /// A path in this repository.
    pub local: bool,
    /// From a git repository.
    pub git: bool,
}

/// Reads `cargo metadata`.
///
/// # Errors
/// When a documented field is missing.
pub fn packages(metadata: &Value, root: &Path) -> Result<Vec<Package>> {
    let list = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    list.iter().map(|package| read(package, root)).collect()
}

fn read(package: &Value, root: &Path) -> Result<Package> {
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .context("cargo metadata: a string is missing")
    };
    let manifest = text(&package["manifest_path"])?;
    let relative = Path::new(&manifest)
        .strip_prefix(root)
        .map(|path| path.to_string_lossy().into_owned());
    let list = package["dependencies"]
        .as_array()
        .context("cargo metadata: no dependencies")?;
    let dependencies = list.iter().map(|dependency| {
        Ok(Dependency {
            name: text(&dependency["name"])?,
            dev: dependency["kind"].as_str() == Some("dev"),
            version: text(&dependency["req"])?,
            local: dependency["path"].is_string(),
            git: dependency["source"]
                .as_str()
                .is_some_and(|source| source.starts_with("git+")),
        })
    });
    Ok(Package {
        name: text(&package["name"])?,
        manifest: relative.unwrap_or(manifest),
        dependencies: dependencies.collect::<Result<_>>()?,
    })
}

/// The forbidden dependencies. `manifests` are paths and contents, to find lines.
pub fn check(packages: &[Package], manifests: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let line = |what: &str| {
            let text = manifests
                .iter()
                .find(|(path, _)| *path == package.manifest)
                .map(|(_, text)| text.as_str());
            line_of(text.unwrap_or_default(), what)
        };
        let mut find = |what: &str, message: String| {
            let (path, what) = (package.manifest.clone(), what.to_owned());
            findings.push(Finding {
                path,
                line: line(&what),
                rule: Rule::Arrows,
                what,
                message,
            });
        };
        let Some((owner, groups)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            let message = format!(
                "`{}` is not in the table of arrows: give it its place in xtask/src/tidy/arrows.rs \
                 and ARCHITECTURE.md",
                package.name
            );
            find(&package.name, message);
            continue;
        };
        let allowed = groups.concat();
        let pure = PURE.contains(owner);
        let seam = *owner == RUNTIME || package.manifest.starts_with("crates/shims/");
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let ours = ARROWS.iter().any(|(ours, _)| *ours == name) || dependency.local;
            // Tests may use their own crate with other features.
            if ours && !allowed.contains(&name) && name != package.name {
                let may = if allowed.is_empty() {
                    "nothing of ours".to_owned()
                } else {
                    allowed.join(", ")
                };
                let message = format!(
                    "`{}` depends on `{name}`, against the arrows: it may depend on {may}; move \
                     shared code below both",
                    package.name
                );
                find(name, message);
            }
            if pure && !dependency.dev && IMPURE.contains(&name) {
                let message = format!(
                    "pure crate `{}` depends on `{name}`: take time, randomness and answers as \
                     arguments",
                    package.name
                );
                find(name, message);
            }
            if !seam && EXECUTOR.contains(&name) {
                let message = format!("only crates/runtime depends on `{name}`: use alys-runtime");
                find(name, message);
            }
            if !seam
                && !pure
                && !dependency.dev
                && let Some((_, instead)) = WRAPPED.iter().find(|(wrapped, _)| *wrapped == name)
            {
                find(
                    name,
                    format!("only crates/runtime depends on `{name}`: use {instead}"),
                );
            }
            if !ours && (dependency.version == "*" || dependency.git) {
                let message = format!(
                    "`{name}` has no released version: name one in [workspace.dependencies]"
                );
                find(name, message);
            }
        }
    }
    findings
}

/// The first line of a manifest with a package as its key, or 1.
fn line_of(manifest: &str, name: &str) -> usize {
    let starts = |text: &str| {
        let rest = text.trim_start().strip_prefix(name);
        rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
    };
    manifest
        .lines()
        .position(starts)
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, on: &[(&str, bool)]) -> Package {
        let dependencies = on.iter().map(|(name, dev)| Dependency {
            name: (*name).to_owned(),
            dev: *dev,
            version: "^1".to_owned(),
            local: name.starts_with("alys-"),
            git: false,
        });
        Package {
            name: name.to_owned(),
            manifest: format!("{name}/Cargo.toml"),
            dependencies: dependencies.collect(),
        }
    }

    #[test]
    fn arrows_point_one_way() {
        let wrong = [
            (CONSENSUS, (PLANNER, false)),
            (CONSENSUS, (RUNTIME, true)),
            (TYPES, (CONSENSUS, true)),
            (ACTORS, (TYPES, false)),
            (STORAGE, (NET, false)),
            (NET, (STORAGE, true)),
            (NODE, (SIM, true)),
            (SIM, (TESTS, false)),
            (RUNTIME, (TYPES, false)),
            ("xtask", (TYPES, false)),
            (CONSENSUS, ("tracing", false)),
            (PLANNER, ("rand", false)),
            (NET, ("madsim-tokio", false)),
            (NODE, ("tokio", true)),
            (NET, ("rand", false)),
            (INTEGRATIONS, ("rayon", false)),
            ("alys-unknown", (TYPES, false)),
        ];
        for (from, on) in wrong {
            let findings = check(&[package(from, &[on])], &[]);
            assert_eq!(findings.len(), 1, "{from} -> {on:?}: {findings:?}");
        }
        let right = [
            (CONSENSUS, (TYPES, false)),
            (CONSENSUS, ("rand", true)),
            (CONSENSUS, (CONSENSUS, true)),
            (INTEGRATIONS, (STORAGE, false)),
            (NODE, (NET, false)),
            (SIM, (NODE, false)),
            (TESTS, (SIM, true)),
            (RUNTIME, ("madsim", false)),
            (NET, ("libp2p", false)),
            (NET, ("rand", true)),
        ];
        for (from, on) in right {
            let findings = check(&[package(from, &[on])], &[]);
            assert!(findings.is_empty(), "{from} -> {on:?}: {findings:?}");
        }
    }

    #[test]
    fn findings_name_the_line_of_the_manifest() {
        let manifest = "[package]\nname = \"alys-net\"\n\n[dependencies]\n\
            alys-types.workspace = true\nalys-storage = {}\n";
        let manifests = [("alys-net/Cargo.toml".to_owned(), manifest.to_owned())];
        let findings = check(
            &[package(NET, &[(TYPES, false), (STORAGE, false)])],
            &manifests,
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(
            (findings[0].line, findings[0].path.as_str()),
            (6, "alys-net/Cargo.toml")
        );
    }

    #[test]
    fn versions_are_released_ones() {
        let mut package = package(NET, &[("libp2p", false), ("bytes", false)]);
        package.dependencies[0].git = true;
        package.dependencies[1].version = "*".to_owned();
        assert_eq!(check(&[package], &[]).len(), 2);
    }
}
