//! The binary `alys`; everything is in the library.

/// jemalloc, because the allocator of glibc keeps the memory of large bodies that clients sent
/// (docs/adr/0007).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    alys_node::cli::main()
}
