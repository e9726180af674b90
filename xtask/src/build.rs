//! Building our own binaries.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use cargo_metadata::{Artifact, Message};
use tokio::process::Command;

use crate::child;

/// Has cargo say what it builds, beside the diagnostics.
pub(crate) const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// Builds the binaries of the packages `names`, and answers where they are, in the same order.
///
/// # Errors
///
/// When one does not build.
pub(crate) async fn binaries<const N: usize>(names: [&str; N], profile: &str) -> anyhow::Result<[PathBuf; N]> {
    let mut build = cargo(&["build", "--profile", profile, MESSAGES]);
    build.args(names.iter().flat_map(|name| ["--package", name]));
    let mut built = BTreeMap::new();
    for artifact in artifacts(&mut build).await? {
        if artifact.target.is_bin()
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

/// Builds what the command of cargo's, which has to ask for messages in JSON, says, and answers all that was built.
///
/// # Errors
///
/// When something does not build.
pub(crate) async fn artifacts(build: &mut Command) -> anyhow::Result<Vec<Artifact>> {
    let messages = child::read(build).await?;
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(messages.as_bytes()) {
        if let Message::CompilerArtifact(artifact) = message? {
            artifacts.push(artifact);
        }
    }
    Ok(artifacts)
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}
