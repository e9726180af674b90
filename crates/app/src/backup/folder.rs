//! The folder of a backup. What its manifest names is whole; anything else in it is left over from a run that was
//! broken off, and goes with the next one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{FORMAT, Manifest};

/// Its manifest.
const MANIFEST: &str = "manifest.json";
/// What is to be its manifest.
const NEW_MANIFEST: &str = "manifest.json.new";
/// Held by whoever uses the folder.
const LOCK: &str = "lock";
/// How its files of rows end.
const ROWS: &str = ".ndjson";
/// How they begin, before a dash. No other file is ever taken for one of ours.
const KINDS: [&str; 10] = [
    "events",
    "claims",
    "receipts",
    "view",
    "master_key",
    "secrets",
    "signing_keys",
    "subject_keys",
    "credentials",
    "forgettings_checkpoint",
];

/// The folder of a backup, held as long as this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// How many lines it has.
    pub(crate) lines: u64,
    /// How many bytes it has.
    pub(crate) bytes: u64,
    /// The SHA-256 of them, in hexadecimal digits.
    pub(crate) sha256: String,
}

/// What is read of a manifest before it is known whether this program can read it.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Folder {
    /// Makes it, readable for nobody else, unless it is there. Only a folder that is empty or has a backup in it will do.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make {shown}"))?;
        // What a first run that was broken off has left.
        let is_left_over = |name: &str| name == LOCK || name == NEW_MANIFEST || is_rows(name);
        if !path.join(MANIFEST).exists() {
            for entry in path.read_dir().with_context(|| format!("cannot read {shown}"))? {
                if !entry?.file_name().to_str().is_some_and(is_left_over) {
                    bail!("{shown} has other things in it: name an empty folder, or one with a backup");
                }
            }
        }
        let folder = Self::lock(path)?;
        // The folder itself has to be there after a power cut, too.
        let parent = std::path::absolute(path)?.parent().map(Path::to_owned);
        parent
            .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
            .with_context(|| format!("cannot make {shown}"))?;
        Ok(folder)
    }

    /// Opens one that has a backup in it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        ensure!(path.join(MANIFEST).exists(), "there is no backup in {}: it has no {MANIFEST}", path.display());
        Self::lock(path)
    }

    fn lock(path: &Path) -> anyhow::Result<Self> {
        let options = OpenOptions::new().append(true).create(true).mode(0o600).clone();
        let lock = options.open(path.join(LOCK)).with_context(|| format!("cannot use {}", path.display()))?;
        if lock.try_lock().is_err() {
            bail!("{} is in use: another backup or restore is under way there", path.display());
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is a backup of; `None` before the first run.
    pub(crate) fn manifest<T: DeserializeOwned>(&self) -> anyhow::Result<Option<Manifest<T>>> {
        let path = self.path.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let damaged = || format!("{} is not what a backup of this kind has", path.display());
        let Format { format } = serde_json::from_str(&text).with_context(damaged)?;
        ensure!(format == FORMAT, "{} has format {format}: this program reads {FORMAT}", path.display());
        Ok(Some(serde_json::from_str(&text).with_context(damaged)?))
    }

    /// Begins a file of rows.
    pub(crate) fn file(&self, name: &str) -> anyhow::Result<Rows> {
        let name = format!("{name}{ROWS}");
        let path = self.path.join(&name);
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        let file = options.open(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let digest = digest::Context::new(&digest::SHA256);
        Ok(Rows { path, file: BufWriter::with_capacity(1 << 20, file), digest, name, lines: 0, bytes: 0 })
    }

    /// Makes what `manifest` says the backup, and removes rows that it does not name in `kept`.
    pub(crate) fn finish<T: Serialize>(&self, manifest: &Manifest<T>, kept: &[&Entry]) -> anyhow::Result<()> {
        let (path, new) = (self.path.join(MANIFEST), self.path.join(NEW_MANIFEST));
        let text = serde_json::to_string_pretty(manifest)? + "\n";
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()?;
            for entry in self.path.read_dir()? {
                let name = entry?.file_name();
                let Some(name) = name.to_str().filter(|name| is_rows(name)) else { continue };
                if !kept.iter().any(|entry| entry.name == name) {
                    std::fs::remove_file(self.path.join(name))?;
                }
            }
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The lines of a file, which is checked on the way: the last of them is followed by an error if it is not what the
    /// manifest says.
    pub(crate) fn lines(&self, entry: &Entry) -> anyhow::Result<Lines> {
        ensure!(!entry.name.contains('/'), "the manifest names a file elsewhere: {}", entry.name);
        let path = self.path.join(&entry.name);
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Lines {
            path,
            file: BufReader::with_capacity(1 << 20, file),
            digest: Some(digest::Context::new(&digest::SHA256)),
            entry: entry.clone(),
            lines: 0,
            bytes: 0,
        })
    }
}

/// Whether this is the name of a file of rows.
fn is_rows(name: &str) -> bool {
    let kind = name.strip_suffix(ROWS).and_then(|name| name.split_once('-')).map(|(kind, _)| kind);
    kind.is_some_and(|kind| KINDS.contains(&kind))
}

/// A file of rows that is being written.
pub(crate) struct Rows {
    path: PathBuf,
    file: BufWriter<File>,
    digest: digest::Context,
    name: String,
    lines: u64,
    bytes: u64,
}

impl Rows {
    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let write = |file: &mut BufWriter<File>| {
            file.write_all(line.as_bytes())?;
            file.write_all(b"\n")
        };
        write(&mut self.file).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.digest.update(line.as_bytes());
        self.digest.update(b"\n");
        self.lines += 1;
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }

    /// Makes sure that all of it is on the disk.
    pub(crate) fn finish(self) -> anyhow::Result<Entry> {
        let Self { path, file, digest, name, lines, bytes } = self;
        let sync = || file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all();
        sync().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Entry { name, lines, bytes, sha256: hex::encode(digest.finish()) })
    }
}

/// The lines of a file.
pub(crate) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    /// `None` at the end.
    digest: Option<digest::Context>,
    entry: Entry,
    lines: u64,
    bytes: u64,
}

impl Lines {
    fn step(&mut self) -> anyhow::Result<Option<String>> {
        let Some(digest) = &mut self.digest else { return Ok(None) };
        let mut line = String::new();
        let read = self.file.read_line(&mut line);
        read.with_context(|| format!("cannot read {}", self.path.display()))?;
        digest.update(line.as_bytes());
        self.bytes += line.len() as u64;
        if line.is_empty() {
            let sha256 = self.digest.take().map(|digest| hex::encode(digest.finish()));
            let Self { lines, bytes, .. } = *self;
            let found = Entry { name: self.entry.name.clone(), lines, bytes, sha256: sha256.unwrap_or_default() };
            ensure!(found == self.entry, "{} is not the file that was backed up", self.path.display());
            return Ok(None);
        }
        self.lines += 1;
        line.truncate(line.trim_end_matches('\n').len());
        Ok(Some(line))
    }
}

impl Iterator for Lines {
    type Item = anyhow::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_touched_is_noticed() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::create(&place.path().join("backup")).expect("made");
        let mut rows = folder.file("claims-1").expect("begun");
        for line in ["1", "{\"two\":2}"] {
            rows.line(line).expect("written");
        }
        let entry = rows.finish().expect("finished");
        folder.file("claims-0").expect("begun").finish().expect("finished");
        folder.finish(&Manifest::next(None, Utc::now(), "x".to_owned()), &[&entry]).expect("finished");
        let names: Vec<_> =
            folder.path.read_dir().expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(names.len(), 3, "the lock, the manifest and the rows: {names:?}");

        assert!(Folder::open(folder.path()).is_err(), "it is in use");
        let path = folder.path.clone();
        drop(folder);
        let folder = Folder::open(&path).expect("opened");
        assert_eq!(folder.manifest::<String>().expect("readable").expect("there").run, 1);
        let lines = folder.lines(&entry).expect("there").collect::<anyhow::Result<Vec<_>>>().expect("whole");
        assert_eq!(lines, ["1", "{\"two\":2}"]);

        for (text, what) in
            [("1\n{\"two\":3}\n", "changed"), ("1\n", "cut off"), ("1\n{\"two\":2}", "cut off"), ("", "empty")]
        {
            std::fs::write(path.join(&entry.name), text).expect("written");
            let lines = folder.lines(&entry).expect("there").collect::<anyhow::Result<Vec<_>>>();
            assert!(lines.is_err(), "{what}");
        }
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let place = tempfile::tempdir().expect("a folder");
        for name in ["lock", "claims-1.ndjson"] {
            std::fs::write(place.path().join(name), "").expect("written");
        }
        drop(Folder::create(place.path()).expect("a first run was broken off"));
        std::fs::write(place.path().join("mine.ndjson"), "").expect("written");
        assert!(Folder::create(place.path()).is_err());
        assert!(Folder::open(place.path()).is_err());
        let kinds = crate::backup::key_tables().map(|(name, _)| name);
        let kinds = kinds.chain(daybook_log::backup::TABLES.map(|(name, _)| name));
        assert!(kinds.chain(["events", "view"]).all(|kind| is_rows(&format!("{kind}-1.ndjson"))));
    }
}
