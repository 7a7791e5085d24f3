//! The binary behind `cargo sim`; everything is in the library.

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    alys_sim::cli::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "alys-sim was built without the simulated runtime and can do nothing.\n\
         Run it as `cargo sim` from the root of the workspace; the RUSTFLAGS environment variable \
         must not be set, for it overrides the flags of that build."
    );
    std::process::ExitCode::from(2)
}
