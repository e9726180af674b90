//! The handle that the other crates hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Days, TimeDelta, Utc};
use daybook_core::{Metadata, Opened, Origin, Sealing, day_subject, open_fields, seal_fields, sealed_subjects};
use daybook_database::{Database, Schema};
use serde_json::value::RawValue;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::aead;
use crate::master::{MasterKey, wrapped_under};
use crate::store::{Place, Store, Table, Wrapped};
use crate::subjects::{SubjectKey, Subjects};
use crate::{Digests, KeyError, MasterId, MasterKeys};

/// The name of the digests' key in the store.
const DIGEST_KEY: &str = "digest";

/// How many times what a deleted key left behind is removed. PostgreSQL keeps it, and does not say so, as long as a
/// transaction lives that is older than the deletion.
const SCRUBS: u8 = 3;

/// How long after a deletion something may be left of it. Whoever deleted the key may have gone away before it was
/// removed, so whoever comes later removes it again.
const SCRUBBED_FOR: TimeDelta = TimeDelta::days(1);

/// How often something is stored again when the master key is rotated meanwhile.
const TRIES: usize = 5;

/// What only this installation knows. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    masters: RwLock<Masters>,
    digests: Digests,
    subjects: Subjects,
    /// Whether deleted keys may have left something behind in the store.
    unscrubbed: AtomicU8,
}

#[derive(Clone)]
struct Masters {
    known: MasterKeys,
    /// What everything is wrapped under from now on.
    current: Arc<MasterKey>,
}

/// A key that access tokens are signed with. Times are Unix milliseconds.
pub struct StoredSigningKey {
    /// Its number, from 1.
    pub number: i64,
    /// The key, as PKCS#8.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// It signs from then on.
    pub sign_from_ms: i64,
    /// It verifies until then; `None` while no newer key has taken its place.
    pub verify_until_ms: Option<i64>,
}

/// Documents as a reader may see them.
#[derive(Debug)]
pub struct OpenedDocuments {
    /// The documents, in their order.
    pub documents: Vec<Box<RawValue>>,
    /// Whose data was opened in them.
    pub subjects: BTreeSet<String>,
}

impl Keys {
    /// How many days the key of a day, with which the data of requests without an account is sealed, is kept after it.
    pub const DAYS_KEPT: u64 = 30;

    /// Whether nothing was ever wrapped in this database.
    ///
    /// # Errors
    ///
    /// When the database is away, or its `keys` schema is not migrated.
    pub async fn is_new(database: &Database) -> Result<bool, KeyError> {
        Ok(Store::new(database.clone()).master().await?.is_none())
    }

    /// Opens the keys in a database whose `keys` schema is migrated, and makes those that everybody needs if there are
    /// none. When several processes do so at once, all get the same.
    ///
    /// # Errors
    ///
    /// When the database is away, or `masters` are not the ones that its keys are wrapped under.
    pub async fn open(database: &Database, masters: MasterKeys) -> Result<Self, KeyError> {
        database.check_migrated(Schema::Keys).await?;
        let store = Store::new(database.clone());
        store.set_first_master(masters.current().id()).await?;
        let mut masters = Masters { current: masters.current().clone(), known: masters };
        masters.update(&store).await?;
        let key = secret_or_new(&store, &mut masters, DIGEST_KEY).await?;
        let left = if is_young(store.last_forgotten_ms().await?) { SCRUBS } else { 0 };
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                masters: RwLock::new(masters),
                digests: Digests::new(&key),
                subjects: Subjects::default(),
                unscrubbed: AtomicU8::new(left),
            }),
        })
    }

    /// What makes digests that only this installation can make.
    pub fn digests(&self) -> &Digests {
        &self.inner.digests
    }

    /// Seals the personal fields of an event's payload; `origin` is the event's id.
    ///
    /// # Errors
    ///
    /// When the cryptographic library fails.
    pub fn seal(&self, origin: Uuid, payload: String) -> Result<Sealing<String>, KeyError> {
        self.sealing(|seal| seal_fields(payload, origin, seal))
    }

    /// Seals the personal fields of metadata.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal).
    pub fn seal_metadata(&self, metadata: Metadata) -> Result<Sealing<Metadata>, KeyError> {
        self.sealing(|seal| metadata.seal(seal))
    }

    fn sealing<T>(
        &self,
        run: impl FnOnce(&mut dyn FnMut(Origin<'_>, &str) -> Option<String>) -> Sealing<T>,
    ) -> Result<Sealing<T>, KeyError> {
        let mut failed = false;
        let sealing = run(&mut |origin, plain| match self.inner.subjects.seal(origin, plain)? {
            Ok(sealed) => Some(sealed),
            Err(_) => {
                failed = true;
                None
            }
        });
        if failed { Err(KeyError::Cipher) } else { Ok(sealing) }
    }

    /// Brings the keys of these subjects into memory. Those that have none get one, which is stored when this returns.
    ///
    /// # Errors
    ///
    /// When the database is away, or holds what cannot be unwrapped.
    pub async fn fetch(&self, subjects: &[String]) -> Result<(), KeyError> {
        for _ in 0..TRIES {
            let mut found = self.look_up(subjects).await?;
            let absent: BTreeSet<_> = subjects.iter().filter(|subject| !found.contains_key(*subject)).collect();
            for subject in absent {
                if let Some(key) = self.make(subject).await? {
                    found.insert(subject.clone(), key);
                }
            }
            self.inner.subjects.add(&found);
            if subjects.iter().all(|subject| found.contains_key(subject)) {
                return Ok(());
            }
        }
        Err(KeyError::Unavailable("they are being rotated".into()))
    }

    /// Seals a payload, whosever keys it takes. See [`seal`](Self::seal).
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn sealed(&self, origin: Uuid, mut payload: String) -> Result<String, KeyError> {
        loop {
            match self.seal(origin, payload)? {
                Sealing::Sealed(sealed) => return Ok(sealed),
                Sealing::Missing(rest, subjects) => {
                    self.fetch(&subjects).await?;
                    payload = rest;
                }
            }
        }
    }

    /// Seals metadata, whosever keys it takes. See [`seal_metadata`](Self::seal_metadata).
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn sealed_metadata(&self, mut metadata: Metadata) -> Result<Metadata, KeyError> {
        loop {
            match self.seal_metadata(metadata)? {
                Sealing::Sealed(sealed) => return Ok(sealed),
                Sealing::Missing(rest, subjects) => {
                    self.fetch(&subjects).await?;
                    metadata = rest;
                }
            }
        }
    }

    /// Opens the personal fields of documents for a reader who may open those of which `may_open` says so. The fields
    /// of a person who was forgotten read `{"erased": true}`, and those that stay closed `{"sealed": true}`. What holds
    /// none stays as it is, to the byte.
    ///
    /// # Errors
    ///
    /// When the database is away. A field that is damaged stays closed, and the process's own log says so.
    pub async fn open_documents(
        &self,
        documents: Vec<Box<RawValue>>,
        may_open: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<OpenedDocuments, KeyError> {
        let keys = self.keys_of(subjects_of(&documents)).await?;
        let mut opened =
            OpenedDocuments { documents: Vec::with_capacity(documents.len()), subjects: BTreeSet::new() };
        for document in documents {
            let text = open_fields(document.get(), &mut |origin, sealed| match keys.get(origin.subject) {
                Some(SubjectKey::Forgotten) => Opened::Erased,
                _ if !may_open(origin.subject) => Opened::Sealed,
                key => match key.and_then(|key| key.open(origin, sealed)) {
                    Some(value) => {
                        if !opened.subjects.contains(origin.subject) {
                            opened.subjects.insert(origin.subject.to_owned());
                        }
                        value
                    }
                    None => {
                        tracing::error!(
                            subject = origin.subject,
                            of = origin.of,
                            "a personal field cannot be opened"
                        );
                        Opened::Sealed
                    }
                },
            });
            // Fields were replaced by JSON.
            let json = text.and_then(|text| RawValue::from_string(text).ok());
            opened.documents.push(json.unwrap_or(document));
        }
        Ok(opened)
    }

    /// The people whose data is in documents, and whether they were forgotten.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn people_in(&self, documents: &[Box<RawValue>]) -> Result<BTreeMap<String, bool>, KeyError> {
        let subjects = subjects_of(documents);
        let keys = self.keys_of(subjects.clone()).await?;
        let is_forgotten = |subject: &String| matches!(keys.get(subject), Some(SubjectKey::Forgotten));
        let forgotten: Vec<_> = subjects.iter().map(is_forgotten).collect();
        Ok(subjects.into_iter().zip(forgotten).collect())
    }

    /// Forgets a subject: its key is deleted, here and in the store. A tombstone stays. Doing so again changes nothing.
    ///
    /// # Errors
    ///
    /// When the database is away. In this process the subject is forgotten all the same.
    pub async fn forget(&self, subject: &str) -> Result<(), KeyError> {
        self.inner.subjects.forget(subject);
        self.inner.store.forget_subject(subject, Utc::now().timestamp_millis()).await?;
        if is_young(self.inner.store.forgotten_ms(subject).await?) {
            self.inner.unscrubbed.store(SCRUBS, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes back the key of a subject of whom nothing was stored: somebody who was to come and never did. One who was
    /// forgotten stays so.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn discard(&self, subject: &str) -> Result<(), KeyError> {
        self.inner.subjects.discard(subject);
        self.inner.store.discard_subject(subject).await
    }

    /// Deletes the keys of days that are over for more than [`DAYS_KEPT`](Self::DAYS_KEPT) days.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn forget_days(&self, now: DateTime<Utc>) -> Result<(), KeyError> {
        let before = now.date_naive().checked_sub_days(Days::new(Self::DAYS_KEPT)).unwrap_or_default();
        let before = day_subject(before);
        self.inner.subjects.forget_days(&before);
        if self.inner.store.forget_days(&before, now.timestamp_millis()).await? {
            self.inner.unscrubbed.store(SCRUBS, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Removes what deleted keys have left behind in the store, if they have; to be called now and then. What cannot be
    /// removed now is tried again the next time.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn scrub(&self) -> Result<(), KeyError> {
        let left = self.inner.unscrubbed.load(Ordering::Relaxed);
        if left > 0 && self.inner.store.scrub().await? {
            // Unless somebody was forgotten meanwhile.
            let _ = self.inner.unscrubbed.compare_exchange(left, left - 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The keys that access tokens are signed with, the oldest first.
    ///
    /// # Errors
    ///
    /// When the database is away, or holds what cannot be unwrapped.
    pub async fn signing_keys(&self) -> Result<Vec<StoredSigningKey>, KeyError> {
        let mut keys = Vec::new();
        for (number, wrapped, sign_from_ms, verify_until_ms) in self.inner.store.signing_keys().await? {
            let pkcs8 = self.unwrap(&Place::Signing(number, sign_from_ms).name(), &wrapped).await?;
            keys.push(StoredSigningKey { number, pkcs8, sign_from_ms, verify_until_ms });
        }
        Ok(keys)
    }

    /// Stores the signing key that follows the one with the number `after` (0 for the first), and lets those before it
    /// retire. Of two processes that do so at once, one does.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn add_signing_key(
        &self,
        after: i64,
        pkcs8: &[u8],
        sign_from_ms: i64,
        retire_at_ms: i64,
    ) -> Result<(), KeyError> {
        for _ in 0..TRIES {
            if self.insert(Place::Signing(after + 1, sign_from_ms), pkcs8).await? {
                return self.inner.store.retire_signing_keys(after, retire_at_ms).await;
            }
            if self.inner.store.signing_keys().await?.last().is_some_and(|(newest, ..)| *newest > after) {
                return Ok(());
            }
        }
        Err(KeyError::Unavailable("they are being rotated".into()))
    }

    /// The keys of these subjects, as far as there are any; out of memory where they are there.
    async fn keys_of(&self, subjects: BTreeSet<String>) -> Result<HashMap<String, SubjectKey>, KeyError> {
        let (mut keys, mut unknown) = (HashMap::new(), Vec::new());
        for subject in subjects {
            match self.inner.subjects.get(&subject) {
                Some(key) => drop(keys.insert(subject, key)),
                None => unknown.push(subject),
            }
        }
        if !unknown.is_empty() {
            // On the heap: most of what waits for this finds all keys in memory.
            let found = Box::pin(self.look_up(&unknown)).await?;
            self.inner.subjects.add(&found);
            keys.extend(found);
        }
        Ok(keys)
    }

    /// The keys of these subjects, as far as there are any.
    async fn look_up(&self, subjects: &[String]) -> Result<HashMap<String, SubjectKey>, KeyError> {
        let mut keys = HashMap::new();
        for (subject, wrapped) in self.inner.store.subjects(subjects).await? {
            let key = match wrapped {
                Some(wrapped) => {
                    SubjectKey::new(&self.unwrap(&Table::SubjectKeys.name(&subject), &wrapped).await?)?
                }
                None => SubjectKey::Forgotten,
            };
            keys.insert(subject, key);
        }
        Ok(keys)
    }

    /// Makes a key for a subject that has none; `None` when somebody else was first, or the master key has changed.
    async fn make(&self, subject: &str) -> Result<Option<SubjectKey>, KeyError> {
        let bytes = aead::draw()?;
        let made = self.insert(Place::Subject(subject), &bytes[..]).await?;
        Ok(if made { Some(SubjectKey::new(&bytes[..])?) } else { None })
    }

    /// Stores something under the current master key; what is current is looked up again when that did not succeed.
    async fn insert(&self, place: Place<'_>, secret: &[u8]) -> Result<bool, KeyError> {
        let mut masters = self.masters();
        let inserted = insert(&self.inner.store, &masters, place, secret).await?;
        if !inserted {
            masters.update(&self.inner.store).await?;
            self.set_masters(masters);
        }
        Ok(inserted)
    }

    async fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let mut masters = self.masters();
        if let Some(secret) = masters.known.unwrap(name, wrapped)? {
            return Ok(secret);
        }
        let secret = masters.unwrap(name, wrapped)?;
        self.set_masters(masters);
        Ok(secret)
    }

    fn masters(&self) -> Masters {
        self.inner.masters.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_masters(&self, masters: Masters) {
        *self.inner.masters.write().unwrap_or_else(PoisonError::into_inner) = masters;
    }
}

/// Without the keys.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Masters {
    /// Looks up what everything is wrapped under now.
    async fn update(&mut self, store: &Store) -> Result<(), KeyError> {
        let Some(id) = store.master().await? else { return Err(KeyError::Damaged("master_key".into())) };
        self.learn(id)?;
        if let Some(current) = self.known.find(id) {
            self.current = current.clone();
        }
        Ok(())
    }

    /// Reads the master keys again when one is needed that is not among them.
    fn learn(&mut self, needed: MasterId) -> Result<(), KeyError> {
        if self.known.find(needed).is_some() {
            return Ok(());
        }
        if let Some(known) = self.known.read_again()? {
            self.known = known;
        }
        match self.known.find(needed) {
            Some(_) => Ok(()),
            None => Err(KeyError::UnknownMaster { needed, given: self.known.names() }),
        }
    }

    fn unwrap(&mut self, name: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.learn(wrapped_under(name, wrapped)?)?;
        self.known.unwrap(name, wrapped)?.ok_or_else(|| KeyError::Damaged(name.to_owned()))
    }
}

/// Whose data is in documents.
fn subjects_of(documents: &[Box<RawValue>]) -> BTreeSet<String> {
    let subjects = documents.iter().flat_map(|document| sealed_subjects(document.get()));
    subjects.map(|subject| subject.into_owned()).collect()
}

async fn insert(store: &Store, masters: &Masters, place: Place<'_>, secret: &[u8]) -> Result<bool, KeyError> {
    let bytes = masters.current.wrap(&place.name(), secret)?;
    let now_ms = Utc::now().timestamp_millis();
    store.insert(&Wrapped { place, under: masters.current.id(), bytes: &bytes, now_ms }).await
}

/// Whether a key was deleted so lately that something may be left of it.
fn is_young(forgotten_ms: Option<i64>) -> bool {
    forgotten_ms.is_some_and(|forgotten_ms| forgotten_ms > (Utc::now() - SCRUBBED_FOR).timestamp_millis())
}

/// The secret of this name; a new one, when there was none yet.
async fn secret_or_new(store: &Store, masters: &mut Masters, name: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let place = Place::Secret(name);
    for _ in 0..TRIES {
        if let Some(wrapped) = store.secret(name).await? {
            return masters.unwrap(&place.name(), &wrapped);
        }
        if !insert(store, masters, place, &aead::draw()?[..]).await? {
            masters.update(store).await?;
        }
    }
    Err(KeyError::Unavailable("they are being rotated".into()))
}
