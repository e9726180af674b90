//! Installing what is missing where that needs nobody's leave: on Debian and its kin, as root (a container, a CI machine).

use std::path::Path;

use tokio::process::Command;

use crate::{child, user};

/// Whether we can install packages.
///
/// # Errors
///
/// When it cannot be told who we are.
pub(crate) fn possible() -> anyhow::Result<bool> {
    Ok(Path::new("/etc/debian_version").exists() && user::we_are_root()?)
}

/// Installs packages. Debian may start a server of its own with one; ours have other folders and ports.
///
/// # Errors
///
/// When `apt-get` fails.
pub(crate) async fn packages(names: &[&str]) -> anyhow::Result<()> {
    println!("Installing what is missing: {}.", names.join(", "));
    child::run(&mut apt_get(&["update"])).await?;
    child::run(apt_get(&["install", "--yes", "--no-install-recommends"]).args(names)).await
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    command
}
