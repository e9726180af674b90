//! Building our own binaries.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use cargo_metadata::{Message, TargetKind};
use tokio::process::Command;

use crate::child;

/// Builds the binaries of the packages `names`, and answers where they are, in the same order.
///
/// # Errors
///
/// When one does not build.
pub(crate) async fn binaries<const N: usize>(names: [&str; N], profile: &str) -> anyhow::Result<[PathBuf; N]> {
    let mut build = cargo(&["build", "--profile", profile, "--message-format=json-render-diagnostics"]);
    build.args(names.iter().flat_map(|name| ["--package", name]));
    let messages = child::read(&mut build).await?;
    let mut built = BTreeMap::new();
    for message in Message::parse_stream(messages.as_bytes()) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.kind.contains(&TargetKind::Bin)
            && let Some(executable) = artifact.executable
        {
            built.insert(artifact.target.name, PathBuf::from(executable));
        }
    }
    let mut paths = [const { PathBuf::new() }; N];
    for (path, name) in paths.iter_mut().zip(names) {
        *path = built.remove(name).with_context(|| format!("cargo built no binary named `{name}`"))?;
    }
    Ok(paths)
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}
