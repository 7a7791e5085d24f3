//! Logs on standard error, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Time, level, message and fields for people; coloured on a terminal.
    #[default]
    Terminal,
    /// One JSON object a line.
    Json,
}

/// Reason for which logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log filter {filter:?}: {source}; for example info, or alys_net=debug,info")]
    Filter { filter: String, source: ParseError },
    #[error("logging is set up already")]
    Twice,
}

/// Installs the log of the process. The first filter of these applies: command line, `RUST_LOG`,
/// configuration, `default`.
///
/// # Errors
/// Any [`TelemetryError`].
pub fn init(
    format: LogFormat,
    command_line: Option<&str>,
    configured: Option<&str>,
    default: &str,
) -> Result<(), TelemetryError> {
    let environment = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|text| !text.is_empty());
    let filter = command_line
        .or(environment.as_deref())
        .or(configured)
        .unwrap_or(default);
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| TelemetryError::Filter {
            filter: filter.to_owned(),
            source,
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let done = match format {
        LogFormat::Terminal => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|_| TelemetryError::Twice)
}
