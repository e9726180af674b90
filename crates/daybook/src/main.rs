//! Daybook with a shop on it.

use std::process::ExitCode;

fn main() -> ExitCode {
    daybook_app::main(daybook_projections::register(daybook_shop::domain()))
}
