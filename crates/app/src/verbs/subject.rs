//! `daybook subject …`

use anyhow::{Context, bail};
use clap::ArgMatches;
use daybook_core::{Domain, account_of_subject, account_subject};
use daybook_dispatch::Request;
use serde_json::json;

use crate::config::Config;
use crate::engine::{Databases, Engine};
use crate::master::Missing;
use crate::terminal;

/// Manages the personal data of people.
pub(crate) async fn subject(
    domain: Domain,
    config: &Config,
    arguments: &ArgMatches,
    as_json: bool,
) -> anyhow::Result<()> {
    let databases = Databases::open(config).await?;
    let engine = Engine::start(domain, config, databases, Missing::IsMadeForEmbedded).await?;
    let outcome = match arguments.subcommand() {
        Some(("forget", arguments)) => forget(&engine, arguments, as_json).await,
        _ => bail!("say what to do with the subject: forget"),
    };
    engine.stop().await;
    outcome
}

/// Sends the domain's own command: its rules hold for operators too.
async fn forget(engine: &Engine, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let account_id = match (arguments.get_one::<String>("subject"), arguments.get_one::<String>("email")) {
        (Some(subject), _) => {
            account_of_subject(subject).with_context(|| format!("`{subject}` is no account's"))?
        }
        (None, Some(email)) => {
            engine.identity.find_by_email(email).await?.context("there is no account with this e-mail address")?
        }
        (None, None) => bail!("whom?"),
    };
    let domain = &engine.domain;
    let forget =
        domain.forget_account.with_context(|| format!("`{}` has no way to forget anybody", domain.name))?;
    let (name, body) = forget(account_id);
    let spec = domain.commands.get(name).with_context(|| format!("`{name}` is not registered"))?;
    let receipt = engine.dispatcher.dispatch(spec, &serde_json::to_vec(&body)?, &Request::system("cli")).await?;
    engine.identity.forgotten(receipt.position).await?;
    let subject = account_subject(account_id);
    if as_json {
        return terminal::json(&json!({"subject": subject, "position": receipt.position}));
    }
    terminal::line(format_args!("{subject} is forgotten"))
}
