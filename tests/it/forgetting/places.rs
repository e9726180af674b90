//! Where something personal could be, and what to look for there.

use std::path::Path;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use daybook_tests::{Daybook, Role, Store, Topic};
use memchr::memmem;
use reqwest::Method;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, SqliteConnection};

/// All places. Whatever comes to hold copies of events or documents is added here.
pub(crate) const PLACES: &[(&str, Place)] = &[
    ("the files of the data folder", Place::DataFolder),
    ("the tables of the database", Place::Tables),
    ("the files of the database", Place::DatabaseFiles),
    ("the write-ahead log of the database", Place::WriteAheadLog),
    ("what the process has written", Place::Output),
    ("what an analyst can export", Place::Export),
    ("the metrics", Place::Metrics),
    ("a backup of the log", Place::Backup),
    ("the topic of Kafka", Place::Topic),
];

/// A place where something personal could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the embedded store, all that it keeps, its write-ahead logs included.
    DataFolder,
    /// On PostgreSQL: every row of every table, as text.
    Tables,
    /// On PostgreSQL: all that is on disk of the database, indexes and statistics included.
    DatabaseFiles,
    /// On PostgreSQL: what was written to it since the test began, by whomever.
    WriteAheadLog,
    /// The lines of the log, and what a newcomer is told.
    Output,
    /// The whole history, for somebody who may read it and open nothing.
    Export,
    /// For whoever watches the process.
    Metrics,
    /// What `daybook backup` writes.
    Backup,
    /// The messages that the whole log was published as.
    Topic,
}

/// What the test found when it began.
pub(crate) struct Start {
    /// Where the write-ahead log of PostgreSQL ended.
    wal: Option<String>,
    /// What the log is published to.
    pub(crate) topic: Topic,
}

impl Start {
    pub(crate) async fn of(store: &Store) -> Self {
        let wal = match connect(store).await {
            None => None,
            Some(mut connection) => Some(wal_end(&mut connection).await),
        };
        Self { wal, topic: Topic::default() }
    }
}

impl Place {
    /// Whether a place must be free of something. The log of requests has the address that each came from, so that
    /// abuse can be traced; how long such lines are kept is up to whoever keeps them.
    pub(crate) fn must_not_hold(self, needle: &Needle) -> bool {
        self != Self::Output || !needle.is_address
    }

    /// All that is there, piece by piece, each with a name. A place that this store does not have holds one word.
    pub(crate) async fn held(self, daybook: &Daybook, start: &Start) -> Vec<(String, Vec<u8>)> {
        let one = |text: String| vec![(String::new(), text.into_bytes())];
        let database = connect(daybook.store()).await;
        match (self, database) {
            (Self::DataFolder, _) => files(daybook.store().data()),
            (Self::Tables, Some(mut database)) => tables(&mut database).await,
            (Self::DatabaseFiles, Some(mut database)) => database_files(&mut database).await,
            (Self::WriteAheadLog, Some(mut database)) => write_ahead_log(&mut database, start).await,
            (Self::Tables | Self::DatabaseFiles | Self::WriteAheadLog, None) => one("none".into()),
            (Self::Output, _) => one(daybook.output()),
            (Self::Export, _) => {
                let analyst = daybook.login(Role::Analyst).await;
                let export = analyst.request(Method::GET, "/v1/events").header("accept", "application/x-ndjson");
                one(export.send().await.body)
            }
            (Self::Metrics, _) => one(daybook.metrics().await),
            (Self::Backup, _) => backup(daybook),
            (Self::Topic, _) => {
                let records = start.topic.holding_all_of(daybook).await;
                records.iter().map(|one| (one.header("ce_sequence").to_owned(), one.bytes())).collect()
            }
        }
    }
}

/// The files of a folder and of those in it.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            // SQLite removes a write-ahead log when nobody has the file open.
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

#[test]
fn a_file_is_looked_for_in_folders_within_folders_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let within = folder.path().join("a").join("b");
    std::fs::create_dir_all(&within).expect("made");
    std::fs::write(within.join("c"), "deep").expect("written");
    let held: Vec<_> = files(folder.path()).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(held, [b"deep"]);
}

/// A backup made at this moment.
fn backup(daybook: &Daybook) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let backed_up = daybook.cli(&["backup", &folder.path().display().to_string()]);
    assert!(backed_up.status.success(), "{backed_up:?}");
    files(folder.path())
}

async fn connect(store: &Store) -> Option<PgConnection> {
    let url = store.database_url()?;
    Some(PgConnection::connect(&url).await.expect("the test server answers"))
}

async fn tables(database: &mut PgConnection) -> Vec<(String, Vec<u8>)> {
    let names = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut *database).await.expect("there are tables");
    let mut tables = Vec::new();
    for name in names {
        let rows = AssertSqlSafe(format!("SELECT row_to_json(t)::text || ' ' || t::text FROM \"{name}\" AS t"));
        let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut *database).await.expect("it can be read");
        tables.push((name, rows.join("\n").into_bytes()));
    }
    tables
}

async fn database_files(database: &mut PgConnection) -> Vec<(String, Vec<u8>)> {
    sqlx::raw_sql("CHECKPOINT").execute(&mut *database).await.expect("what is in memory is written");
    let files = "SELECT folder || '/' || name, pg_read_binary_file(folder || '/' || name, 0, 1 << 29, true) \
                 FROM (SELECT 'base/' || oid AS folder FROM pg_database WHERE datname = current_database()) AS here, \
                      pg_ls_dir(folder) AS name";
    let files: Vec<(String, Option<Vec<u8>>)> =
        sqlx::query_as(files).fetch_all(database).await.expect("the test's user may read them");
    files.into_iter().map(|(name, bytes)| (name, bytes.unwrap_or_default())).collect()
}

async fn wal_end(database: &mut PgConnection) -> String {
    let end = "SELECT pg_walfile_name(pg_current_wal_lsn())";
    sqlx::query_scalar(end).fetch_one(database).await.expect("it has an end")
}

async fn write_ahead_log(database: &mut PgConnection, start: &Start) -> Vec<(String, Vec<u8>)> {
    let files = "SELECT name, pg_read_binary_file('pg_wal/' || name, 0, 1 << 29, true) FROM pg_ls_waldir() \
                 WHERE name BETWEEN $1 AND $2";
    let end = wal_end(database).await;
    let files = sqlx::query_as(files).bind(start.wal.as_deref().unwrap_or_default()).bind(end);
    let files: Vec<(String, Option<Vec<u8>>)> = files.fetch_all(database).await.expect("the test's user may");
    files.into_iter().map(|(name, bytes)| (name, bytes.unwrap_or_default())).collect()
}

/// A subject's key as the embedded store keeps it. (What PostgreSQL leaves of one goes when its transactions allow it,
/// which a test of the keys waits for.)
pub(crate) async fn wrapped_key(store: &Store, subject: &str) -> Option<Vec<u8>> {
    if store.database_url().is_some() {
        return None;
    }
    let mut keys = open_file(&store.data().join("keys.db")).await;
    let key = sqlx::query("SELECT wrapped FROM subject_keys WHERE subject = $1").bind(subject);
    let key: Vec<u8> = key.fetch_one(&mut keys).await.expect("there is a key").get(0);
    keys.close().await.expect("closed");
    assert!(files(store.data()).iter().any(|(_, bytes)| contains(bytes, &key)), "it is looked for where it is");
    Some(key)
}

/// Nothing is left of a key.
pub(crate) async fn assert_gone(store: &Store, key: &[u8]) {
    for (name, bytes) in files(store.data()) {
        assert!(!contains(&bytes, key), "the key is still in {name}");
    }
}

async fn open_file(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::from_str(&path.display().to_string())
        .expect("a path")
        .connect()
        .await
        .expect("the file can be opened")
}

/// Removes all that was folded from the log. Nothing may run on the store.
pub(crate) async fn remove_views(store: &Store) {
    match connect(store).await {
        None => {
            for suffix in ["", "-wal", "-shm"] {
                // Those beside the file are gone when it was closed well.
                let _ = std::fs::remove_file(store.data().join(format!("views.db{suffix}")));
            }
        }
        Some(mut database) => {
            let tables = "SELECT tablename::text FROM pg_tables WHERE tablename ~ '^view_.*_v[0-9]+_g[0-9]+$'";
            let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut database).await.expect("tables");
            for table in tables {
                let drop = AssertSqlSafe(format!("DROP TABLE \"{table}\""));
                sqlx::query(drop).execute(&mut database).await.expect("dropped");
            }
            sqlx::query("TRUNCATE view_generations CASCADE").execute(&mut database).await.expect("emptied");
        }
    }
}

/// Something that must not be found, in any of the forms that a program might give it.
pub(crate) struct Needle {
    pub(crate) text: &'static str,
    is_address: bool,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Needle {
    pub(crate) fn new(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        let escaped: String = text
            .chars()
            .map(|c| match c {
                '"' => "\\\"".to_owned(),
                c if c.is_ascii() => c.to_string(),
                c => format!("\\u{:04x}", c as u32),
            })
            .collect();
        let percent: String = bytes
            .iter()
            .map(|byte| match byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                true => char::from(*byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect();
        let mut forms = vec![
            ("as it is", bytes.to_vec()),
            ("in JSON", text.replace('"', "\\\"").into_bytes()),
            ("escaped for JSON", escaped.clone().into_bytes()),
            ("escaped for JSON, twice", escaped.replace('\\', "\\\\").into_bytes()),
            ("in lower case", text.to_lowercase().into_bytes()),
            ("in upper case", text.to_uppercase().into_bytes()),
            ("as part of an URL", percent.into_bytes()),
            ("in hexadecimal digits", hex::encode(bytes).into_bytes()),
            ("in UTF-16, low byte first", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("in UTF-16, high byte first", text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
        ];
        // Three bytes are four digits: what comes before decides which of three forms the middle has.
        for before in 0..3 {
            let shifted = [&vec![0; before][..], bytes].concat();
            let whole = shifted.len() / 3 * 4;
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                forms.push(("in base64", encoded.as_bytes()[if before == 0 { 0 } else { 4 }..whole].to_vec()));
            }
        }
        Self { text, is_address: false, forms }
    }

    /// The address that requests come from.
    pub(crate) fn address(text: &'static str) -> Self {
        Self { is_address: true, ..Self::new(text) }
    }

    /// The form in which it is there, if it is.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Option<&'static str> {
        self.forms.iter().find(|(_, form)| contains(bytes, form)).map(|(name, _)| *name)
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    !wanted.is_empty() && memmem::find(bytes, wanted).is_some()
}

#[test]
fn a_needle_is_found_in_every_form() {
    let needle = Needle::new("Zerlina Quøckenbush");
    let text = needle.text.as_bytes();
    for hay in [
        text.to_vec(),
        needle.text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        br#"{"name":"Zerlina Qu\u00f8ckenbush"}"#.to_vec(),
        hex::encode(text).into_bytes(),
        STANDARD_NO_PAD.encode([b"xy", text, b"z"].concat()).into_bytes(),
        URL_SAFE_NO_PAD.encode([b"x", text, b"yz"].concat()).into_bytes(),
        STANDARD_NO_PAD.encode(text).into_bytes(),
    ] {
        let hay = [&b"before "[..], &hay, b" after"].concat();
        assert!(needle.found_in(&hay).is_some(), "{}", String::from_utf8_lossy(&hay));
    }
    assert_eq!(needle.found_in(b"Zerlina Quickenbush"), None);
}
