//! Installing PostgreSQL where that needs nobody's leave: on Debian and its kin, as root (a container, a CI machine).

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

/// Installs the server. Debian may start a cluster of its own with it; ours has another folder and port.
///
/// # Errors
///
/// When `apt-get` fails.
pub(crate) async fn postgresql() -> anyhow::Result<()> {
    println!("There is no PostgreSQL server: installing Debian's.");
    child::run(&mut apt_get(&["update"])).await?;
    child::run(&mut apt_get(&["install", "--yes", "--no-install-recommends", "postgresql"])).await
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    command
}
