//! `daybook events schema`

use anyhow::{Context, bail};
use clap::ArgMatches;
use daybook_core::{Contracts, EventType};
use serde_json::{Map, Value};

use crate::terminal;

/// Prints the JSON Schema of one version of one event, or an object with those of all (`order.placed.v1`).
pub(crate) fn event_schema(contracts: &Contracts, arguments: &ArgMatches) -> anyhow::Result<()> {
    let Some(name) = arguments.get_one::<String>("type") else {
        let mut all = Map::new();
        for contract in contracts.iter() {
            for version in 1..=contract.version {
                all.insert(format!("{}.v{version}", contract.name), schema(contract, version)?);
            }
        }
        return terminal::json(&all);
    };
    let Some(contract) = contracts.get(name) else {
        let known: Vec<_> = contracts.iter().map(|contract| contract.name).collect();
        bail!("there is no event `{name}`; there are {}", known.join(", "));
    };
    let version = arguments.get_one::<u32>("schema-version").copied().unwrap_or(contract.version);
    terminal::json(&schema(contract, version)?)
}

fn schema(contract: &EventType, version: u32) -> anyhow::Result<Value> {
    let schema = contract.schema(version).with_context(|| format!("version {version} of `{}`", contract.name))?;
    schema.with_context(|| {
        format!("there is no version {version} of `{}`; the newest is {}", contract.name, contract.version)
    })
}
