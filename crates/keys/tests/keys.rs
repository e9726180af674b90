//! Keys on both stores.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use daybook_core::{Personal, Sealing, account_subject};
use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, Options, on_both};
use daybook_keys::{KeyError, Keys, MasterKeys, OpenedDocuments, rotate};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

const EVENT: Uuid = Uuid::from_u128(7);
const ADA: Uuid = Uuid::from_u128(0xada);
const BOB: Uuid = Uuid::from_u128(0xb0b);

on_both!(
    &[Schema::Keys],
    what_is_sealed_is_opened_for_those_who_may,
    two_processes_agree_on_a_subjects_key,
    somebody_who_was_forgotten_reads_as_erased_everywhere,
    what_is_sealed_after_a_forgetting_reads_as_erased,
    a_forgotten_key_leaves_no_bytes,
    whoever_comes_after_a_deletion_removes_what_it_left,
    the_keys_of_past_days_go,
    a_wrong_master_key_is_a_clear_error,
    a_key_that_is_gone_does_not_read_as_erased,
    a_rotated_master_key_opens_all_and_the_old_one_nothing,
    a_running_process_follows_a_rotation,
    nothing_is_lost_in_a_rotation_beside_running_processes,
    a_rotation_that_broke_off_can_be_done_again,
    given_master_keys_are_rotated_to_the_first,
    a_key_that_stands_in_front_of_a_file_is_rotated_to,
);

fn key(byte: u8) -> String {
    [byte; 32].map(|byte| format!("{byte:02x}")).concat()
}

fn masters(text: &str) -> MasterKeys {
    MasterKeys::parse(text).expect("keys")
}

async fn open(database: &Database) -> Keys {
    Keys::open(database, masters(&key(1))).await.expect("the keys open")
}

/// Connects once more: what another process does.
async fn again(location: &Location) -> Database {
    Database::connect(location, &Options::default()).await.expect("the database answers")
}

async fn sealed(keys: &Keys, account: Uuid, value: &str) -> String {
    let payload = json_text(&Payload { email: Personal::new(account_subject(account), value.to_owned()) });
    keys.sealed(EVENT, payload).await.expect("sealed")
}

#[derive(serde::Serialize)]
struct Payload {
    email: Personal<String>,
}

fn json_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

async fn opened(keys: &Keys, document: &str, may_open: bool) -> (Value, Vec<String>) {
    let document = RawValue::from_string(document.to_owned()).expect("JSON");
    let OpenedDocuments { documents, subjects } =
        keys.open_documents(vec![document], &|_| may_open).await.expect("the keys answer");
    (serde_json::from_str(documents[0].get()).expect("JSON"), subjects.into_iter().collect())
}

async fn reads(keys: &Keys, document: &str) -> Value {
    opened(keys, document, true).await.0["email"].clone()
}

async fn what_is_sealed_is_opened_for_those_who_may(_: Location, database: Database) {
    let keys = open(&database).await;
    let document = sealed(&keys, ADA, "ada@example.com").await;
    assert!(!document.contains("ada@"), "{document}");
    let ada = account_subject(ADA);
    assert_eq!(opened(&keys, &document, true).await, (json!({"email": "ada@example.com"}), vec![ada]));
    assert_eq!(opened(&keys, &document, false).await, (json!({"email": {"sealed": true}}), vec![]));
    // Also in a process that has not sealed it.
    assert_eq!(reads(&open(&database).await, &document).await, "ada@example.com");
    let moved = document.replace("/email", "/name");
    assert_eq!(reads(&keys, &moved).await, json!({"sealed": true}));
}

async fn two_processes_agree_on_a_subjects_key(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = (open(&database).await, open(&other).await);
    for n in 0..10 {
        let account = Uuid::from_u128(n);
        let (a, b) = tokio::join!(sealed(&one, account, "a"), sealed(&two, account, "b"));
        assert_eq!((reads(&two, &a).await, reads(&one, &b).await), (json!("a"), json!("b")));
    }
    let digest = |keys: &Keys| keys.digests().digest("purpose", &[b"part"]);
    assert_eq!(digest(&one), digest(&two));
    other.close().await;
}

async fn somebody_who_was_forgotten_reads_as_erased_everywhere(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = (open(&database).await, open(&other).await);
    let (ada, bob) = (sealed(&one, ADA, "ada@example.com").await, sealed(&one, BOB, "bob@example.com").await);
    one.forget(&account_subject(ADA)).await.expect("forgotten");
    one.forget(&account_subject(ADA)).await.expect("again");
    let erased = json!({"erased": true});
    assert_eq!(reads(&one, &ada).await, erased);
    // A process that had the key in memory is told by the log; one that had not sees the tombstone.
    assert_eq!(reads(&two, &ada).await, erased);
    assert_eq!(opened(&two, &ada, false).await, (json!({"email": {"erased": true}}), vec![]));
    assert_eq!(reads(&two, &bob).await, "bob@example.com");
    other.close().await;
}

async fn what_is_sealed_after_a_forgetting_reads_as_erased(_: Location, database: Database) {
    let keys = open(&database).await;
    // Also of somebody who had no key yet.
    keys.forget(&account_subject(ADA)).await.expect("forgotten");
    for keys in [keys, open(&database).await] {
        let document = sealed(&keys, ADA, "ada@example.com").await;
        let form: Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(form["email"].as_object().map(serde_json::Map::len), Some(3), "the form is the same: {form}");
        assert_eq!(reads(&keys, &document).await, json!({"erased": true}));
    }
}

async fn a_forgotten_key_leaves_no_bytes(location: Location, database: Database) {
    let keys = open(&database).await;
    for n in 0..50 {
        sealed(&keys, Uuid::from_u128(n), "x").await;
    }
    let subject = account_subject(Uuid::from_u128(20));
    let wrapped =
        text(&database, &format!("SELECT hex FROM ({HEX}) AS all_keys WHERE subject = '{subject}'")).await;
    let wrapped = hex::decode(wrapped).expect("hex");
    assert!(holds(&database, &location, &wrapped).await, "it is looked for where it was");
    keys.forget(&subject).await.expect("forgotten");
    // Somebody else's transaction may be in the way: then it goes with what is forgotten next.
    let next = AtomicU64::new(21);
    wait_for("the wrapped key to go away", || async {
        let next = account_subject(Uuid::from_u128(next.fetch_add(1, Ordering::Relaxed).into()));
        keys.forget(&next).await.expect("forgotten");
        keys.scrub().await.expect("the database answers");
        (!holds(&database, &location, &wrapped).await).then_some(())
    })
    .await;
}

async fn whoever_comes_after_a_deletion_removes_what_it_left(location: Location, database: Database) {
    let (keys, beside) = (open(&database).await, open(&database).await);
    for (account, comes_later) in [(ADA, true), (BOB, false)] {
        sealed(&keys, account, "x").await;
        let subject = account_subject(account);
        let wrapped =
            text(&database, &format!("SELECT hex FROM ({HEX}) AS all_keys WHERE subject = '{subject}'")).await;
        let wrapped = hex::decode(wrapped).expect("hex");
        // And goes away without having removed anything.
        keys.forget(&subject).await.expect("forgotten");
        assert!(holds(&database, &location, &wrapped).await, "there is something to remove");
        wait_for("the wrapped key to go away", || async {
            let other = if comes_later { open(&database).await } else { beside.clone() };
            if !comes_later {
                // It is told by the log.
                other.forget(&subject).await.expect("the database answers");
            }
            other.scrub().await.expect("the database answers");
            (!holds(&database, &location, &wrapped).await).then_some(())
        })
        .await;
    }
}

/// The wrapped keys, readable on the store's own terms.
const HEX: &str = "SELECT subject, HEX(wrapped) AS hex FROM subject_keys";

async fn text(database: &Database, sql: &str) -> String {
    match database {
        Database::Postgres(pool) => {
            let sql = sql.replace("HEX(wrapped)", "encode(wrapped, 'hex')");
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await
        }
        Database::Sqlite(file) => {
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(file.readers()).await
        }
    }
    .expect("the table answers")
}

/// Whether the store's files hold these bytes: those of the table itself on PostgreSQL.
async fn holds(database: &Database, location: &Location, bytes: &[u8]) -> bool {
    let within = |file: &[u8]| file.windows(bytes.len()).any(|window| window == bytes);
    match (database, location) {
        (Database::Sqlite(_), Location::Sqlite(path)) => ["", "-wal"]
            .iter()
            .filter_map(|suffix| std::fs::read(format!("{}{suffix}", path.display())).ok())
            .any(|file| within(&file)),
        (Database::Postgres(pool), _) => {
            sqlx::raw_sql("CHECKPOINT").execute(pool).await.expect("what is in memory is written");
            let file = "SELECT pg_read_binary_file(pg_relation_filepath('subject_keys'))";
            let file: Vec<u8> = sqlx::query_scalar(file).fetch_one(pool).await.expect("the table has a file");
            within(&file)
        }
        _ => panic!("a database at another location"),
    }
}

async fn the_keys_of_past_days_go(_: Location, database: Database) {
    let keys = open(&database).await;
    let seal = async |day: &str| {
        let payload = json_text(&Payload { email: Personal::new(format!("day-{day}"), "192.0.2.1".to_owned()) });
        keys.sealed(EVENT, payload).await.expect("sealed")
    };
    let (old, young) = (seal("2026-10-24").await, seal("2026-10-25").await);
    let account = sealed(&keys, ADA, "ada@example.com").await;
    let now: DateTime<Utc> = "2026-11-24T00:00:00Z".parse().expect("a time");
    keys.forget_days(now).await.expect("the database answers");
    for keys in [&keys, &open(&database).await] {
        assert_eq!(reads(keys, &old).await, json!({"erased": true}));
        assert_eq!(reads(keys, &young).await, "192.0.2.1");
        assert_eq!(reads(keys, &account).await, "ada@example.com");
    }
}

async fn a_wrong_master_key_is_a_clear_error(_: Location, database: Database) {
    assert!(Keys::is_new(&database).await.expect("the database answers"));
    let document = sealed(&open(&database).await, ADA, "ada@example.com").await;
    assert!(!Keys::is_new(&database).await.expect("the database answers"));
    let wrong = Keys::open(&database, masters(&key(2))).await.expect_err("another key");
    assert!(matches!(wrong, KeyError::UnknownMaster { .. }), "{wrong}");
    let both = Keys::open(&database, masters(&[key(2), key(1)].join(","))).await.expect("one of them is right");
    assert_eq!(reads(&both, &document).await, "ada@example.com");
    // What it makes itself is wrapped under the one that all others know.
    let bob = sealed(&both, BOB, "bob@example.com").await;
    assert_eq!(reads(&open(&database).await, &bob).await, "bob@example.com");
}

async fn a_key_that_is_gone_does_not_read_as_erased(_: Location, database: Database) {
    let document = sealed(&open(&database).await, ADA, "ada@example.com").await;
    let delete = "DELETE FROM subject_keys";
    match &database {
        Database::Postgres(pool) => drop(sqlx::query(delete).execute(pool).await.expect("deleted")),
        Database::Sqlite(file) => drop(sqlx::query(delete).execute(file.writer()).await.expect("deleted")),
    }
    let keys = open(&database).await;
    assert_eq!(reads(&keys, &document).await, json!({"sealed": true}));
}

fn file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("master.key")
}

async fn open_file(database: &Database, path: &Path) -> Result<Keys, KeyError> {
    Keys::open(database, MasterKeys::read(path)?).await
}

async fn a_rotated_master_key_opens_all_and_the_old_one_nothing(_: Location, database: Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder);
    let old = MasterKeys::create(&path).expect("made");
    let keys = Keys::open(&database, old.clone()).await.expect("opens");
    let document = sealed(&keys, ADA, "ada@example.com").await;
    keys.forget(&account_subject(BOB)).await.expect("forgotten");
    keys.add_signing_key(0, b"pkcs8", 0, 0).await.expect("stored");
    let digest = keys.digests().digest("purpose", &[]);

    let rotated = rotate(&database, MasterKeys::read(&path).expect("read")).await.expect("rotated");
    assert_eq!((rotated.drawn, rotated.rewrapped), (true, 3), "the digests' key, a signing key, Ada's");
    assert_ne!(rotated.from, Some(rotated.to));

    let keys = open_file(&database, &path).await.expect("opens");
    assert_eq!(keys.digests().digest("purpose", &[]), digest);
    assert_eq!(keys.signing_keys().await.expect("unwrapped")[0].pkcs8.as_slice(), b"pkcs8");
    assert_eq!(reads(&keys, &document).await, "ada@example.com");
    let text = std::fs::read_to_string(&path).expect("there");
    assert_eq!(text.lines().count(), 1, "the old one is gone");
    let stale = Keys::open(&database, masters(&text)).await.expect("the new one alone is enough");
    assert_eq!(reads(&stale, &document).await, "ada@example.com");
    std::fs::remove_file(&path).expect("removed");
    assert!(Keys::open(&database, old).await.is_err(), "the old one alone is not");
}

async fn a_running_process_follows_a_rotation(_: Location, database: Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder);
    MasterKeys::create(&path).expect("made");
    let (one, two) = (open_file(&database, &path).await.expect("opens"), open_file(&database, &path).await);
    let two = two.expect("opens");
    let document = sealed(&one, ADA, "ada@example.com").await;
    rotate(&database, MasterKeys::read(&path).expect("read")).await.expect("rotated");
    // One that has to read what was wrapped anew, and one that has to wrap.
    assert_eq!(reads(&two, &document).await, "ada@example.com");
    let bob = sealed(&one, BOB, "bob@example.com").await;
    assert_eq!(reads(&open_file(&database, &path).await.expect("opens"), &bob).await, "bob@example.com");
}

async fn nothing_is_lost_in_a_rotation_beside_running_processes(location: Location, database: Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder);
    MasterKeys::create(&path).expect("made");
    let other = again(&location).await;
    let server = open_file(&other, &path).await.expect("opens");
    let (done, mut documents) = (std::sync::atomic::AtomicBool::new(false), Vec::new());
    let sealing = async {
        let mut account = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            account += 1;
            documents.push(sealed(&server, Uuid::from_u128(account), "somebody").await);
        }
    };
    let rotating = async {
        for _ in 0..5 {
            rotate(&database, MasterKeys::read(&path).expect("read")).await.expect("rotated");
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    tokio::join!(sealing, rotating);
    let keys = open_file(&database, &path).await.expect("opens");
    for document in &documents {
        assert_eq!(reads(&keys, document).await, "somebody");
    }
    assert!(!documents.is_empty());
    other.close().await;
}

async fn a_rotation_that_broke_off_can_be_done_again(_: Location, database: Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder);
    MasterKeys::create(&path).expect("made");
    let keys = open_file(&database, &path).await.expect("opens");
    let document = sealed(&keys, ADA, "ada@example.com").await;
    let old = std::fs::read_to_string(&path).expect("there");

    // It broke off once the new key was in the file,
    std::fs::write(&path, format!("{}\n{old}", key(9))).expect("written");
    assert_eq!(reads(&open_file(&database, &path).await.expect("opens"), &document).await, "ada@example.com");
    // or once everything new was wrapped under it and all else was not.
    set_master(&database, &path).await;
    let bob = sealed(&open_file(&database, &path).await.expect("opens"), BOB, "bob@example.com").await;
    for _ in 0..2 {
        rotate(&database, MasterKeys::read(&path).expect("read")).await.expect("rotated");
        let keys = open_file(&database, &path).await.expect("opens");
        assert_eq!(
            (reads(&keys, &document).await, reads(&keys, &bob).await),
            (json!("ada@example.com"), json!("bob@example.com"))
        );
    }
    // Which of them was put there by whom it cannot tell: it is up to whoever did to take the old one away.
    let both = std::fs::read_to_string(&path).expect("there");
    assert_eq!(both.lines().count(), 2);
    let new = Keys::open(&database, masters(&key(9))).await.expect("the new one alone");
    assert_eq!(reads(&new, &document).await, "ada@example.com");
}

async fn a_key_that_stands_in_front_of_a_file_is_rotated_to(_: Location, database: Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder);
    std::fs::write(&path, key(1)).expect("written");
    let server = open_file(&database, &path).await.expect("opens");
    let document = sealed(&server, ADA, "ada@example.com").await;
    let both = format!("{},{}", key(2), key(1));
    std::fs::write(&path, &both).expect("written");
    let rotated = rotate(&database, MasterKeys::read(&path).expect("read")).await.expect("rotated");
    assert!(!rotated.drawn && rotated.rewrapped == 2, "{rotated:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), both, "nobody but its owner changes it");
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1, "nothing was made beside it");
    let new = Keys::open(&database, masters(&key(2))).await.expect("the new one alone");
    assert_eq!(reads(&new, &document).await, "ada@example.com");
    assert_eq!(reads(&server, &document).await, "ada@example.com", "it reads the file again");
    // Done again, nobody is locked out.
    let again = rotate(&database, MasterKeys::read(&path).expect("read")).await.expect("rotated");
    assert!(!again.drawn && again.rewrapped == 0, "{again:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), both);
}

/// Says that everything is wrapped under the first key in the file from now on.
async fn set_master(database: &Database, path: &Path) {
    let text = std::fs::read_to_string(path).expect("there");
    let shown = format!("{:?}", masters(text.lines().next().expect("a key")));
    let id = shown.trim_end_matches("\")").rsplit(' ').next().expect("an id").to_owned();
    let id = hex::decode(id).expect("hex");
    let update = "UPDATE master_key SET id = $1";
    match database {
        Database::Postgres(pool) => drop(sqlx::query(update).bind(id).execute(pool).await.expect("set")),
        Database::Sqlite(file) => drop(sqlx::query(update).bind(id).execute(file.writer()).await.expect("set")),
    }
}

async fn given_master_keys_are_rotated_to_the_first(_: Location, database: Database) {
    let document = sealed(&open(&database).await, ADA, "ada@example.com").await;
    let both = masters(&[key(2), key(1)].join(","));
    let server = Keys::open(&database, both.clone()).await.expect("opens");
    let rotated = rotate(&database, both).await.expect("rotated");
    assert!(!rotated.drawn && rotated.rewrapped == 2, "{rotated:?}");
    assert_eq!(reads(&server, &document).await, "ada@example.com");
    let new = Keys::open(&database, masters(&key(2))).await.expect("the new one alone");
    assert_eq!(reads(&new, &document).await, "ada@example.com");
    let wrong = Keys::open(&database, masters(&key(1))).await.expect_err("the old one alone");
    assert!(matches!(wrong, KeyError::UnknownMaster { .. }), "{wrong}");
    assert!(rotate(&database, masters(&key(3))).await.is_err(), "to a key that nobody knew");
    assert_eq!(reads(&server, &document).await, "ada@example.com");
    let Ok(Sealing::Sealed(plain)) = server.seal(EVENT, "{}".into()) else { panic!("there is nothing to seal") };
    assert_eq!(plain, "{}");
}
