//! Rotating the master key.
//!
//! Each step can be the last one before a crash, and all can be done again: a new key is put in front of the others
//! where they are kept; then the database says that everything is wrapped under it from now on, which running processes
//! notice when they next wrap or unwrap; then everything is wrapped anew; and only when nothing is wrapped under them
//! any more, the old keys go.

use daybook_database::{Database, Schema};

use crate::master::wrapped_under;
use crate::store::{Store, Table};
use crate::{KeyError, MasterId, MasterKeys};

/// How many rows are wrapped anew at a time.
const PAGE: i64 = 500;

/// What a rotation did.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The master key until then.
    pub from: Option<MasterId>,
    /// The master key from now on.
    pub to: MasterId,
    /// Whether it was drawn now, and the ones before it are gone from their file.
    pub drawn: bool,
    /// The others that are given: nothing is wrapped under them any more.
    pub others: Vec<MasterId>,
    /// How many keys were wrapped anew.
    pub rewrapped: u64,
}

/// Wraps everything in the database under another master key: a new one, which comes to stand in the file, when one key stands
/// there. Otherwise the first one of `masters`: they were given, or somebody has put it in front of the other in the file, or a
/// rotation broke off that had drawn it. Servers may run meanwhile.
///
/// # Errors
///
/// When the database is away, something in it is wrapped under a key that is not known, or the file cannot be written.
/// The same can be done again.
pub async fn rotate(database: &Database, masters: MasterKeys) -> Result<Rotated, KeyError> {
    database.check_migrated(Schema::Keys).await?;
    let store = Store::new(database.clone());
    let mut masters = masters.read_again()?.unwrap_or(masters);
    let drawn = masters.is_one_from_file();
    // Only whoever writes the file needs it for themselves: it may be mounted read-only.
    let _lock = if drawn { masters.lock()? } else { None };
    masters = masters.read_again()?.unwrap_or(masters);
    // Somebody else was first, and is done, or broke off.
    let drawn = drawn && masters.is_one_from_file();
    let from = store.master().await?;
    if let Some(needed) = from.filter(|id| masters.find(*id).is_none()) {
        return Err(KeyError::UnknownMaster { needed, given: masters.names() });
    }
    if drawn {
        masters.add_new()?;
    }
    let to = masters.current().id();
    store.set_first_master(to).await?;
    store.set_master(to).await?;
    let mut rewrapped = 0;
    for table in Table::ALL {
        rewrapped += rewrap(&store, &masters, table).await?;
    }
    store.scrub().await?;
    if drawn {
        masters.drop_old()?;
    }
    Ok(Rotated { from, to, drawn, others: masters.others(), rewrapped })
}

/// Wraps a table's rows anew.
async fn rewrap(store: &Store, masters: &MasterKeys, table: Table) -> Result<u64, KeyError> {
    let (mut rewrapped, mut after) = (0, String::new());
    loop {
        let rows = store.wrapped_after(table, &after, PAGE).await?;
        let Some((last, _)) = rows.last() else { return Ok(rewrapped) };
        after = last.clone();
        let mut anew = Vec::with_capacity(rows.len());
        for (key, old) in rows {
            let name = table.name(&key);
            let under = wrapped_under(&name, &old)?;
            if under == masters.current().id() {
                continue;
            }
            let secret = masters.unwrap(&name, &old)?;
            let secret =
                secret.ok_or_else(|| KeyError::UnknownMaster { needed: under, given: masters.names() })?;
            let new = masters.current().wrap(&name, &secret)?;
            anew.push((key, old, new));
        }
        rewrapped += anew.len() as u64;
        store.rewrap(table, &anew).await?;
    }
}
