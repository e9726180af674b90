//! Installing what is missing where that needs nobody's leave: on Debian and its kin, as root (a container, a CI machine).

use std::path::{Path, PathBuf};

use anyhow::Context;
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

/// Finds a program, installing Debian's package of it where that is possible.
///
/// # Errors
///
/// When there is none; the error says what to install.
pub(crate) async fn program(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    if find(name).is_none() && possible()? {
        packages(&[package]).await?;
    }
    find(name).with_context(|| {
        format!("there is no {name}; install it (Debian, Ubuntu: sudo apt-get install {package})")
    })
}

/// It may be where only root looks for programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| Path::is_file(program))
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    command
}
