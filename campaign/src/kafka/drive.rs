//! The campaign of Kafka, from its beginning to its end.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use daybook_core::Position;
use daybook_database::Database;
use daybook_kafka::{Origin, Status, TopicName};
use daybook_log::{Log, Settings, Verdict};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::check;
use super::proxy::Proxy;
use super::relay::LEASE;
use super::topic;
use crate::Dice;
use crate::drive::Store;
use crate::signal::{self, Frozen};
use crate::views::domain::any_append;

/// How long everything has to come to rest.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// How long an append may take: nobody waits for Kafka.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How many append.
const CLIENTS: usize = 3;

/// How many relays there are.
const RELAYS: usize = 2;

/// The most breaches that are printed.
const SHOWN_MAX: usize = 20;

/// Where the broker is.
#[derive(Debug, Clone)]
pub struct Broker {
    /// For whoever is not disturbed.
    pub address: String,
    /// For relays, where a proxy can stand before it.
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
    /// The server of the log's database.
    pub server_url: String,
    /// Where to publish.
    pub broker: Broker,
    /// Where everybody's notes go. Has to be there, and empty.
    pub notes: PathBuf,
    /// The program that the relays run: this crate's own.
    pub binary: PathBuf,
    /// What all dice start from.
    pub seed: u64,
    /// How many faults there are to be.
    pub faults: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    plan: Plan,
    time: Duration,
    /// How often each thing went wrong.
    faults: BTreeMap<&'static str, u64>,
    /// How many of them hit who was publishing, or the broker.
    hits: u64,
    /// How often another relay was seen to publish.
    takeovers: u64,
    /// How many events the log has.
    events: u64,
    /// How many messages tell of an event that another one tells of.
    twice: u64,
    /// The longest that an append took.
    slowest: Duration,
    /// What was wrong.
    breaches: Vec<String>,
}

impl Summary {
    /// Whether all was right, and there was something that could have been wrong.
    pub fn succeeded(&self) -> bool {
        let faults = self.plan.faults;
        self.breaches.is_empty()
            && self.hits >= faults / 2
            && self.takeovers >= faults / 6
            && self.events >= 20 * faults
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Kafka, seed {}, in {:.0} s", self.plan.seed, self.time.as_secs_f64())?;
        for (name, count) in &self.faults {
            writeln!(f, "  {count:>7}  {name}")?;
        }
        let lines = [
            (self.hits, "of them hit"),
            (self.takeovers, "times another relay took over"),
            (self.events, "events in the log, and in the topic"),
            (self.twice, "of them again"),
            (self.slowest.as_millis() as u64, "ms at most for an append"),
            (self.breaches.len() as u64, "violations"),
        ];
        for (count, what) in lines {
            writeln!(f, "  {count:>7}  {what}")?;
        }
        self.breaches.iter().take(SHOWN_MAX).try_for_each(|breach| writeln!(f, "{breach}"))?;
        if self.breaches.is_empty() && !self.succeeded() {
            writeln!(f, "It proves too little.")?;
        }
        Ok(())
    }
}

/// Runs a campaign.
///
/// # Errors
///
/// When it cannot be run. What was wrong is part of the summary, and no error.
pub async fn run(plan: &Plan) -> anyhow::Result<Summary> {
    let store = Store::postgres(&plan.server_url).await?;
    let outcome = campaign(plan, &store).await;
    let removed = store.remove().await;
    let summary = outcome?;
    removed?;
    Ok(summary)
}

async fn campaign(plan: &Plan, store: &Store) -> anyhow::Result<Summary> {
    let begun = Instant::now();
    let mut dice = Dice::new(plan.seed);
    let database = store.connect().await?;
    let log = Log::open(database.clone(), Settings::default()).await?;
    let proxy = match plan.broker.detour {
        Some(Detour { proxy, broker }) => Some(Proxy::start(proxy, broker).await?),
        None => None,
    };
    let topic: TopicName =
        format!("daybook-campaign-{}", Uuid::now_v7().simple()).parse().map_err(anyhow::Error::msg)?;
    let world = World { plan: plan.clone(), database, log, topic, arguments: store.arguments(None)? };
    let mut fleet = Vec::new();
    for number in 0..RELAYS {
        fleet.push(Relay::start(&world, number)?);
    }
    let (stop, stopped) = watch::channel(false);
    let mut clients: JoinSet<_> =
        (0..CLIENTS).map(|_| append(world.log.clone(), dice.fork(), stopped.clone())).collect();
    world.somebody_publishes().await?;
    let (mut faults, mut hits, mut takeovers) = (BTreeMap::new(), 0, 0);
    let mut last = None;
    for _ in 0..plan.faults {
        let owner = world.owner().await?;
        takeovers += u64::from(owner.is_some() && last.is_some() && owner != last);
        last = owner.clone().or(last);
        let (name, hit) = world.go_wrong(&mut fleet, proxy.as_ref(), owner, &mut dice).await?;
        *faults.entry(name).or_default() += 1;
        hits += u64::from(hit);
        sleep(dice.ms(50, 1_500)).await;
    }
    stop.send_replace(true);
    let (mut breaches, mut slowest) = (Vec::new(), Duration::ZERO);
    // Each was answered, so the log ends here.
    while let Some(ended) = clients.join_next().await {
        match ended? {
            Ok(longest) => slowest = slowest.max(longest),
            Err(error) => breaches.push(format!("{error:#}")),
        }
    }
    for relay in &mut fleet {
        relay.thaw().await?;
    }
    let (events, twice) = world.compare(&mut breaches).await?;
    for relay in &mut fleet {
        relay.settle().await?;
    }
    world.log.close().await;
    world.database.close().await;
    let plan = plan.clone();
    Ok(Summary { plan, time: begun.elapsed(), faults, hits, takeovers, events, twice, slowest, breaches })
}

/// Appends one event after the other until it is told to stop, and answers how long the slowest of them took. Fails when
/// one is not answered in time.
async fn append(log: Log, mut dice: Dice, stopped: watch::Receiver<bool>) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    while !*stopped.borrow() {
        let begun = Instant::now();
        let verdict = timeout(ANSWER_LIMIT, log.append(any_append(&mut dice)?)).await;
        let verdict = verdict.with_context(|| format!("an append was not answered within {ANSWER_LIMIT:?}"))?;
        let verdict = verdict.context("an append was not answered")?;
        ensure!(matches!(verdict, Verdict::Committed(_)), "nothing stood in its way, and yet: {verdict:?}");
        slowest = slowest.max(begun.elapsed());
        sleep(dice.ms(0, 8)).await;
    }
    Ok(slowest)
}

/// What a campaign is about.
struct World {
    plan: Plan,
    database: Database,
    log: Log,
    topic: TopicName,
    /// How a process is told where the log is.
    arguments: [String; 2],
}

impl World {
    async fn status(&self) -> anyhow::Result<Option<Status>> {
        Ok(daybook_kafka::status(&self.database, &self.log).await?.pop())
    }

    /// Who publishes at this moment, by the name of the process.
    async fn owner(&self) -> anyhow::Result<Option<String>> {
        let owner = self.status().await?.and_then(|status| status.owner);
        Ok(owner.and_then(|owner| owner.split(' ').next().map(str::to_owned)))
    }

    async fn somebody_publishes(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        while self.status().await?.is_none_or(|status| status.position == Position::START) {
            ensure!(Instant::now() < deadline, "nothing is published");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Has something go wrong; says what, and whether that was in anybody's way.
    async fn go_wrong(
        &self,
        fleet: &mut [Relay],
        proxy: Option<&Proxy>,
        owner: Option<String>,
        dice: &mut Dice,
    ) -> anyhow::Result<(&'static str, bool)> {
        if let Some(proxy) = proxy
            && dice.one_in(4)
        {
            return Ok(("connections cut", proxy.cut_all()));
        }
        if let Some(process) = &self.plan.broker.process
            && dice.one_in(8)
        {
            return self.stop_broker(process, dice).await;
        }
        // Mostly the one that publishes; the other one has to bear it, too.
        let publishing = fleet.iter().position(|relay| Some(&relay.name()) == owner.as_ref());
        let one = publishing.filter(|_| !dice.one_in(5)).unwrap_or(dice.below(fleet.len() as u64) as usize);
        let name = fleet[one].go_wrong(self, dice).await?;
        Ok((name, publishing == Some(one)))
    }

    /// Ends the broker, and waits until somebody has started it again.
    async fn stop_broker(&self, process: &PathBuf, dice: &mut Dice) -> anyhow::Result<(&'static str, bool)> {
        let id = std::fs::read_to_string(process)?;
        let (sent, name) = if dice.one_in(2) { ("KILL", "broker killed") } else { ("TERM", "broker stopped") };
        signal::send(sent, id.trim().parse()?)?;
        let deadline = Instant::now() + SETTLE_LIMIT;
        while std::fs::read_to_string(process)? == id {
            ensure!(Instant::now() < deadline, "the broker is not started again");
            sleep(Duration::from_millis(50)).await;
        }
        Ok((name, true))
    }

    /// Waits until all is published, and compares; answers how many events there are, and how many messages too many.
    async fn compare(&self, breaches: &mut Vec<String>) -> anyhow::Result<(u64, u64)> {
        let head = self.log.head().await?;
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            let status = self.status().await?.context("it was published to")?;
            if status.position >= head.position {
                break;
            }
            if Instant::now() > deadline {
                breaches.push(format!("not all is published after {SETTLE_LIMIT:?}: {status:?}"));
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let (address, topic) = (self.plan.broker.address.clone(), self.topic.to_string());
        let topic = tokio::task::spawn_blocking(move || topic::read(&address, &topic)).await??;
        let mut events = Vec::new();
        let mut scan = self.log.scan(&self.log.checkpoint(&head, None), 1_000);
        while let Some(page) = scan.next().await? {
            events.extend(page);
        }
        let found = check::compare(&events, &Origin { log_id: head.log_id, epoch: head.epoch }, &topic);
        breaches.extend(found.breaches);
        Ok((head.position.get(), found.twice))
    }

    fn launch(&self, name: &str) -> anyhow::Result<Child> {
        let Plan { broker, notes, binary, .. } = &self.plan;
        let brokers = broker.detour.map_or(broker.address.clone(), |detour| format!("127.0.0.1:{}", detour.proxy));
        let mut command = Command::new(binary);
        command
            .arg("relay")
            .args(&self.arguments)
            .args(["--brokers", &brokers, "--topic", self.topic.as_str(), "--name", name])
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(notes.join(format!("{name}.log")))?)
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("cannot start the relay {name}"))
    }
}

/// A relay, in all its lives.
struct Relay {
    number: usize,
    life: u32,
    child: Child,
    /// Until when it is stopped.
    frozen: Option<Frozen>,
}

impl Relay {
    fn start(world: &World, number: usize) -> anyhow::Result<Self> {
        Ok(Self { number, life: 1, child: world.launch(&named(number, 1))?, frozen: None })
    }

    fn name(&self) -> String {
        named(self.number, self.life)
    }

    /// Kills it and starts it again, or stops it for a while; says which.
    async fn go_wrong(&mut self, world: &World, dice: &mut Dice) -> anyhow::Result<&'static str> {
        self.thaw().await?;
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("the relay {} ended by itself: {status}", self.name());
        }
        if dice.one_in(2) {
            self.child.kill().await?;
            self.life += 1;
            self.child = world.launch(&self.name())?;
            return Ok("relay killed");
        }
        let lease = LEASE.as_millis() as u64;
        let (time, name) = match dice.one_in(4) {
            true => (dice.ms(5, lease / 2), "relay frozen"),
            false => (dice.ms(lease + 100, 3 * lease), "relay frozen past its lease"),
        };
        let id = self.child.id().context("it runs")?;
        self.frozen = Some(Frozen::begin(id, time)?);
        Ok(name)
    }

    async fn thaw(&mut self) -> anyhow::Result<()> {
        match self.frozen.take() {
            Some(frozen) => frozen.end().await,
            None => Ok(()),
        }
    }

    /// Has it end in an orderly way.
    async fn settle(&mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let ended = timeout(SETTLE_LIMIT, self.child.wait()).await.context("a relay does not end")??;
        ensure!(ended.success(), "the relay {} ended with {ended}", self.name());
        Ok(())
    }
}

fn named(number: usize, life: u32) -> String {
    format!("relay-{number}.{life}")
}
