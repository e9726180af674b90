//! The campaign of Kafka, from its beginning to its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use daybook_core::Position;
use daybook_database::{Database, Options};
use daybook_kafka::{Origin, Status, TopicName};
use daybook_log::{Log, Verdict};
use daybook_views::{Document, Projectors, ViewError, Views};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::check;
use super::faults::{Deck, Fault};
use super::proxy::Proxy;
use super::relay;
use super::topic::Topic;
use crate::drive::{Backend, Store, with_store};
use crate::fleet::{Harm, Process, SETTLE_LIMIT};
use crate::summary::{Summary, shortcomings};
use crate::views::drive::{Noted, list, tallies};
use crate::views::{self, domain, process};
use crate::{Dice, signal};

/// How long an append may take: nobody waits for Kafka.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How long projectors sleep at most while messages are removed that they have not read.
const SLEEP_LIMIT: Duration = Duration::from_secs(3);

/// How often they are put to sleep again, until something is published meanwhile.
const SLEEPS_MAX: u32 = 5;

/// How long the topic may stand still after the broker was away.
const AWAY_LIMIT: Duration = Duration::from_secs(30);

/// How many messages they miss then, if that many are published in time.
const MISSED: u64 = 20;

/// How many events in a row are read in the topic and nowhere else, once nothing goes wrong any more.
const UNDISTURBED: u64 = 100;

/// How many append.
const CLIENTS: usize = 3;

/// How many relays there are.
const RELAYS: usize = 2;

/// How many processes there are that project from the topic.
const PROJECTORS: usize = 2;

/// Where the broker is.
#[derive(Debug, Clone)]
pub struct Broker {
    /// For whoever is not disturbed.
    pub address: String,
    /// For relays and projectors, where a proxy can stand before it.
    pub detour: Option<Detour>,
    /// The file that says which process it is at this moment, where it may be killed: somebody starts it again.
    pub process: Option<PathBuf>,
}

/// Two ports of loopback: whoever comes by the first one is sent back to it by the broker, which listens on the second one.
#[derive(Debug, Clone, Copy)]
pub struct Detour {
    /// Where the proxy listens.
    pub proxy: u16,
    /// Where the broker listens for it.
    pub broker: u16,
}

/// What a campaign is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// On which store.
    pub backend: Backend,
    /// The server, when the store is on one.
    pub server_url: Option<String>,
    /// Where to publish.
    pub broker: Broker,
    /// Where everybody's notes go. Has to be there, and empty.
    pub notes: PathBuf,
    /// The program that the processes run: this crate's own.
    pub binary: PathBuf,
    /// What all dice start from.
    pub seed: u64,
    /// How many faults there are to be.
    pub faults: u64,
}

impl Plan {
    /// How long an append may take. On SQLite, a process that is stopped within a transaction holds the file (L10), and another
    /// one may be stopped as soon as it has it.
    fn answer_limit(&self) -> Duration {
        match self.backend {
            Backend::Postgres => ANSWER_LIMIT,
            Backend::Sqlite => ANSWER_LIMIT + 2 * SLEEP_LIMIT.max(Harm::longest(relay::LEASE)),
        }
    }
}

/// Runs a campaign.
///
/// # Errors
///
/// When it cannot be run. What was wrong is part of the summary, and no error.
pub async fn run(plan: &Plan) -> anyhow::Result<Summary> {
    // What is fed from the log lies elsewhere, so that nothing but the log is common to both.
    let elsewhere = plan.notes.join("fed-from-the-log");
    std::fs::create_dir(&elsewhere)?;
    let server_url = plan.server_url.as_deref();
    with_store(plan.backend, server_url, &plan.notes, async |store| {
        let work = async |fed_from_log: &Store| campaign(plan, store, fed_from_log).await;
        with_store(plan.backend, server_url, &elsewhere, work).await
    })
    .await
}

async fn campaign(plan: &Plan, store: &Store, fed_from_log: &Store) -> anyhow::Result<Summary> {
    let begun = Instant::now();
    let mut dice = Dice::new(plan.seed);
    let patient = Options { busy_timeout: plan.answer_limit(), ..Options::default() };
    let (database, other) = (store.connect_with(&patient).await?, fed_from_log.connect().await?);
    let (log, views) = domain::open(database.clone()).await?;
    let views = Fed { from_topic: views, from_log: domain::views(other.clone(), &log)? };
    let undisturbed = Projectors::start(&views.from_log, process::projectors());
    let mut world = World::start(plan, &store.arguments(None)?, &database, &log, dice.fork()).await?;
    let (stop, stopped) = watch::channel(false);
    let mut clients: JoinSet<_> =
        (0..CLIENTS).map(|_| append(log.clone(), dice.fork(), stopped.clone())).collect();
    let is_at_work = world.is_published(Position::START.plus(1), SETTLE_LIMIT).await?;
    ensure!(is_at_work, "nothing is published");
    for fault in Deck::new(&plan.broker, dice.fork()).take(usize::try_from(plan.faults)?) {
        world.go_wrong(fault, &views.from_topic).await?;
        sleep(dice.ms(50, 1_500)).await;
    }
    let (mut breaches, mut slowest) = (Vec::new(), Duration::ZERO);
    let undisturbed_events = world.calm_down(&views.from_topic, &plan.notes).await?;
    if undisturbed_events == 0 {
        breaches
            .push(format!("{SETTLE_LIMIT:?} after the last fault, the topic alone was not read: the log still was, or nothing came"));
    }
    stop.send_replace(true);
    // Each was answered, so the log ends here.
    while let Some(ended) = clients.join_next().await {
        match ended? {
            Ok(longest) => slowest = slowest.max(longest),
            Err(error) => breaches.push(format!("{error:#}")),
        }
    }
    if slowest > plan.answer_limit() {
        breaches.push(format!("an append was answered after {slowest:?}"));
    }
    let (events, twice) = world.compare(&mut breaches).await?;
    breaches.extend(views.compare(&log, events).await?);
    for one in world.relays.iter_mut().chain(&mut world.projectors) {
        one.settle().await?;
    }
    undisturbed.stop().await;
    log.close().await;
    database.close().await;
    other.close().await;
    let fed = Noted::read(&plan.notes)?;
    let World { faults, hits, takeovers, missed, .. } = world;
    Ok(Summary {
        title: format!("Kafka and {:?}", plan.backend),
        seed: plan.seed,
        time: begun.elapsed(),
        faults,
        counts: vec![
            (hits, "of them hit"),
            (takeovers, "times another relay took over"),
            (events.get(), "events in the log, and in the topic"),
            (twice, "of them again"),
            (fed.fed_from("kafka"), "events that projectors read in the topic"),
            (fed.fed_from("log"), "events that they read in the log"),
            (missed, "of them because the topic had them no more"),
            (undisturbed_events, "in the topic and none in the log, once nothing went wrong any more"),
            (slowest.as_millis() as u64, "ms at most for an append"),
        ],
        breaches,
        shortcomings: shortcomings([
            (hits < plan.faults / 2, "most faults hit nobody"),
            (takeovers < plan.faults / 8, "relays did not take over from each other"),
            (events.get() < 20 * plan.faults, "there was little to publish"),
            (fed.fed_from("kafka") < events.get() / 20, "hardly anything was read in the topic"),
            (missed == 0 || fed.fed_from("log") < missed, "nothing was missing in the topic"),
        ]),
    })
}

/// Appends one event after the other until it is told to stop, and answers how long the slowest of them took.
async fn append(log: Log, mut dice: Dice, stopped: watch::Receiver<bool>) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    while !*stopped.borrow() {
        let begun = Instant::now();
        let verdict = timeout(SETTLE_LIMIT, log.append(domain::any_append(&mut dice)?)).await;
        let verdict = verdict.context("an append was never answered")?;
        let verdict = verdict.with_context(|| format!("an append failed after {:?}", begun.elapsed()))?;
        ensure!(matches!(verdict, Verdict::Committed(_)), "nothing stood in its way, and yet: {verdict:?}");
        slowest = slowest.max(begun.elapsed());
        sleep(dice.ms(0, 8)).await;
    }
    Ok(slowest)
}

/// The same view twice.
struct Fed {
    from_topic: Views,
    from_log: Views,
}

impl Fed {
    /// Waits until both have come to the log's end, and compares them: to the byte with each other, and with a plain fold.
    async fn compare(&self, log: &Log, end: Position) -> anyhow::Result<Vec<String>> {
        let documents = match list(&self.from_topic, end).await {
            Err(ViewError::NotYet { reached }) => {
                return Ok(vec![format!("the view is at {reached} after {SETTLE_LIMIT:?}, and the log at {end}")]);
            }
            listed => listed?,
        };
        let to_the_byte =
            |one: &Document| (one.key.clone(), format!("{} {} {}", one.position, one.revision, one.body));
        let other = list(&self.from_log, end).await?.iter().map(to_the_byte).collect();
        let mut breaches =
            views::check::compare(documents.iter().map(to_the_byte), &other, "the view that is fed from the log");
        let (_, fold) = domain::plain_fold(log).await?;
        breaches.extend(views::check::compare(tallies(&documents)?, &fold, "the log"));
        Ok(breaches)
    }
}

/// All that things happen to.
struct World {
    broker: Broker,
    database: Database,
    log: Log,
    topic: Topic,
    relays: Vec<Process>,
    /// Those that read the topic.
    projectors: Vec<Process>,
    proxy: Option<Proxy>,
    dice: Dice,
    /// Who was seen to publish last.
    owner: Option<String>,
    /// How often each thing went wrong.
    faults: BTreeMap<String, u64>,
    /// How many of them hit somebody at work.
    hits: u64,
    /// How often another relay was seen to publish.
    takeovers: u64,
    /// How many messages were removed before projectors had read them.
    missed: u64,
}

impl World {
    async fn start(
        plan: &Plan,
        store: &[String; 2],
        database: &Database,
        log: &Log,
        mut dice: Dice,
    ) -> anyhow::Result<Self> {
        let broker = plan.broker.clone();
        let (brokers, proxy) = match broker.detour {
            Some(Detour { proxy, broker }) => {
                (format!("127.0.0.1:{proxy}"), Some(Proxy::start(proxy, broker).await?))
            }
            None => (broker.address.clone(), None),
        };
        let name = format!("daybook-campaign-{}", Uuid::now_v7().simple());
        let topic: TopicName = name.parse().map_err(anyhow::Error::msg)?;
        let (binary, notes, store) = (plan.binary.clone(), plan.notes.clone(), store.clone());
        let launch = Launch { binary, notes, store, brokers, topic };
        let (mut relays, mut projectors) = (Vec::new(), Vec::new());
        for number in 0..RELAYS {
            let command = launch.relay();
            relays.push(Process::start(format!("relay-{number}"), plan.notes.clone(), relay::LEASE, command)?);
        }
        for number in 0..PROJECTORS {
            let (name, command) = (format!("projector-{number}"), launch.projector(dice.fork()));
            projectors.push(Process::start(name, plan.notes.clone(), process::LEASE, command)?);
        }
        Ok(Self {
            topic: Topic::new(&broker.address, &launch.topic),
            broker,
            database: database.clone(),
            log: log.clone(),
            relays,
            projectors,
            proxy,
            dice,
            owner: None,
            faults: BTreeMap::new(),
            hits: 0,
            takeovers: 0,
            missed: 0,
        })
    }

    async fn status(&self) -> anyhow::Result<Option<Status>> {
        Ok(daybook_kafka::status(&self.database, &self.log).await?.pop())
    }

    /// Up to where it is published.
    async fn published(&self) -> anyhow::Result<Position> {
        Ok(self.status().await?.map_or(Position::START, |status| status.position))
    }

    /// Who publishes at this moment, by the name of the process.
    async fn owner(&self) -> anyhow::Result<Option<String>> {
        let owner = self.status().await?.and_then(|status| status.owner);
        Ok(owner.and_then(|owner| owner.split(' ').next().map(str::to_owned)))
    }

    /// Waits until it is published up to a position; answers whether it is by then.
    async fn is_published(&self, position: Position, limit: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limit;
        while self.published().await? < position {
            if Instant::now() > deadline {
                return Ok(false);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(true)
    }

    /// Has something go wrong. `views` are those that are fed from the topic.
    async fn go_wrong(&mut self, fault: Fault, views: &Views) -> anyhow::Result<()> {
        let owner = self.owner().await?;
        // One that comes back to life and goes on takes over from nobody.
        let process =
            |owner: &Option<String>| owner.as_ref()?.rsplit_once('.').map(|(process, _)| process.to_owned());
        let before = process(&self.owner);
        self.takeovers += u64::from(before.is_some() && process(&owner).is_some_and(|now| Some(now) != before));
        self.owner = owner.clone().or(self.owner.take());
        let has_hit = match fault {
            Fault::Relay(harm) => self.harm_relay(harm, owner.as_deref()).await?,
            Fault::Projector(harm) => {
                let one = self.dice.below(PROJECTORS as u64) as usize;
                self.projectors[one].suffer(harm, &mut self.dice).await?;
                true
            }
            Fault::Expire => {
                let missed = self.expire(views).await?;
                self.missed += missed;
                missed > 0
            }
            Fault::Cut => self.proxy.as_ref().is_some_and(Proxy::cut_all),
            Fault::EndBroker => self.end_broker().await?,
        };
        *self.faults.entry(fault.name()).or_default() += 1;
        self.hits += u64::from(has_hit);
        Ok(())
    }

    /// Harms mostly the relay that publishes, and now and then one that may be the other: it has to bear it, too. Answers
    /// whether it was the one.
    async fn harm_relay(&mut self, harm: Harm, owner: Option<&str>) -> anyhow::Result<bool> {
        let (any, is_any) = (self.dice.below(RELAYS as u64) as usize, self.dice.one_in(5));
        let publishing = self.relays.iter().position(|relay| Some(&*relay.name()) == owner);
        let one = publishing.filter(|_| !is_any).unwrap_or(any);
        self.relays[one].suffer(harm, &mut self.dice).await?;
        Ok(publishing == Some(one))
    }

    /// Has all projectors sleep until messages are published that they have not read, and removes those. Answers how many.
    async fn expire(&mut self, views: &Views) -> anyhow::Result<u64> {
        for relay in &mut self.relays {
            relay.thaw().await?;
        }
        // Whoever begins just now would publish too late.
        self.is_published(self.log.head().await?.position, AWAY_LIMIT).await?;
        for _ in 0..SLEEPS_MAX {
            for projector in &mut self.projectors {
                projector.freeze(SLEEP_LIMIT).await?;
            }
            let lease = process::LEASE.as_millis() as u64;
            sleep(self.dice.ms(lease / 2, 3 * lease)).await;
            let reached = views.status().await?.first().map_or(Position::START, |status| status.position);
            let is_missed = self.is_published(reached.plus(MISSED), Duration::from_secs(1)).await?;
            let missed = self.published().await?.get().saturating_sub(reached.get());
            if is_missed {
                block_in_place(|| self.topic.read_on())?;
                self.topic.expire().await?;
            }
            for projector in &mut self.projectors {
                projector.wake()?;
            }
            if is_missed {
                return Ok(missed);
            }
            // On SQLite, one of them may sleep with the log's file in its hands: then nobody appends, and nobody publishes.
        }
        Ok(0)
    }

    /// Ends the broker, and waits until somebody has started it again; now and then, until it is published to.
    async fn end_broker(&mut self) -> anyhow::Result<bool> {
        let sent = if self.dice.one_in(2) { "KILL" } else { "TERM" };
        let file = self.broker.process.as_ref().context("the broker is not to be ended")?;
        let id = std::fs::read_to_string(file)?;
        signal::send(sent, id.trim().parse()?)?;
        let deadline = Instant::now() + SETTLE_LIMIT;
        while std::fs::read_to_string(file)? == id {
            ensure!(Instant::now() < deadline, "the broker is not started again");
            sleep(Duration::from_millis(50)).await;
        }
        if self.dice.one_in(2) {
            self.is_published(self.log.head().await?.position, AWAY_LIMIT).await?;
        }
        Ok(true)
    }

    /// Has everybody go on, and waits until what is appended is read in the topic and none of it in the log (K3). Answers how
    /// many events were read so: none when it does not come to that.
    async fn calm_down(&mut self, views: &Views, notes: &Path) -> anyhow::Result<u64> {
        for one in self.relays.iter_mut().chain(&mut self.projectors) {
            one.thaw().await?;
        }
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            let before = Noted::read(notes)?;
            // What is behind it was read by nobody before.
            let through = self.log.head().await?.position.plus(UNDISTURBED);
            while views.status().await?.first().is_none_or(|status| status.position < through) {
                if Instant::now() > deadline {
                    return Ok(0);
                }
                sleep(Duration::from_millis(10)).await;
            }
            let after = Noted::read(notes)?;
            if after.fed_from("log") == before.fed_from("log") {
                return Ok(after.fed_from("kafka") - before.fed_from("kafka"));
            }
        }
    }

    /// Waits until all is published, and compares; answers where the log ends, and how many messages there are too many.
    async fn compare(&mut self, breaches: &mut Vec<String>) -> anyhow::Result<(Position, u64)> {
        let head = self.log.head().await?;
        if !self.is_published(head.position, SETTLE_LIMIT).await? {
            let status = self.status().await?;
            breaches.push(format!("not all is published after {SETTLE_LIMIT:?}: {status:?}"));
        }
        block_in_place(|| self.topic.read_on())?;
        let mut events = Vec::new();
        let mut scan = self.log.scan(&self.log.checkpoint(&head, None), 1_000);
        while let Some(page) = scan.next().await? {
            events.extend(page);
        }
        let origin = Origin { log_id: head.log_id, epoch: head.epoch };
        let found = check::compare(&events, &origin, &self.topic.messages());
        breaches.extend(found.breaches);
        Ok((head.position, found.twice))
    }
}

/// How the processes are started.
#[derive(Clone)]
struct Launch {
    binary: PathBuf,
    notes: PathBuf,
    store: [String; 2],
    /// Where the broker is for them.
    brokers: String,
    topic: TopicName,
}

impl Launch {
    fn relay(&self) -> impl FnMut(&str) -> Command + Send + use<> {
        let launch = self.clone();
        move |name| {
            let mut command = launch.command("relay");
            command.args(["--name", name]);
            command
        }
    }

    fn projector(&self, mut dice: Dice) -> impl FnMut(&str) -> Command + Send + use<> {
        let launch = self.clone();
        move |name| {
            let mut command = launch.command("process");
            command.arg("--notes").arg(launch.notes.join(format!("{name}.notes")));
            command.args(["--seed", &dice.below(u64::MAX).to_string(), "--clients", "0"]);
            command
        }
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(what).args(&self.store).args(["--brokers", &self.brokers, "--topic", self.topic.as_str()]);
        command
    }
}
