//! The cargo that runs us.

use std::path::PathBuf;

use anyhow::Context;
use cargo_metadata::{Message, TargetKind};
use tokio::process::Command;

use crate::child;

/// A cargo command.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Builds the binary of a package that is named like it, and answers where it is.
///
/// # Errors
///
/// When it does not build.
pub(crate) async fn binary(package: &str) -> anyhow::Result<PathBuf> {
    let args = &["build", "--package", package, "--message-format=json-render-diagnostics"];
    let messages = child::read(&mut cargo(args)).await?;
    Message::parse_stream(messages.as_bytes())
        .filter_map(Result::ok)
        .find_map(|message| match message {
            Message::CompilerArtifact(artifact)
                if artifact.target.name == package && artifact.target.kind.contains(&TargetKind::Bin) =>
            {
                artifact.executable
            }
            _ => None,
        })
        .map(PathBuf::from)
        .with_context(|| format!("cargo built no binary named `{package}`"))
}
