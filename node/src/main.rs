//! The binary `alys`; everything is in the library.

fn main() -> std::process::ExitCode {
    alys_node::cli::main()
}
