//! What the command line prints.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

/// Prints a line. Fails when the reader went away (`| head`): whatever prints more has nothing left to do.
pub(crate) fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints a line of a server, which goes on when nobody reads it.
pub(crate) fn notice(text: impl fmt::Display) -> anyhow::Result<()> {
    match line(text) {
        Err(error) if is_reader_gone(&error) => Ok(()),
        printed => printed,
    }
}

/// Whether this is all that happened: the reader of what was printed went away.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Prints JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Says that a list is empty: beside it, so that whoever reads the list itself reads nothing.
pub(crate) fn nothing(of: &str) {
    let _ = writeln!(io::stderr().lock(), "no {of}");
}

/// Prints why something was not done, with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some errors already say their cause.
        if !text.contains(&cause) {
            text.push_str(&format!("\n  because: {cause}"));
        }
    }
    let _ = writeln!(io::stderr().lock(), "{text}");
}
