//! The verbs that do one thing and end.

mod events;
mod status;
mod user;

use serde_json::json;

pub(crate) use events::events;
pub(crate) use status::status;
pub(crate) use user::user;

use crate::config::Config;
use crate::engine::Databases;
use crate::settings::{Resolved, SETTINGS};
use crate::terminal;

/// `daybook config`: each value, and where it came from.
pub(crate) fn config(settings: &Resolved, as_json: bool) -> anyhow::Result<()> {
    let shown = |setting: &crate::settings::Setting| {
        let (value, source) = settings.get(setting.key);
        (setting.key, value.map(without_password), source.to_string())
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

/// A value as it may be shown: a URL without its password.
fn without_password(value: &str) -> String {
    match value.parse::<daybook_database::Location>() {
        Ok(location @ daybook_database::Location::Postgres(_)) => location.to_string(),
        _ => value.to_owned(),
    }
}

/// `daybook migrate`
pub(crate) async fn migrate(config: &Config) -> anyhow::Result<()> {
    let databases = Databases::create(config).await?;
    databases.migrate().await?;
    databases.close().await;
    terminal::line("the schemas of log, views and keys are up to date")
}
