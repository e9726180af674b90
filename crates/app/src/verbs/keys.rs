//! `daybook keys …`

use anyhow::bail;
use clap::ArgMatches;
use daybook_keys::Rotated;
use serde_json::json;

use crate::config::Config;
use crate::engine::Databases;
use crate::master::{self, Missing};
use crate::terminal;

/// Manages keys.
pub(crate) async fn keys(config: &Config, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let Some(("rotate", _)) = arguments.subcommand() else { bail!("say what to do with the keys: rotate") };
    let databases = Databases::open(config).await?;
    let masters = master::keys(config, &databases.keys, Missing::IsMadeForEmbedded).await?;
    let rotated = daybook_keys::rotate(&databases.keys, masters).await;
    databases.close().await;
    let Rotated { from, to, drawn, others, rewrapped } = rotated?;
    let from = from.map(|id| id.to_string());
    let others: Vec<_> = others.into_iter().map(|id| id.to_string()).collect();
    if as_json {
        return terminal::json(&json!({
            "from": from, "to": to.to_string(), "drawn": drawn, "others": others, "rewrapped": rewrapped,
        }));
    }
    terminal::line(format_args!("{rewrapped} keys are wrapped under the master key {to}"))?;
    match from {
        Some(from) if drawn => terminal::line(format_args!(
            "{from} is gone from {}: {to} is there now",
            config.master_key_file.display()
        )),
        None if drawn => Ok(()),
        _ if others.is_empty() => terminal::line(format_args!(
            "{to} is the only master key that is given: to rotate, put a new one in front of it"
        )),
        _ => terminal::line(format_args!("need not be given any more: {}", others.join(", "))),
    }
}
