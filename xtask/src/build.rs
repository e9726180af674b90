//! Building our own binaries.

use std::path::PathBuf;

use anyhow::Context;
use cargo_metadata::{Message, TargetKind};
use tokio::process::Command;

use crate::child;

/// Builds the binary of the package `name`, and answers where it is.
///
/// # Errors
///
/// When it does not build.
pub(crate) async fn binary(name: &str, profile: &str) -> anyhow::Result<PathBuf> {
    let args = &["build", "--package", name, "--profile", profile, "--message-format=json-render-diagnostics"];
    let messages = child::read(&mut cargo(args)).await?;
    Message::parse_stream(messages.as_bytes())
        .filter_map(Result::ok)
        .find_map(|message| match message {
            Message::CompilerArtifact(artifact)
                if artifact.target.name == name && artifact.target.kind.contains(&TargetKind::Bin) =>
            {
                artifact.executable
            }
            _ => None,
        })
        .map(PathBuf::from)
        .with_context(|| format!("cargo built no binary named `{name}`"))
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}
