//! Daybook with a shop on it.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives memory back that is not used any more, within ten seconds, and also while nothing happens (threads of its own see
/// to that). The C library's allocator keeps what each of its arenas once had: passwords that are hashed one after the
/// other, 19 MiB each, on whichever thread is free, are half a gigabyte for as long as the process lives.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    daybook_app::main(daybook_projections::register(daybook_shop::domain()))
}
