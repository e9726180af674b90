//! Master keys: what wraps everything else. They come from outside, and are in no database.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::RandomizedNonceKey;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::aead::{self, KEY_BYTES, KeyBytes};
use crate::{KeyError, MasterKeyError};

/// Base64 with its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a wrapped key begins with: the version of its form.
const VERSION: u8 = 1;

/// How many bytes name a master key.
const ID_BYTES: usize = 8;

/// The name of a master key: the beginning of a digest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MasterId(pub(crate) [u8; ID_BYTES]);

impl fmt::Display for MasterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One master key.
pub(crate) struct MasterKey {
    id: MasterId,
    bytes: KeyBytes,
    cipher: RandomizedNonceKey,
}

impl MasterKey {
    fn new(bytes: KeyBytes) -> Result<Self, KeyError> {
        let hash = digest(&SHA256, &[b"daybook master key ", &bytes[..]].concat());
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash.as_ref()[..ID_BYTES]);
        Ok(Self { id: MasterId(id), cipher: aead::key(&bytes[..])?, bytes })
    }

    pub(crate) fn id(&self) -> MasterId {
        self.id
    }

    /// Wraps a secret, bound to its `name`: the version, the master key's id, a nonce, the ciphertext and its tag.
    pub(crate) fn wrap(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut head = [VERSION; 1 + ID_BYTES];
        head[1..].copy_from_slice(&self.id.0);
        Ok(aead::seal(&self.cipher, &head, name.as_bytes(), secret)?)
    }
}

/// The master key that something is wrapped under.
pub(crate) fn wrapped_under(name: &str, wrapped: &[u8]) -> Result<MasterId, KeyError> {
    match wrapped.get(1..=ID_BYTES).and_then(|id| id.try_into().ok()) {
        Some(id) if wrapped[0] == VERSION => Ok(MasterId(id)),
        _ => Err(KeyError::Damaged(name.to_owned())),
    }
}

/// The master keys that are known. Cheap to clone.
#[derive(Clone)]
pub struct MasterKeys {
    keys: Vec<Arc<MasterKey>>,
    /// The file that they are from, when they are from one.
    file: Option<PathBuf>,
}

impl MasterKeys {
    /// Reads keys from a text: each has 32 bytes, in base64 or as 64 hexadecimal digits, and they stand on lines of
    /// their own or behind commas. The first is the current one; with the others, what was wrapped under them can still
    /// be read.
    ///
    /// # Errors
    ///
    /// When there is none in it, or something else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for word in text.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()) {
            let bytes = decode(word).ok_or(MasterKeyError::Form(keys.len() + 1))?;
            keys.push(Arc::new(MasterKey::new(bytes)?));
        }
        if keys.is_empty() { Err(MasterKeyError::Empty.into()) } else { Ok(Self { keys, file: None }) }
    }

    /// Reads keys from a file, which is read again when a key is met that is not in it.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or as [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|source| failed(path, source))?;
        match Self::parse(&text) {
            Ok(keys) => Ok(Self { file: Some(path.to_owned()), ..keys }),
            Err(KeyError::Master(reason)) => {
                Err(MasterKeyError::Content { path: path.to_owned(), reason: Box::new(reason) }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Draws a key and writes it to a new file, readable for nobody else. When another process was first, answers what
    /// that one has written.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|source| failed(path, source))?;
        }
        let _lock = Lock::take(path)?;
        if !path.exists() {
            Self { keys: vec![Self::draw()?], file: Some(path.to_owned()) }.write()?;
        }
        Self::read(path)
    }

    fn draw() -> Result<Arc<MasterKey>, KeyError> {
        Ok(Arc::new(MasterKey::new(aead::draw()?)?))
    }

    /// Writes the file, whole or not at all.
    fn write(&self) -> Result<(), KeyError> {
        let Some(path) = &self.file else { return Ok(()) };
        let lines = self.keys.iter().map(|key| BASE64.encode(&key.bytes[..]) + "\n");
        let text = Zeroizing::new(lines.collect::<String>());
        let write = || {
            let next = path.with_extension("next");
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&next, path)?;
            File::open(path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")))?
                .sync_all()
        };
        Ok(write().map_err(|source| failed(path, source))?)
    }

    /// Puts a new key in front, in the file too.
    pub(crate) fn add_new(&mut self) -> Result<(), KeyError> {
        self.keys.insert(0, Self::draw()?);
        self.write()
    }

    /// Forgets all but the current key, in the file too.
    pub(crate) fn drop_old(&mut self) -> Result<(), KeyError> {
        self.keys.truncate(1);
        self.write()
    }

    /// What the file holds now, when they are from one.
    pub(crate) fn read_again(&self) -> Result<Option<Self>, KeyError> {
        self.file.as_deref().map(Self::read).transpose()
    }

    /// Keeps other processes from changing the file.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, KeyError> {
        Ok(self.file.as_deref().map(Lock::take).transpose()?)
    }

    /// The key of this id.
    pub(crate) fn find(&self, id: MasterId) -> Option<&Arc<MasterKey>> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The first one.
    pub(crate) fn current(&self) -> &Arc<MasterKey> {
        &self.keys[0]
    }

    /// All but the current one, which may be given more than once.
    pub(crate) fn others(&self) -> Vec<MasterId> {
        self.keys.iter().map(|key| key.id).filter(|id| *id != self.current().id).collect()
    }

    /// Whether it is one, from a file.
    pub(crate) fn is_one_from_file(&self) -> bool {
        self.file.is_some() && self.keys.len() == 1
    }

    /// Which they are, and where they are from.
    pub(crate) fn names(&self) -> String {
        let ids: Vec<_> = self.keys.iter().map(|key| key.id.to_string()).collect();
        match &self.file {
            Some(path) => format!("{} holds {}", path.display(), ids.join(", ")),
            None => format!("given is {}", ids.join(", ")),
        }
    }

    /// Unwraps what was wrapped under one of them; `None` when that is not known.
    pub(crate) fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
        let Some(key) = self.find(wrapped_under(name, wrapped)?) else { return Ok(None) };
        let secret = aead::open(&key.cipher, name.as_bytes(), &wrapped[1 + ID_BYTES..]);
        secret.map(Some).map_err(|_| KeyError::Damaged(name.to_owned()))
    }
}

/// Without the keys.
impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MasterKeys").field(&self.names()).finish()
    }
}

fn decode(word: &str) -> Option<KeyBytes> {
    let bytes = match word.len() {
        64 => hex::decode(word).ok()?,
        // The alphabet for URLs is as good.
        _ => BASE64.decode(word.replace('-', "+").replace('_', "/")).ok()?,
    };
    let bytes = Zeroizing::new(bytes);
    Some(Zeroizing::new(<[u8; KEY_BYTES]>::try_from(&bytes[..]).ok()?))
}

fn failed(path: &Path, source: std::io::Error) -> MasterKeyError {
    MasterKeyError::File { path: path.to_owned(), source }
}

/// Held by whoever changes the file of the master keys, until it is dropped or its process ends. Others wait.
pub(crate) struct Lock {
    /// Held, not read.
    _file: File,
}

impl Lock {
    fn take(path: &Path) -> Result<Self, MasterKeyError> {
        let lock = path.with_extension("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let file = file.map_err(|source| failed(&lock, source))?;
        match file.lock() {
            // Some file systems have no locks.
            Err(source) if source.kind() != ErrorKind::Unsupported => Err(failed(&lock, source)),
            _ => Ok(Self { _file: file }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn ids(text: &str) -> Vec<String> {
        MasterKeys::parse(text).expect("keys").keys.iter().map(|key| key.id.to_string()).collect()
    }

    #[test]
    fn a_key_is_the_same_in_any_spelling_and_the_first_is_current() {
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let one = ids(HEX);
        assert_eq!(one.len(), 1);
        for text in [&HEX.to_uppercase(), base64, base64.trim_end_matches('='), &format!("\n{HEX}\n\n")] {
            assert_eq!(ids(text), one, "{text}");
        }
        let both = ids(&format!("{ZERO}, {HEX}"));
        assert_eq!((both.len(), &both[1]), (2, &one[0]));
        assert_ne!(both[0], both[1]);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_quoted() {
        for text in ["", " , ", "secret", "AAAA", &format!("{HEX}00"), &format!("{ZERO},secret")] {
            let error = MasterKeys::parse(text).expect_err(text).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_unwrapped_under_its_name_and_master_key_only() {
        let keys = MasterKeys::parse(&format!("{ZERO},{HEX}")).expect("keys");
        let mut wrapped = keys.keys[1].wrap("secrets/digest", b"secret").expect("wrapped");
        let unwrapped = keys.unwrap("secrets/digest", &wrapped).expect("unwrapped").expect("known");
        assert_eq!(unwrapped.as_slice(), b"secret");
        assert!(
            MasterKeys::parse(ZERO).expect("keys").unwrap("secrets/digest", &wrapped).expect("read").is_none()
        );
        assert!(matches!(keys.unwrap("secrets/other", &wrapped), Err(KeyError::Damaged(_))));
        wrapped.truncate(8);
        assert!(matches!(keys.unwrap("secrets/digest", &wrapped), Err(KeyError::Damaged(_))));
    }

    /// Made with another implementation of AES-GCM.
    #[test]
    fn what_was_wrapped_once_can_be_unwrapped_for_ever() {
        let stored = "01b17745e2b5105ff26465666768696a6b6c6d6e6f3b7ebd141c9df87ceb215803c7a145df9c2f703b458f";
        let wrapped = hex::decode(stored).expect("hex");
        let secret = MasterKeys::parse(HEX).expect("a key").unwrap("subject_keys/account-1", &wrapped);
        assert_eq!(secret.expect("unwrapped").expect("known").as_slice(), b"secret");
    }

    #[test]
    fn a_file_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("new").join("master.key");
        let made = MasterKeys::create(&path).expect("made");
        assert_eq!(MasterKeys::create(&path).expect("read").current().id(), made.current().id());
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        drop(made.lock().expect("free").expect("a file"));
        assert!(MasterKeys::parse(HEX).expect("a key").lock().expect("nothing to lock").is_none());
    }
}
