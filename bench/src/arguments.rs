//! What measurements are told.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches};
use daybook_database::{Database, Location, Options, Schema};

use crate::calls::Window;

/// An argument that has a default.
pub(crate) fn with_default(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("VALUE").default_value(default).help(help)
}

/// Where the log is.
pub(crate) fn store() -> [Arg; 2] {
    [
        Arg::new("url").long("url").value_name("URL").help("The log's PostgreSQL database"),
        Arg::new("file").long("file").value_name("PATH").conflicts_with("url").help("The log's SQLite file"),
    ]
}

/// How much is asked, and for how long.
pub(crate) fn load() -> [Arg; 3] {
    [
        with_default("callers", "64", "How many call at a time"),
        with_default("warm-up", "2", "Seconds before anything counts"),
        with_default("seconds", "5", "Seconds that count"),
    ]
}

/// The text of an argument.
pub(crate) fn text<'a>(arguments: &'a ArgMatches, name: &str) -> anyhow::Result<&'a str> {
    arguments.get_one::<String>(name).map(String::as_str).with_context(|| format!("`--{name}` is missing"))
}

/// An argument, parsed.
pub(crate) fn parse<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    arguments: &ArgMatches,
    name: &str,
) -> anyhow::Result<T> {
    text(arguments, name)?.parse().with_context(|| format!("`--{name}`"))
}

/// Connects to the log as a process of Daybook does, and makes it when there is none.
pub(crate) async fn open(arguments: &ArgMatches) -> anyhow::Result<Database> {
    let database = Database::connect(&location(arguments, "url", "file")?, &Options::default()).await?;
    database.migrate(Schema::Log).await?;
    Ok(database)
}

/// Where a database is.
pub(crate) fn location(arguments: &ArgMatches, url: &str, file: &str) -> anyhow::Result<Location> {
    match (arguments.get_one::<String>(url), arguments.get_one::<String>(file)) {
        (Some(url), None) => Ok(url.parse()?),
        (None, Some(path)) => Ok(Location::Sqlite(path.into())),
        _ => bail!("say where: `--{url}` or `--{file}`"),
    }
}

/// When calls are made, and which of them count.
pub(crate) fn window(arguments: &ArgMatches) -> anyhow::Result<Window> {
    let seconds = |name| anyhow::Ok(Duration::try_from_secs_f64(parse(arguments, name)?)?);
    Ok(Window { warm_up: seconds("warm-up")?, measured: seconds("seconds")? })
}
