//! Where the master keys come from.

use anyhow::{Context, bail};
use daybook_database::{Database, Location};
use daybook_keys::{Keys, MasterKeys};

use crate::config::Config;
use crate::terminal;

/// Whether a master key may be made when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is, with a word of warning. For a demonstration.
    IsMade,
    /// It is for an embedded store, whose keys are in a file too; on PostgreSQL it has to be given.
    IsMadeForEmbedded,
}

/// The master keys that are configured: given, or in their file.
pub(crate) async fn keys(config: &Config, database: &Database, missing: Missing) -> anyhow::Result<MasterKeys> {
    if let Some(given) = &config.master_key {
        return MasterKeys::parse(given).context("`master_key`");
    }
    let path = &config.master_key_file;
    if path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        return Ok(MasterKeys::read(path)?);
    }
    if !Keys::is_new(database).await? {
        bail!(
            "the master key is not there: {} does not exist, and the keys in {} were wrapped under one. Give it with \
             `DAYBOOK_MASTER_KEY`, or its file with `DAYBOOK_MASTER_KEY_FILE`. Without it no personal data can be read",
            path.display(),
            config.keys
        );
    }
    let may_be_made = missing == Missing::IsMade || matches!(config.keys, Location::Sqlite(_));
    if !may_be_made {
        bail!(
            "there is no master key. Draw one (`openssl rand -base64 32`), keep it apart from the databases and their \
             backups, and give it with `DAYBOOK_MASTER_KEY`, or in a file with `DAYBOOK_MASTER_KEY_FILE`"
        );
    }
    let made = MasterKeys::create(path)?;
    terminal::notice(format_args!(
        "warning: made a master key in {}. Whoever has it and the keys in {} can read all personal data, and without it \
         nobody can: keep a copy of it, apart from the backups of the data",
        path.display(),
        config.keys
    ))?;
    Ok(made)
}
