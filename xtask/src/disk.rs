//! A small disk that can be filled without harm.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::child::run_quietly;
use crate::user;

/// How large it is.
const SIZE: &str = "size=128m";

/// A small file system of our own, in memory. Dropping it unmounts it and removes its folder.
pub(crate) struct Disk(TempDir);

impl Disk {
    /// Makes one; `None` when that is not ours to do.
    ///
    /// # Errors
    ///
    /// When there is no place for it.
    pub(crate) fn make() -> anyhow::Result<Option<Self>> {
        if !user::we_are_root()? {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("daybook-disk-").tempdir()?;
        let mount =
            run_quietly(Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(folder.path()));
        // In a container, root may not be allowed to.
        Ok(mount.is_ok().then(|| Self(folder)))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be unmounted now is gone with the machine's memory.
        let _ = run_quietly(Command::new("umount").arg(self.path()));
    }
}
