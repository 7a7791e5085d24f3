//! Dependencies between our crates, by the table of `ARCHITECTURE.md`, and on crates that some may
//! not use.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::source::PURE;
use super::{Finding, Rule};

/// The page with the table of our crates and their dependencies.
pub const PAGE: &str = "ARCHITECTURE.md";

/// The header of the table.
const HEADER: &str = "| path | content | may depend on |";

/// The table of our crates.
#[derive(Debug, Clone)]
pub struct Table(Vec<Row>);

/// A row: directories, and those that their packages and tests may depend on.
#[derive(Debug, Clone)]
struct Row {
    paths: Vec<String>,
    allowed: Vec<String>,
}

impl Table {
    /// Reads the table. The last cell of a row names other rows by the last part of their path;
    /// text after a semicolon explains.
    ///
    /// # Errors
    /// When there is no table, or a cell names no row.
    pub fn read(page: &str) -> Result<Table> {
        let table = page.lines().skip_while(|line| *line != HEADER).skip(2);
        let lines: Vec<_> = table.take_while(|line| line.starts_with('|')).collect();
        ensure!(!lines.is_empty(), "{PAGE} has no table {HEADER:?}");
        let mut rows = Vec::new();
        for line in lines {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [paths, _, on] = cells[..] else {
                anyhow::bail!("{PAGE}: not three cells: {line}");
            };
            let paths = paths.split('`').skip(1).step_by(2).map(str::to_owned);
            rows.push((paths.collect::<Vec<_>>(), on));
        }
        let named = |name: &str| {
            let all = rows.iter().flat_map(|(paths, _)| paths);
            let mut found = all.filter(|path| *path == name || path.ends_with(&format!("/{name}")));
            let found = found.next().cloned();
            found.with_context(|| format!("{PAGE}: no row has the path {name:?}"))
        };
        let table = rows.iter().map(|(paths, on)| {
            let on = on.split(';').next().unwrap_or_default().trim();
            let allowed = if on == "nothing of ours" {
                Vec::new()
            } else {
                on.split(", ").map(named).collect::<Result<_>>()?
            };
            let paths = paths.clone();
            Ok(Row { paths, allowed })
        });
        table.collect::<Result<Vec<_>>>().map(Table)
    }

    /// The path of the row of a package, and the row. A directory within another has its own row.
    fn row(&self, package: &Package) -> Option<(&str, &Row)> {
        let directory = package.directory();
        let is_inside = |path: &str| {
            let rest = directory.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let rows = self.0.iter().flat_map(|row| {
            let paths = row.paths.iter();
            paths.map(move |path| (path.as_str(), row))
        });
        rows.filter(|(path, _)| is_inside(path))
            .max_by_key(|(path, _)| path.len())
    }
}

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

impl Package {
    /// The directory of the manifest.
    fn directory(&self) -> &str {
        let directory = self.manifest.strip_suffix("Cargo.toml");
        directory.unwrap_or_default().trim_end_matches('/')
    }
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
pub fn check(table: &Table, packages: &[Package], manifests: &[(String, String)]) -> Vec<Finding> {
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
        let Some((_, Row { allowed, .. })) = table.row(package) else {
            let message = format!(
                "`{}` is not in the table of {PAGE}: give it its place there",
                package.name
            );
            find(&package.name, message);
            continue;
        };
        let pure = PURE.iter().any(|path| package.manifest.starts_with(path));
        let seam = package.manifest.starts_with("crates/runtime/")
            || package.manifest.starts_with("crates/shims/");
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let other = packages.iter().find(|other| other.name == name);
            let ours = other.is_some() || dependency.local;
            let path = other
                .and_then(|other| table.row(other))
                .map(|(path, _)| path);
            let is_allowed = path.is_some_and(|path| allowed.iter().any(|allowed| allowed == path));
            // Tests may use their own crate with other features.
            if ours && !is_allowed && name != package.name {
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

    const PAGE: &str = "\
text
| path | content | may depend on |
|---|---|---|
| `crates/types` | nouns | nothing of ours |
| `crates/consensus` | rules | types |
| `crates/sync_planner` | sync | types |
| `crates/runtime` | seam | shims |
| `net` | peers | types, runtime |
| `node`, `more` | actors | types, runtime, net |
| `sim` | runs | types, node, sim/model |
| `sim/model` | rules | nothing of ours; it shares no code |
| `crates/shims` | replacements | nothing of ours |

| path | other |
|---|---|
| `other` | table |
";

    fn table() -> Table {
        Table::read(PAGE).expect("a table")
    }

    fn package(directory: &str, on: &[(&str, bool)]) -> Package {
        let dependencies = on.iter().map(|(name, dev)| Dependency {
            name: (*name).to_owned(),
            dev: *dev,
            version: "^1".to_owned(),
            local: false,
            git: false,
        });
        Package {
            name: directory.rsplit('/').next().unwrap_or_default().to_owned(),
            manifest: format!("{directory}/Cargo.toml"),
            dependencies: dependencies.collect(),
        }
    }

    /// The findings about the dependency of a package, in a workspace with all others.
    fn against(from: &str, on: (&str, bool)) -> Vec<Finding> {
        let all = [
            "crates/types",
            "crates/consensus",
            "crates/sync_planner",
            "crates/runtime",
            "net",
            "node",
            "sim",
            "sim/model",
            "crates/shims/getrandom",
        ];
        let others = all.into_iter().filter(|other| *other != from);
        let mut packages: Vec<_> = others.map(|other| package(other, &[])).collect();
        packages.push(package(from, &[on]));
        check(&table(), &packages, &[])
    }

    #[test]
    fn arrows_point_one_way() {
        let wrong = [
            ("crates/consensus", ("sync_planner", false)),
            ("crates/consensus", ("runtime", true)),
            ("crates/types", ("consensus", true)),
            ("net", ("node", false)),
            ("node", ("sim", true)),
            ("node", ("model", false)),
            ("sim/model", ("types", false)),
            ("crates/runtime", ("types", false)),
            ("crates/shims/getrandom", ("runtime", false)),
            ("crates/consensus", ("tracing", false)),
            ("crates/sync_planner", ("rand", false)),
            ("net", ("madsim-tokio", false)),
            ("node", ("tokio", true)),
            ("net", ("rand", false)),
            ("net", ("rayon", false)),
            ("unknown", ("serde", false)),
        ];
        for (from, on) in wrong {
            let findings = against(from, on);
            assert_eq!(findings.len(), 1, "{from} -> {on:?}: {findings:?}");
        }
        let right = [
            ("crates/consensus", ("types", false)),
            ("crates/consensus", ("rand", true)),
            ("crates/consensus", ("consensus", true)),
            ("crates/runtime", ("getrandom", false)),
            ("crates/runtime", ("madsim", false)),
            ("node", ("net", false)),
            ("sim", ("node", false)),
            ("sim", ("model", false)),
            ("net", ("libp2p", false)),
            ("net", ("rand", true)),
        ];
        for (from, on) in right {
            let findings = against(from, on);
            assert!(findings.is_empty(), "{from} -> {on:?}: {findings:?}");
        }
    }

    #[test]
    fn a_local_package_outside_the_workspace_is_no_dependency() {
        let mut package = package("net", &[("fuzz", true)]);
        package.dependencies[0].local = true;
        assert_eq!(check(&table(), &[package], &[]).len(), 1);
    }

    #[test]
    fn a_table_that_names_no_row_is_refused() {
        for wrong in [
            String::new(),
            PAGE.replace("types, runtime", "types, runtme"),
            PAGE.replace("| seam ", ""),
        ] {
            assert!(Table::read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn findings_name_the_line_of_the_manifest() {
        let manifest = "[package]\nname = \"net\"\n\n[dependencies]\n\
            types.workspace = true\nnode = {}\n";
        let manifests = [("net/Cargo.toml".to_owned(), manifest.to_owned())];
        let packages = [
            package("net", &[("types", false), ("node", false)]),
            package("crates/types", &[]),
            package("node", &[]),
        ];
        let findings = check(&table(), &packages, &manifests);
        assert_eq!(findings.len(), 1);
        assert_eq!(
            (findings[0].line, findings[0].path.as_str()),
            (6, "net/Cargo.toml")
        );
    }

    #[test]
    fn versions_are_released_ones() {
        let mut package = package("net", &[("libp2p", false), ("bytes", false)]);
        package.dependencies[0].git = true;
        package.dependencies[1].version = "*".to_owned();
        assert_eq!(check(&table(), &[package], &[]).len(), 2);
    }
}
