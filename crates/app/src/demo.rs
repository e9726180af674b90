//! `demo`: the demo's users, its history, and what it tells a newcomer.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::Utc;
use daybook_core::{Actor, Event, Metadata, Revision, Role, SeedActor, SeedStep, StreamId, event_set};
use daybook_dispatch::Request;
use daybook_identity::NewAccount;
use daybook_log::{Append, EventFilter, Expected, NewRecord, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::Config;
use crate::engine::Engine;
use crate::terminal;

/// The demo's history is complete.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DemoSeeded {
    /// How many commands it took.
    commands: u64,
}

impl Event for DemoSeeded {
    const TYPE: &'static str = "daybook.demo.seeded";
    const VERSION: u32 = 1;
}

event_set! {
    /// What happens to a demonstration.
    pub(crate) enum DemoEvent { DemoSeeded }
}

/// `<data>/demo.json`
#[derive(Debug, Serialize, Deserialize)]
struct DemoFile {
    base_url: String,
    users: Vec<DemoUser>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DemoUser {
    email: String,
    password: String,
    role: Role,
}

/// Makes the users and, once, the history.
pub(crate) async fn prepare(engine: &Engine, config: &Config, base_url: &str) -> anyhow::Result<()> {
    let path = path(config);
    let known = read(&path)?;
    let passwords_are_new = known.is_none();
    let users = match known {
        Some(file) => file.users,
        None => Role::ALL
            .into_iter()
            .map(|role| DemoUser { email: format!("{role}@demo.example"), password: password(), role })
            .collect(),
    };
    let file = DemoFile { base_url: base_url.to_owned(), users };
    write(&path, &file)?;
    let mut accounts = HashMap::new();
    for user in &file.users {
        let (name, roles) = (format!("Demo {}", user.role), vec![user.role]);
        let account = open_account(engine, &user.email, &name, &user.password, roles.clone()).await?;
        if passwords_are_new && account.was_there {
            let request = Request::system("demo");
            engine.identity.set_password(account.id, user.password.clone().into(), &request).await?;
        }
        accounts.insert(user.email.clone(), Actor::Account { id: account.id, roles });
    }
    seed(engine, &file, accounts).await
}

struct OpenAccount {
    id: Uuid,
    was_there: bool,
}

/// Opens an account, unless it is there.
async fn open_account(
    engine: &Engine,
    email: &str,
    name: &str,
    password: &str,
    roles: Vec<Role>,
) -> anyhow::Result<OpenAccount> {
    if let Some(id) = engine.identity.find_by_email(email).await? {
        return Ok(OpenAccount { id, was_there: true });
    }
    let (email, name, password) = (email.to_owned(), name.to_owned(), password.to_owned().into());
    let account = NewAccount { email, name, password, roles };
    let id = engine.identity.create_account(account, &Request::system("demo")).await?;
    Ok(OpenAccount { id, was_there: false })
}

/// Sends the commands of the domain's history. Each has an idempotency key, so one that was interrupted goes on
/// where it was.
async fn seed(engine: &Engine, file: &DemoFile, mut accounts: HashMap<String, Actor>) -> anyhow::Result<()> {
    let marker = StreamId::new("daybook.demo", engine.domain.name);
    let filter = EventFilter { stream: Some(marker.clone()), ..EventFilter::default() };
    if !engine.log.find(&filter, 1).await?.events.is_empty() {
        return Ok(());
    }
    let seed = (engine.domain.seed)();
    terminal::notice(format_args!("seeding the demo: {} commands", seed.steps.len()))?;
    for account in &seed.accounts {
        let roles = vec![Role::Customer];
        let opened = open_account(engine, &account.email, &account.name, &password(), roles.clone()).await?;
        accounts.insert(account.email.clone(), Actor::Account { id: opened.id, roles });
    }
    for (index, step) in seed.steps.iter().enumerate() {
        let actor = actor(step, file, &accounts)?;
        send(engine, index, step, actor).await?;
    }
    finish(engine, marker, seed.steps.len() as u64).await
}

fn actor(step: &SeedStep, file: &DemoFile, accounts: &HashMap<String, Actor>) -> anyhow::Result<Actor> {
    let email = match &step.actor {
        SeedActor::Account(email) => email,
        SeedActor::Role(role) => {
            let user = file.users.iter().find(|user| user.role == *role);
            &user.with_context(|| format!("the demo has no {role}"))?.email
        }
    };
    accounts.get(email).cloned().with_context(|| format!("the demo has no account {email}"))
}

async fn send(engine: &Engine, index: usize, step: &SeedStep, actor: Actor) -> anyhow::Result<()> {
    let spec = engine.domain.commands.get(step.command);
    let spec = spec.with_context(|| format!("the demo sends `{}`, which is not registered", step.command))?;
    let body = serde_json::to_vec(&step.body)?;
    let request = Request { actor, idempotency_key: Some(format!("demo-{index}")), ..Request::system("demo") };
    let sent = engine.dispatcher.dispatch(spec, &body, &request).await;
    sent.with_context(|| format!("the demo's command {index}, `{}`, was refused", step.command))?;
    Ok(())
}

/// Writes down that the history is complete.
async fn finish(engine: &Engine, marker: StreamId, commands: u64) -> anyhow::Result<()> {
    let seeded = DemoEvent::from(DemoSeeded { commands });
    let command_id = Uuid::now_v7();
    let request = Request::system("demo");
    let metadata: Metadata = request.metadata("daybook.demo", command_id, Utc::now());
    let append = Append {
        id: marker.id().to_owned(),
        command_id,
        events: vec![NewRecord::new(marker.clone(), &seeded)?],
        metadata,
        expected: vec![Expected { stream: marker, revision: Revision::NONE, read_at: None }],
        claims: Vec::new(),
        key: None,
        after: Vec::new(),
    };
    match engine.log.append(append).await? {
        Verdict::Committed(_) | Verdict::Conflict(_) => Ok(()),
        other => bail!("the demo's end could not be written: {other:?}"),
    }
}

/// A password that nobody guesses: 96 random bits.
fn password() -> String {
    let text = Uuid::new_v4().simple().to_string();
    [&text[..12], &text[20..]].concat()
}

fn path(config: &Config) -> PathBuf {
    config.data.join("demo.json")
}

fn read(path: &Path) -> anyhow::Result<Option<DemoFile>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes the file whole or not at all, readable for nobody else.
fn write(path: &Path, file: &DemoFile) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let next = path.with_extension("json.next");
        let mut out =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        out.write_all(&serde_json::to_vec_pretty(file)?)?;
        out.sync_all()?;
        Ok(std::fs::rename(&next, path)?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Tells a newcomer what there is and what to try.
pub(crate) fn welcome(engine: &Engine, config: &Config, base_url: &str) -> anyhow::Result<()> {
    let path = path(config);
    let file = read(&path)?.context("the demo's users are not written down")?;
    let width = file.users.iter().map(|user| user.email.len()).max().unwrap_or(0);
    terminal::notice(format_args!("\nDaybook is ready: {base_url}\n"))?;
    terminal::notice(format_args!("  API description   {base_url}/openapi.json"))?;
    terminal::notice(format_args!("  Health            {base_url}/health/ready"))?;
    terminal::notice(format_args!("  Users             also in {}\n", path.display()))?;
    for user in &file.users {
        terminal::notice(format_args!("    {:width$}  {}", user.email, user.password))?;
    }
    if let Some(lines) = example(engine, &file, base_url)? {
        terminal::notice(
            "\nTry, in another terminal: log in, send a command, read what came of it, see its history.\n",
        )?;
        lines.iter().try_for_each(terminal::notice)?;
    }
    terminal::notice("\nCtrl-C ends it; started again, it goes on where it was.")
}

/// Four lines for a shell, of which each uses what the one before found out.
fn example(engine: &Engine, file: &DemoFile, base_url: &str) -> anyhow::Result<Option<[String; 4]>> {
    let Some(example) = (engine.domain.seed)().example else { return Ok(None) };
    let user = file.users.iter().find(|user| user.role == example.role);
    let user = user.with_context(|| format!("the demo has no {}", example.role))?;
    let category = engine.domain.projections.get(example.view).map_or(example.view, |view| view.spec().category);
    let json = "-H 'Content-Type: application/json'";
    let token = r#"-H "Authorization: Bearer $TOKEN""#;
    let login = serde_json::json!({"email": user.email, "password": user.password});
    Ok(Some([
        format!(
            r#"TOKEN=$(curl -s {base_url}/v1/auth/login {json} -d '{login}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')"#
        ),
        format!(
            r#"RECEIPT=$(curl -s {base_url}/v1/commands/{} {token} {json} -d '{}'); echo "$RECEIPT"; ID=$(echo "$RECEIPT" | sed 's/.*"id":"\([^"]*\)".*/\1/')"#,
            example.command, example.body,
        ),
        format!(
            r#"curl -s {token} -H 'Prefer: wait=5' "{base_url}/v1/views/{}/$ID?min_position=$(echo "$RECEIPT" | sed 's/.*"command_id":"[^"]*","position":\([0-9]*\).*/\1/')"; echo"#,
            example.view,
        ),
        format!(r#"curl -s {token} {base_url}/v1/streams/{category}-$ID; echo"#),
    ]))
}
