//! A writer: a process with a log and a dispatcher as the server has them, and clients that ask for one thing after the
//! other, note down what they asked and what they heard, and ask again with the same key when they heard nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use daybook_core::{Command, CommandSpec, Receipt, Revision};
use daybook_database::{Database, Location, Options};
use daybook_dispatch::{DispatchError, Dispatcher, Preview, PreviewEvent, Request, Settings};
use daybook_keys::{Keys, MasterKeys};
use daybook_log::{Log, LogError};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Dice;
use crate::domain::{Perform, draw, seen_in};
use crate::journal::{self, Answer, Intent, Journal, Record, now};

/// How long a patient client waits for an answer, as the HTTP interface does.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How long the outcome of a commit is looked for. Short, so that it often cannot be found out, and whoever asked has to
/// ask again.
pub const LOOK_UP_TIMEOUT: Duration = Duration::from_millis(300);

/// How many intents of others a writer works on at the same time.
const ADOPTED_AT_ONCE: usize = 8;

/// How a writer works.
#[derive(Debug, Clone)]
pub struct WriterPlan {
    /// Where the log is.
    pub database: Location,
    /// The folder of the journals.
    pub journals: PathBuf,
    /// Which writer it is, from 1.
    pub writer: u32,
    /// How many times it was started, from 1.
    pub life: u32,
    /// What its dice start from.
    pub seed: u64,
    /// How many clients it has.
    pub clients: u32,
    /// How long its appender waits for the log's head, or for the file.
    pub lock_timeout: Duration,
}

/// What its standard input tells a writer, a line each.
pub mod orders {
    /// Start nothing new, finish all that was started, and end.
    pub const SETTLE: &str = "settle";
    /// Start nothing new for a while. What others wait for is still asked for.
    pub const REST: &str = "rest";
    /// Go on.
    pub const WORK: &str = "work";
    /// `adopt 3`: ask again, with the same key, for all that writer 3 waits for.
    pub const ADOPT: &str = "adopt ";
}

/// Works until it is told to settle, or its standard input closes.
///
/// # Errors
///
/// When it cannot go on. Nothing that was answered is lost then.
pub async fn run(plan: WriterPlan) -> anyhow::Result<()> {
    // Before its own journal is there: what its former lives wait for.
    let waiting = waiting(&plan, plan.writer)?;
    let journal = Journal::create(&journal::path(&plan.journals, plan.writer, plan.life))?;
    let (log, keys) = open(&plan).await;
    let settings = Settings { refusal_window: Duration::from_millis(300), ..Settings::default() };
    let dispatcher = Dispatcher::new(log.clone(), keys, settings);
    let (shift, now_on) = watch::channel(Shift::Work);
    let asked = Arc::default();
    let desk = Desk { dispatcher: dispatcher.clone(), journal: Arc::new(journal), asked, shift: now_on };
    let mut dice = Dice::new(plan.seed);
    let mut work = JoinSet::new();
    for client in 1..=plan.clients {
        let name = format!("{}.{}.{client}", plan.writer, plan.life);
        work.spawn(desk.clone().ask_on_and_on(name, dice.fork()));
    }
    // A fifth of the clients of a writer that was killed never come back.
    let (gone, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|_| dice.one_in(5));
    for intent in gone {
        desk.journal.write(&Record::Abandoned { token: intent.token })?;
    }
    work.spawn(desk.clone().adopt(waiting, dice.fork()));

    let mut orders = orders_from_stdin();
    loop {
        let line = tokio::select! {
            line = orders.recv() => line.context("nobody tells this writer what to do any more")?,
            () = log.ended() => anyhow::bail!("the appender has ended"),
            Some(ended) = work.join_next() => { ended??; continue }
        };
        match (line.as_str(), line.strip_prefix(orders::ADOPT)) {
            (_, Some(other)) => {
                let theirs = self::waiting(&plan, other.parse()?)?;
                work.spawn(desk.clone().adopt(theirs, dice.fork()));
            }
            (orders::REST, _) => drop(shift.send_replace(Shift::Rest)),
            (orders::WORK, _) => drop(shift.send_replace(Shift::Work)),
            (orders::SETTLE, _) => break,
            _ => anyhow::bail!("`{line}` is no order"),
        }
    }
    shift.send_replace(Shift::Settle);
    while let Some(ended) = work.join_next().await {
        ended??;
    }
    dispatcher.close().await;
    log.close().await;
    Ok(())
}

/// The lines of the standard input. A thread reads them, which nobody waits for in the end.
pub(crate) fn orders_from_stdin() -> mpsc::UnboundedReceiver<String> {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    orders
}

/// The master key of every process of a campaign, secret from nobody.
const MASTER_KEY: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

/// Opens the log, as often as it takes.
async fn open(plan: &WriterPlan) -> (Log, Keys) {
    let options = Options { busy_timeout: plan.lock_timeout, ..Options::default() };
    let settings = daybook_log::Settings {
        lock_timeout: plan.lock_timeout,
        look_up_timeout: LOOK_UP_TIMEOUT,
        ..daybook_log::Settings::default()
    };
    loop {
        match Database::connect(&plan.database, &options).await {
            Ok(database) => match try_open(database, settings.clone()).await {
                Ok(opened) => return opened,
                Err(error) => tracing::warn!(%error, "the log does not open"),
            },
            Err(error) => tracing::warn!(%error, "the database does not answer"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn try_open(database: Database, settings: daybook_log::Settings) -> anyhow::Result<(Log, Keys)> {
    let keys = Keys::open(&database, MasterKeys::parse(MASTER_KEY)?).await?;
    Ok((Log::open(database, settings).await?, keys))
}

/// What a writer waits for according to its journals, and may be asked for again.
fn waiting(plan: &WriterPlan, writer: u32) -> anyhow::Result<Vec<Intent>> {
    let mut waiting = BTreeMap::new();
    let mut over = BTreeSet::new();
    for (_, records) in journal::read_all(&plan.journals, writer)? {
        for record in records {
            match record {
                Record::Intent(intent) if intent.keyed => {
                    waiting.insert(intent.token.clone(), intent);
                }
                Record::Answered { token, answer, .. } if answer.is_final() => {
                    over.insert(token);
                }
                Record::Abandoned { token } => {
                    over.insert(token);
                }
                Record::Intent(_) | Record::Sent { .. } | Record::TriedOut { .. } | Record::Answered { .. } => {}
            }
        }
    }
    Ok(waiting.into_values().filter(|intent| !over.contains(&intent.token)).collect())
}

/// Where clients ask.
#[derive(Clone)]
struct Desk {
    dispatcher: Dispatcher,
    journal: Arc<Journal>,
    /// What is being asked for. Nothing is asked for twice at a time here: that is for other processes to do.
    asked: Arc<Mutex<HashSet<String>>>,
    shift: watch::Receiver<Shift>,
}

/// What the clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shift {
    Work,
    Rest,
    Settle,
}

impl Desk {
    /// A client that asks for one thing after the other.
    async fn ask_on_and_on(mut self, name: String, mut dice: Dice) -> anyhow::Result<()> {
        let mut done: Vec<Intent> = Vec::new();
        let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
        for count in 1.. {
            if *self.shift.wait_for(|shift| *shift != Shift::Rest).await? == Shift::Settle {
                break;
            }
            if !done.is_empty() && dice.one_in(20) {
                // What was done is asked for again: it gets its first receipt, whoever answers.
                let again = dice.pick(&done).clone();
                self.ask(&again, &mut dice).await?;
                continue;
            }
            let act = draw(&mut dice);
            let known = revisions.get(&act.target()).copied();
            let if_match = known.filter(|_| dice.one_in(8));
            let keyed = !dice.one_in(5);
            let intent = Intent { token: format!("{name}.{count}"), act, keyed, if_match };
            if dice.one_in(10) {
                self.try_out(intent).await?;
                continue;
            }
            self.journal.write(&Record::Intent(intent.clone()))?;
            if let Some(Answer::Done(receipt)) = self.ask(&intent, &mut dice).await? {
                remember(&mut revisions, &receipt);
                if keyed {
                    done.push(intent);
                }
            }
            sleep(dice.ms(0, 6)).await;
        }
        Ok(())
    }

    /// Asks for what others wait for.
    async fn adopt(self, intents: Vec<Intent>, mut dice: Dice) -> anyhow::Result<()> {
        let places = Arc::new(Semaphore::new(ADOPTED_AT_ONCE));
        let mut asking = JoinSet::new();
        for intent in intents {
            let place = Arc::clone(&places).acquire_owned().await?;
            let (desk, mut dice) = (self.clone(), dice.fork());
            desk.journal.write(&Record::Intent(intent.clone()))?;
            asking.spawn(async move {
                let _place = place;
                desk.ask(&intent, &mut dice).await.map(drop)
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked??;
        }
        Ok(())
    }

    /// Asks until there is an answer; only once when there is no key to ask again with. `None` when somebody here is
    /// asking for it already.
    async fn ask(&self, intent: &Intent, dice: &mut Dice) -> anyhow::Result<Option<Answer>> {
        if !self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(intent.token.clone()) {
            return Ok(None);
        }
        let mut attempt = 0;
        let answer = loop {
            attempt += 1;
            let answer = self.ask_once(intent, attempt, dice).await?;
            if answer.is_final() || !intent.keyed {
                break answer;
            }
            sleep(dice.ms(0, 50)).await;
        };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&intent.token);
        Ok(Some(answer))
    }

    /// Asks once, and notes it down before and after.
    async fn ask_once(&self, intent: &Intent, attempt: u32, dice: &mut Dice) -> anyhow::Result<Answer> {
        let token = &intent.token;
        self.journal.write(&Record::Sent { token: token.clone(), attempt, at: now() })?;
        let limit = if dice.one_in(20) { dice.ms(0, 30) } else { ANSWER_LIMIT };
        let answer = timeout(limit, self.send(intent)).await.unwrap_or(Answer::GaveUp);
        let record = Record::Answered { token: token.clone(), attempt, at: now(), answer: answer.clone() };
        self.journal.write(&record)?;
        Ok(answer)
    }

    /// Asks what would be done, once, and notes the answer down.
    async fn try_out(&self, intent: Intent) -> anyhow::Result<()> {
        let (command, request) = asked(&intent);
        let (spec, body) = (CommandSpec::of::<Perform>(), serde_json::to_vec(&command)?);
        let sent = now();
        let answer = match timeout(ANSWER_LIMIT, self.dispatcher.preview(&spec, &body, &request)).await {
            Ok(Ok(preview)) => would_be(preview)?,
            Ok(Err(error)) => refusal(error),
            Err(_) => Answer::GaveUp,
        };
        self.journal.write(&Record::TriedOut { intent, sent, at: now(), answer })?;
        Ok(())
    }

    async fn send(&self, intent: &Intent) -> Answer {
        let (command, request) = asked(intent);
        let answer = self.dispatcher.run(Perform::NAME, Perform::ACCESS, &command, &request).await;
        answer.map_or_else(refusal, Answer::Done)
    }
}

/// The command, and how it is sent.
fn asked(intent: &Intent) -> (Perform, Request) {
    let command = Perform { token: intent.token.clone(), act: intent.act.clone() };
    let request = Request {
        idempotency_key: intent.keyed.then(|| intent.token.clone()),
        if_match: intent.if_match.map(Revision::new),
        ..Request::system("campaign")
    };
    (command, request)
}

fn would_be(preview: Preview) -> anyhow::Result<Answer> {
    let change =
        |event: PreviewEvent| Ok((event.stream.id().to_owned(), serde_json::from_str(event.payload.get())?));
    let changes = preview.events.into_iter().map(change).collect::<anyhow::Result<_>>()?;
    Ok(Answer::WouldBe { position: preview.position.get(), changes })
}

/// What it means that a command was not done.
fn refusal(error: DispatchError) -> Answer {
    match error {
        DispatchError::Rejected(rejection) => {
            let seen = seen_in(&rejection);
            match rejection.code.into_owned() {
                code if seen.is_empty() => Answer::Wrong(format!("{code}: of nothing")),
                code => Answer::Rejected { code, seen },
            }
        }
        DispatchError::Precondition { actual, .. } => Answer::Precondition { actual: actual.get() },
        DispatchError::Log(LogError::Unknown) => Answer::Unknown,
        DispatchError::InFlight => Answer::InFlight,
        error @ DispatchError::Conflict => Answer::NotDone(error.to_string()),
        DispatchError::Log(error @ (LogError::Unavailable(_) | LogError::Busy | LogError::Closed)) => {
            Answer::NotDone(error.to_string())
        }
        DispatchError::Unrecorded(cause)
            if matches!(
                *cause,
                DispatchError::Log(
                    LogError::Unavailable(_) | LogError::Busy | LogError::Closed | LogError::Unknown
                )
            ) =>
        {
            Answer::NotDone(cause.to_string())
        }
        error => Answer::Wrong(error.to_string()),
    }
}

fn remember(revisions: &mut BTreeMap<String, u64>, receipt: &Receipt) {
    for event in &receipt.events {
        revisions.insert(event.stream.id().to_owned(), event.revision.get());
    }
}
