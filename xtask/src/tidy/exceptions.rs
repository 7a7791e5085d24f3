//! Exceptions from the rules, with reasons. A long list would mean that the rules are wrong.

use super::{Finding, Rule};

/// One exception.
#[derive(Debug)]
pub struct Exception {
    /// The rule.
    pub rule: Rule,
    /// A file, or a directory with a slash at its end.
    pub path: &'static str,
    /// The prefix of the excused findings' `what`; empty for all.
    pub what: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// All exceptions.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: Rule::Seam,
        path: "sim/src/lib.rs",
        what: "cfg(madsim)",
        reason: "the simulator is empty in the real world, so that the workspace builds there",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/main.rs",
        what: "cfg(madsim)",
        reason: "a build for the real world must report that and exit",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/cli/",
        what: "",
        reason: "the command line is outside of the simulated world: it counts cores and measures \
            real time",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/fleet/sweep.rs",
        what: "",
        reason: "a sweep is outside of the simulated world: it waits for processes, in real time",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/plan/format/mod.rs",
        what: "std::fs",
        reason: "scenario files are read before there is a world",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/run/mod.rs",
        what: "Instant::now",
        reason: "the real time of a run is measured and reported outside of it",
    },
    Exception {
        rule: Rule::Seam,
        path: "integrations/src/embedded/",
        what: "cfg(madsim)",
        reason: "the fault injector of the embedded execution client exists in simulations only; \
            a production binary does not contain it",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/fleet/ledger.rs",
        what: "",
        reason: "the ledger of seeds is kept outside of the simulated world, with the time of day \
            for people",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/run/memory.rs",
        what: "std::fs",
        reason: "the operating system reports the memory of a process, after the run",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/fleet/mod.rs",
        what: "std::fs",
        reason: "pages and ledgers are written outside of the simulated world",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/src/run/sandbox.rs",
        what: "std::thread",
        reason: "the watcher thread runs outside of the run, and a canary must attempt an escape",
    },
    Exception {
        rule: Rule::Seam,
        path: "node/src/interceptor.rs",
        what: "cfg(madsim)",
        reason: "the interceptor of a Byzantine authority's messages exists in simulations only; \
            a production binary does not contain it",
    },
    Exception {
        rule: Rule::Seam,
        path: "sim/model/src/check.rs",
        what: "Instant::now",
        reason: "an exploration of a model reports its real time; it simulates no world",
    },
    Exception {
        rule: Rule::Bounded,
        path: "sim/src/faults/",
        what: "",
        reason: "the observer of a node may neither wait nor lose a fault; there is one entry for \
            each vote in a plan",
    },
    Exception {
        rule: Rule::Bounded,
        path: "sim/src/run/mod.rs",
        what: "mpsc::unbounded_channel",
        reason: "a machine that ends may neither wait nor be forgotten; there is one entry for \
            each incarnation of a machine",
    },
    Exception {
        rule: Rule::Seam,
        path: "storage/src/sled.rs",
        what: "std::thread::sleep",
        reason: "sled starts threads of its own and is never simulated; closing waits for them",
    },
    Exception {
        rule: Rule::Unfinished,
        path: "tests/tests/interop.rs",
        what: "",
        reason: "ethrex takes many minutes to build: `cargo xtask interop` runs this test, and CI \
            does not",
    },
];

/// Removes the excused findings, and adds one for each exception that excuses nothing.
pub fn excuse(findings: Vec<Finding>, exceptions: &[Exception]) -> Vec<Finding> {
    let covers = |exception: &Exception, finding: &Finding| {
        let path = if exception.path.ends_with('/') {
            finding.path.starts_with(exception.path)
        } else {
            finding.path == exception.path
        };
        path && exception.rule == finding.rule && finding.what.starts_with(exception.what)
    };
    let idle: Vec<Finding> = exceptions
        .iter()
        .filter(|exception| !findings.iter().any(|finding| covers(exception, finding)))
        .map(|exception| Finding {
            path: "xtask/src/tidy/exceptions.rs".to_owned(),
            line: 1,
            rule: Rule::Exceptions,
            what: exception.path.to_owned(),
            message: format!(
                "the exception of {} from [{}] excuses nothing: remove it",
                exception.path, exception.rule
            ),
        })
        .collect();
    let kept = findings
        .into_iter()
        .filter(|finding| !exceptions.iter().any(|one| covers(one, finding)));
    kept.chain(idle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_excuse_the_named_findings_only() {
        let finding = |path: &str, what: &str| Finding {
            path: path.to_owned(),
            line: 3,
            rule: Rule::Seam,
            what: what.to_owned(),
            message: String::new(),
        };
        let exception = |path: &'static str, what: &'static str| Exception {
            rule: Rule::Seam,
            path,
            what,
            reason: "",
        };
        let findings = vec![
            finding("a/b.rs", "std::fs::read"),
            finding("a/c.rs", "tokio"),
            finding("d.rs", "tokio"),
        ];
        let kept = excuse(
            findings.clone(),
            &[exception("a/", "std::fs"), exception("d.rs", "")],
        );
        assert_eq!(kept, [findings[1].clone()]);
        let kept = excuse(findings.clone(), &[exception("a/b.rs", "std::thread")]);
        assert_eq!(kept.len(), 4);
        assert_eq!(kept[3].rule, Rule::Exceptions);
    }

    #[test]
    fn every_exception_has_a_reason() {
        for exception in EXCEPTIONS {
            assert!(exception.reason.len() > 20, "{exception:?}");
        }
    }
}
