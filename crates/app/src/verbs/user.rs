//! `daybook user …`

use std::io::{IsTerminal, Read};

use anyhow::{Context, bail};
use clap::ArgMatches;
use daybook_core::{Domain, Role};
use daybook_dispatch::Request;
use daybook_identity::NewAccount;
use serde_json::json;
use uuid::Uuid;

use crate::config::Config;
use crate::engine::{Databases, Engine};
use crate::master::Missing;
use crate::terminal;

/// Opens accounts and gives roles.
pub(crate) async fn user(
    domain: Domain,
    config: &Config,
    arguments: &ArgMatches,
    as_json: bool,
) -> anyhow::Result<()> {
    let databases = Databases::open(config).await?;
    let engine = Engine::start(domain, config, databases, Missing::IsMadeForEmbedded).await?;
    let outcome = match arguments.subcommand() {
        Some(("create", arguments)) => create(&engine, arguments, as_json).await,
        Some(("grant", arguments)) => grant(&engine, arguments, as_json).await,
        _ => bail!("say what to do with the user: create or grant"),
    };
    engine.stop().await;
    outcome
}

async fn create(engine: &Engine, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let email = email(arguments)?;
    let name = arguments.get_one::<String>("name").cloned().unwrap_or_else(|| email.clone());
    let roles: Vec<Role> = match arguments.get_many::<String>("role") {
        None => vec![Role::Customer],
        Some(names) => names.map(|name| name.parse().map_err(anyhow::Error::msg)).collect::<Result<_, _>>()?,
    };
    let given = arguments.get_flag("password-stdin").then(read_password).transpose()?;
    let drawn = given.is_none();
    let password = given.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
    let account = NewAccount { email: email.clone(), name, password: password.clone().into(), roles };
    let id = engine.identity.create_account(account, &Request::system("cli")).await?;
    if as_json {
        return terminal::json(&json!({"account_id": id, "email": email, "password": drawn.then_some(password)}));
    }
    terminal::line(format_args!("account {id} for {email}"))?;
    if drawn {
        terminal::line(format_args!("password {password}"))?;
    }
    Ok(())
}

async fn grant(engine: &Engine, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let email = email(arguments)?;
    let role: Role =
        arguments.get_one::<String>("role").context("which role?")?.parse().map_err(anyhow::Error::msg)?;
    engine.identity.grant(&email, role, &Request::system("cli")).await?;
    if as_json {
        return terminal::json(&json!({"email": email, "role": role}));
    }
    terminal::line(format_args!("{email} has the role {role}"))
}

fn email(arguments: &ArgMatches) -> anyhow::Result<String> {
    arguments.get_one::<String>("email").cloned().context("whose?")
}

fn read_password() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        return Ok(rpassword::prompt_password("Password: ")?);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
