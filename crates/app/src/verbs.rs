//! The verbs that do one thing and end.

mod backup;
mod bench;
mod events;
mod keys;
mod projection_try;
mod projection_verify;
mod restore;
mod schema;
mod status;
mod subject;
mod user;

use daybook_database::Location;
use serde_json::json;

pub(crate) use backup::backup;
pub(crate) use bench::{FillEvent, bench};
pub(crate) use events::events;
pub(crate) use keys::keys;
pub(crate) use projection_try::try_out;
pub(crate) use projection_verify::verify;
pub(crate) use restore::restore;
pub(crate) use schema::event_schema;
pub(crate) use status::status;
pub(crate) use subject::subject;
pub(crate) use user::user;

use crate::config::Config;
use crate::engine::Databases;
use crate::settings::{Resolved, SETTINGS, holds_password, is_secret};
use crate::terminal;

/// `daybook config`: each value, and where it came from.
pub(crate) fn config(settings: &Resolved, as_json: bool) -> anyhow::Result<()> {
    let shown = |setting: &crate::settings::Setting| {
        let (value, source) = settings.get(setting.key);
        (setting.key, value.map(|value| without_password(setting.key, value)), source.to_string())
    };
    if as_json {
        let all: Vec<_> = SETTINGS
            .iter()
            .map(shown)
            .map(|(key, value, source)| json!({"key": key, "value": value, "source": source}))
            .collect();
        return terminal::json(&all);
    }
    for (key, value, source) in SETTINGS.iter().map(shown) {
        terminal::line(format_args!("{key:20} {:40} {source}", value.as_deref().unwrap_or("-")))?;
    }
    Ok(())
}

/// A value as it may be shown: a URL without its password, and no secret.
fn without_password(key: &str, value: &str) -> String {
    match value.parse::<Location>() {
        _ if is_secret(key) => "(not shown)".to_owned(),
        _ if !holds_password(key) => value.to_owned(),
        Ok(location) => location.to_string(),
        Err(_) => "(not a URL)".to_owned(),
    }
}

/// `daybook migrate`
pub(crate) async fn migrate(config: &Config) -> anyhow::Result<()> {
    let databases = Databases::create(config).await?;
    databases.migrate().await?;
    databases.close().await;
    terminal::line("the schemas of log, views and keys are up to date")
}
