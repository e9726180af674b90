//! Where PostgreSQL's server programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::child::run_quietly;
use crate::install;

/// The oldest major version that Daybook runs on.
const VERSION_MIN: u32 = 15;

/// Finds the folder with the server programs (`initdb`, `postgres`, `pg_ctl`), installing them where that is the
/// custom.
///
/// # Errors
///
/// When there are none; the error says what to install.
pub(crate) async fn find_or_install() -> anyhow::Result<PathBuf> {
    if let Some(folder) = find() {
        return Ok(folder);
    }
    if install::possible()? {
        install::packages(&["postgresql"]).await?;
        if let Some(folder) = find() {
            return Ok(folder);
        }
    }
    bail!(
        "the tests need a PostgreSQL server, version {VERSION_MIN} or later, and there is none.\nEither set \
         DATABASE_URL to one that may be used for tests (the user must be allowed to create databases),\nor install \
         its server programs:\n  Debian, Ubuntu:  sudo apt-get install postgresql\n  Fedora:          sudo dnf \
         install postgresql-server\n  Arch:            sudo pacman -S postgresql\n  macOS:           brew install \
         postgresql@17"
    );
}

fn find() -> Option<PathBuf> {
    candidates().into_iter().find(|folder| version_in(folder).is_some_and(|version| version >= VERSION_MIN))
}

/// Where to look, the best first.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(folder) = run_quietly(Command::new("pg_config").arg("--bindir")) {
        folders.push(PathBuf::from(folder));
    }
    folders.extend(versioned_folders());
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders
}

/// The folders of installations that live side by side, the newest first.
fn versioned_folders() -> Vec<PathBuf> {
    let mut folders: Vec<(u32, PathBuf)> = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ]
    .into_iter()
    .flat_map(|(parent, prefix)| {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
    })
    .collect();
    folders.sort();
    folders.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// The major version of the server in `folder`; `None` when it is not all there.
fn version_in(folder: &Path) -> Option<u32> {
    if !["initdb", "postgres", "pg_ctl"].iter().all(|program| folder.join(program).is_file()) {
        return None;
    }
    major_version(&run_quietly(Command::new(folder.join("postgres")).arg("--version")).ok()?)
}

/// The major version in what `postgres --version` prints.
fn major_version(text: &str) -> Option<u32> {
    let version = text.strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).map_or(version, |end| &version[..end]);
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn the_major_version_is_read_from_what_servers_print() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(major_version("postgres: command not found"), None);
    }
}
