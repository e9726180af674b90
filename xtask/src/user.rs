//! The user that servers run as which are not to run as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::child::run_quietly;

/// An account without privileges: PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unprivileged {
    /// Its user id.
    pub(crate) uid: u32,
    /// Its group id.
    pub(crate) gid: u32,
}

impl Unprivileged {
    /// Whom to run the server as: `None` is ourselves, when we are not root.
    ///
    /// # Errors
    ///
    /// When we are root and there is neither `postgres` nor `nobody`.
    pub(crate) fn find() -> anyhow::Result<Option<Self>> {
        if !we_are_root()? {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let (Ok(uid), Ok(gid)) = (id(&["-u", name]), id(&["-g", name])) {
                return Ok(Some(Self { uid, gid }));
            }
        }
        bail!("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as");
    }

    /// Makes a temporary folder that is this user's.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub(crate) fn make_folder(user: Option<Self>, prefix: &str) -> anyhow::Result<TempDir> {
        let folder =
            tempfile::Builder::new().prefix(prefix).tempdir().context("cannot make a temporary folder")?;
        if let Some(Self { uid, gid }) = user {
            chown(folder.path(), Some(uid), Some(gid)).context("cannot give a server its folder")?;
        }
        Ok(folder)
    }

    /// Makes `command` run as this user, without any of our own groups.
    pub(crate) fn run_as(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// Whether this process may do everything.
///
/// # Errors
///
/// When it cannot be told.
pub(crate) fn we_are_root() -> anyhow::Result<bool> {
    Ok(id(&["-u"])? == 0)
}

fn id(args: &[&str]) -> anyhow::Result<u32> {
    run_quietly(Command::new("id").args(args))?.parse().context("`id` answered something else than a number")
}
