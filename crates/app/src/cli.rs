//! The command line.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use daybook_views::Act;

use crate::settings::{SETTINGS, is_secret};

/// The command line: every verb, and every setting that is no secret as a flag of all of them.
pub(crate) fn command() -> Command {
    let email = || Arg::new("email").required(true).value_name("EMAIL").help("The account's e-mail address");
    let count = |name| Arg::new(name).long(name).value_name("N").value_parser(clap::value_parser!(u64).range(1..));
    let path = |name| Arg::new(name).value_name("FOLDER").value_parser(clap::value_parser!(PathBuf));
    let role = |name| Arg::new(name).value_name("ROLE").help("customer, staff, analyst, operator or admin");
    let projection =
        || Arg::new("projection").required(true).value_name("PROJECTION").help("The projection's name");
    let key = || {
        let not_empty = NonEmptyStringValueParser::new();
        Arg::new("key").required(true).value_name("KEY").value_parser(not_empty).help("The document's key")
    };
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let acts = Act::ALL.map(|act| Command::new(act.name()).about(about(act)).arg(projection()));
    let verbs = [
        Command::new("demo").about("Serve a small shop with some history: the place to start"),
        Command::new("serve").about("Serve"),
        Command::new("migrate").about("Bring the databases' schemas up to date"),
        Command::new("status").about("Say how far the log and each projection are"),
        Command::new("config").about("Print each setting with where its value came from"),
        Command::new("openapi").about("Print the API's description (OpenAPI 3.1)"),
        Command::new("events").about("Look into the log").subcommand_required(true).subcommands([
            Command::new("tail").about("Print the newest events").args([
                Arg::new("lines").short('n').long("lines").value_name("N").default_value("20").help("How many"),
                Arg::new("follow").short('f').long("follow").action(ArgAction::SetTrue).help("Go on as they come"),
            ]),
            Command::new("show")
                .about("Print one event")
                .arg(Arg::new("position").required(true).value_name("POSITION").help("Its position")),
            Command::new("schema").about("Print the JSON Schemas of all versions of all events").args([
                Arg::new("type").value_name("TYPE").help("Only the newest version of this one (`order.placed`)"),
                Arg::new("schema-version")
                    .long("schema-version")
                    .value_name("N")
                    .value_parser(clap::value_parser!(u32))
                    .requires("type")
                    .help("This version of it"),
            ]),
        ]),
        Command::new("projection")
            .about("See how far projections are, and rebuild views")
            .subcommand_required(true)
            .subcommands([
                Command::new("list").about("Say how far each projection is"),
                Command::new("status").about("Say how far one is, with all its generations").args([
                    projection(),
                    flag("watch").help("Show how far the one is that is being built, until that is over"),
                ]),
                Command::new("rebuild")
                    .about("Build a view anew beside the one that is served, and put it in its place")
                    .args([
                        projection(),
                        flag("confirm-diff").help("Hold it when it differs, until somebody confirms it"),
                        flag("no-wait").help("Only begin it"),
                        flag("here").conflicts_with("no-wait").help("Have this process work on it too"),
                    ]),
            Command::new("verify")
                .about("Compare a view with the log; fails when it is not what the log says")
                .args([
                    projection(),
                    flag("full").help(
                        "All documents, in as many passes as it takes; else as many as fit into memory at once",
                    ),
                    count("memory-mib").default_value("256").help("How much memory documents may take, in MiB"),
                ]),
            Command::new("try")
                .about("Step through the log with a projection as this program has it; writes nothing")
                .args([
                    projection(),
                    Arg::new("key").long("key").value_name("KEY").help("Only what touches this document"),
                    count("from").default_value("1").help("From this position on"),
                    count("limit").default_value("20").help("At most so many events that touch documents"),
                ]),
            ])
            .subcommands(acts),
        Command::new("dead-letter")
            .about("See which events could not be applied to documents, and do something about them")
            .subcommand_required(true)
            .subcommands([
                Command::new("list")
                    .about("List them")
                    .arg(projection().required(false).help("Only those of this projection")),
                Command::new("show").about("Print those of a document").args([projection(), key()]),
                Command::new("retry").about("Try those of a document again").args([projection(), key()]),
                Command::new("skip").about("Pass the first one of a document over, and try those behind it").args(
                    [
                        projection(),
                        key(),
                        Arg::new("position").required(true).value_name("POSITION").help("Its position"),
                    ],
                ),
            ]),
        Command::new("bench").about("Measure what a long log costs").subcommand_required(true).subcommands([
            Command::new("fill").about("Write a log of made-up events; `cargo xtask bench` measures on it").args(
                [
                    count("events").required(true).help("How many events"),
                    count("streams").help("In how many streams; a tenth as many without it"),
                    Arg::new("ids")
                        .long("ids")
                        .value_parser(["ordered", "random"])
                        .default_value("ordered")
                        .help("What streams are named with: UUIDs of version 7 or of version 4"),
                    Arg::new("add")
                        .long("add")
                        .action(ArgAction::SetTrue)
                        .help("Write into a log that holds events already: they stay there for ever"),
                ],
            ),
        ]),
        Command::new("backup").about("Back up the log, with its views, while everything goes on").args([
            path("folder").required(true).help("Folder; one with a backup gets what was appended since"),
            path("keys").long("keys").help("Folder for keys and credentials: kept apart from the log"),
        ]),
        Command::new("restore").about("Make a log, and its views, from a backup").args([
            path("folder").required_unless_present("keys").help("Folder with the backup of a log"),
            path("keys").long("keys").help("Folder with the backup of its keys and credentials"),
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Only make sure that the backup is whole"),
            Arg::new("without-kafka")
                .long("without-kafka")
                .action(ArgAction::SetTrue)
                .help("Do not ask the brokers what was published of the log: nobody is going to read its topic any more"),
        ]),
        Command::new("keys")
            .about("Manage keys")
            .subcommand_required(true)
            .subcommands([Command::new("rotate").about(
            "Wrap all keys under another master key: a new one, when it is in a file; else the first one given",
        )]),
        Command::new("subject").about("Manage the personal data of people").subcommand_required(true).subcommands(
            [Command::new("forget")
                .about("Make all personal data of somebody unreadable, for ever, and close their account")
                .args([
                    Arg::new("subject").value_name("SUBJECT").help("Who (`account-018f…`)"),
                    Arg::new("email")
                        .long("email")
                        .value_name("EMAIL")
                        .conflicts_with("subject")
                        .required_unless_present("subject")
                        .help("Who, by the e-mail address of their account"),
                ])],
        ),
        Command::new("user").about("Manage accounts").subcommand_required(true).subcommands([
            Command::new("create")
                .about("Open an account; without a password to read, one is drawn and printed")
                .args([
                    email(),
                    Arg::new("name")
                        .long("name")
                        .value_name("NAME")
                        .help("The holder's name; the address without it"),
                    role("role").long("role").action(ArgAction::Append),
                    Arg::new("password-stdin")
                        .long("password-stdin")
                        .action(ArgAction::SetTrue)
                        .help("Read the password from standard input, without showing it on a terminal"),
                ]),
            Command::new("grant").about("Give an account a role").args([email(), role("role").required(true)]),
        ]),
    ];
    Command::new("daybook")
        .about("Daybook: an event-sourced backend. `daybook demo` shows one at work.")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(verbs)
        .arg(
            Arg::new("config-file")
                .long("config-file")
                .value_name("FILE")
                .env("DAYBOOK_CONFIG_FILE")
                .global(true)
                .help("TOML file with settings; ./daybook.toml when there is one"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).global(true).help("Answer in JSON"))
        .args(SETTINGS.iter().filter(|setting| !is_secret(setting.key)).map(|setting| {
            let default = setting.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
            Arg::new(setting.key)
                .long(setting.key.replace('_', "-"))
                .value_name("VALUE")
                .global(true)
                .help_heading("Settings")
                .help(format!("{} [env: {}]{default}", setting.help, setting.env))
        }))
}

fn about(act: Act) -> &'static str {
    match act {
        Act::Pause => "Let the generation that is being built wait",
        Act::Resume => "Let it go on; one that is held is compared again",
        Act::Abort => "Give it up",
        Act::Confirm => "Have it served though it differs",
        Act::Rollback => "Serve the generation again that was served before",
    }
}

/// What a flag was set to on the command line.
pub(crate) fn flag(matches: &ArgMatches, key: &str) -> Option<String> {
    // Secrets have none.
    matches.try_get_one::<String>(key).ok().flatten().cloned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
