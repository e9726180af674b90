//! The producer: a thread of its own, since the calls of librdkafka block.
//!
//! It is given pages of events, and hands them to librdkafka at once, within a transaction. That holds what the log had
//! when it was begun, or as much of it as makes it big: so no event waits for more than the transaction before its own,
//! however its pages came. The first error ends all of it, and whoever publishes goes on from the checkpoint, with a producer
//! of its own: that has the broker abort what is open.
//!
//! It is two of librdkafka's, which take turns. A broker writes the end of a transaction into its partitions after it has said
//! that it is committed; whoever begins the next one before that is told to come again, and librdkafka does so after 20 ms.
//! For a transaction of another producer, there is nothing to wait for.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use daybook_core::{Position, RecordedEvent};
use daybook_log::Checkpoint;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;

use crate::message::{Message, Origin};
use crate::partition::partition_of;
use crate::settings::Settings;
use crate::topic::{BATCH_BYTES_MAX, PARTITIONS_INTERVAL, TIME_AHEAD_MAX, Topic};

/// How long the brokers may take for anything that they are asked.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// After how long it is seen to whether anybody still wants what is waited for.
pub(crate) const SLICE: Duration = Duration::from_millis(500);

/// After how long it is looked again whether messages were acknowledged: much less than that takes.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The most events of a transaction, and how long it may be open before it is committed though more could follow: whoever
/// reads committed events only waits for its end.
const TRANSACTION_EVENTS_MAX: usize = 50_000;
const TRANSACTION_OPEN_MAX: Duration = Duration::from_secs(1);

/// How many pages wait for the producer. While a transaction is committed, they are small, and reading them is most of what
/// they cost; what comes meanwhile is read at once behind them.
const PAGES_AHEAD: usize = 1;

/// What the producer is given to publish.
pub(crate) type Page = Vec<RecordedEvent>;

/// What the producer says.
pub(crate) enum Told {
    /// No other producer writes any more, and this is the topic.
    Ready(Topic),
    /// Everything up to here was acknowledged.
    Committed(Checkpoint),
    /// It ends.
    Failed(Trouble),
}

/// Why it cannot be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It may go away by itself.
    Kafka(String),
    /// Somebody has to do something about it.
    Refused(String),
}

/// Starts a producer for a log that ends at `end`, as far as this process knows. It ends when nobody has pages for it any
/// more; it has ended when it says nothing any more.
pub(crate) fn start(
    settings: &Settings,
    origin: Origin,
    end: watch::Receiver<Position>,
) -> (mpsc::Sender<Page>, mpsc::UnboundedReceiver<Told>) {
    let (pages, taken) = mpsc::channel(PAGES_AHEAD);
    let (told, said) = mpsc::unbounded_channel();
    let (settings, runtime, failed) = (settings.clone(), Handle::current(), told.clone());
    let work = move || {
        if let Err(trouble) = Publisher::run(settings, origin, end, runtime, taken, &told) {
            // It may be that nobody asks any more.
            let _ = told.send(Told::Failed(trouble));
        }
    };
    if let Err(error) = std::thread::Builder::new().name("relay".to_owned()).spawn(work) {
        let _ = failed.send(Told::Failed(Trouble::Kafka(format!("no thread to publish on: {error}"))));
    }
    (pages, said)
}

/// What librdkafka says without being asked.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    /// The last thing that it complained about.
    reason: Mutex<Option<String>>,
    /// The first message that was not delivered.
    failed: Mutex<Option<KafkaError>>,
}

impl Watcher {
    /// The last thing that it complained about.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().ok().and_then(|reason| reason.clone())
    }
}

impl ClientContext for Watcher {
    fn log(&self, _: RDKafkaLogLevel, what: &str, message: &str) {
        tracing::debug!(target: "daybook_kafka::librdkafka", what, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "daybook_kafka::librdkafka", %error, reason);
        // That all brokers are down says less than why the last one is.
        if error != KafkaError::Global(RDKafkaErrorCode::AllBrokersDown)
            && let Ok(mut last) = self.reason.lock()
        {
            *last = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Watcher {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let (Err((error, _)), Ok(mut failed)) = (result, self.failed.lock()) {
            failed.get_or_insert_with(|| error.clone());
        }
    }
}

/// The thread's work.
pub(crate) struct Publisher {
    pub(crate) settings: Settings,
    /// The one whose turn it is.
    pub(crate) producer: BaseProducer<Watcher>,
    /// The other one, which has no transaction open.
    resting: BaseProducer<Watcher>,
    pub(crate) runtime: Handle,
    origin: Origin,
    end: watch::Receiver<Position>,
    pages: mpsc::Receiver<Page>,
    /// How many partitions the topic has.
    partitions: u16,
    /// When it was last seen that it has as many.
    counted: Instant,
    open: Option<Transaction>,
}

/// A transaction that is open.
struct Transaction {
    since: Instant,
    /// Where the log ended then.
    through: Position,
    events: usize,
    reached: Checkpoint,
}

impl Transaction {
    fn is_due(&self) -> bool {
        self.reached.position >= self.through
            || self.events >= TRANSACTION_EVENTS_MAX
            || self.since.elapsed() >= TRANSACTION_OPEN_MAX
    }
}

impl Publisher {
    fn run(
        settings: Settings,
        origin: Origin,
        end: watch::Receiver<Position>,
        runtime: Handle,
        pages: mpsc::Receiver<Page>,
        told: &mpsc::UnboundedSender<Told>,
    ) -> Result<(), Trouble> {
        let make = |id: &String| {
            let producer = settings.producer(id).create_with_context(Watcher::default());
            producer.map_err(|error| Trouble::Refused(format!("no producer: {error}")))
        };
        let [first, second] = &transactional_ids(&settings, &origin);
        let (producer, resting) = (make(first)?, make(second)?);
        let (partitions, counted, open) = (0, Instant::now(), None);
        let mut publisher =
            Self { settings, producer, resting, runtime, origin, end, pages, partitions, counted, open };
        let topic = publisher.open_topic()?;
        publisher.partitions = topic.partitions;
        // Both, before anybody goes on from the checkpoint: either may have sent what is not acknowledged yet.
        for _ in 0..2 {
            publisher
                .patiently("fencing other producers off", |slice| publisher.producer.init_transactions(slice))?;
            publisher.take_turns();
        }
        let _ = told.send(Told::Ready(topic));
        let outcome = publisher.publish(told);
        // Whoever begins again has it aborted, so there is nothing to wait for: one that is being committed could not be,
        // anyway. If nobody does, readers wait until the broker gives it up; so it is tried once.
        if publisher.open.is_some() && publisher.pages.is_closed() {
            let _ = publisher.producer.abort_transaction(SLICE);
        }
        outcome
    }

    fn publish(&mut self, told: &mpsc::UnboundedSender<Told>) -> Result<(), Trouble> {
        while let Some(events) = self.next_page() {
            self.send_all(&events)?;
            self.producer.poll(Duration::ZERO);
            if self.open.as_ref().is_some_and(Transaction::is_due)
                && let Some(reached) = self.commit()?
            {
                let _ = told.send(Told::Committed(reached));
            }
            if self.open.is_none() && self.counted.elapsed() >= PARTITIONS_INTERVAL {
                self.count_partitions(self.partitions)?;
                self.counted = Instant::now();
            }
        }
        Ok(())
    }

    /// Waits for a page; one without events when what is open is not to wait any longer, or the partitions are to be counted;
    /// `None` when nobody has any more.
    fn next_page(&mut self) -> Option<Page> {
        let end = match &self.open {
            Some(open) => open.since + TRANSACTION_OPEN_MAX,
            None => self.counted + PARTITIONS_INTERVAL,
        };
        let page = self.runtime.block_on(async { timeout_at(end.into(), self.pages.recv()).await });
        page.unwrap_or_else(|_| Some(Page::new()))
    }

    fn send_all(&mut self, events: &[RecordedEvent]) -> Result<(), Trouble> {
        let Some(last) = events.last() else { return Ok(()) };
        if self.open.is_none() {
            self.begin()?;
        }
        let Origin { log_id, epoch } = self.origin;
        let reached = Checkpoint { log_id, epoch, position: last.position, event_id: last.id };
        let through = *self.end.borrow();
        let open = self.open.get_or_insert(Transaction { since: Instant::now(), through, events: 0, reached });
        (open.events, open.reached) = (open.events + events.len(), reached);
        events.iter().try_for_each(|event| self.send(event))
    }

    fn begin(&self) -> Result<(), Trouble> {
        self.producer.begin_transaction().map_err(|error| self.trouble("beginning", &error))
    }

    fn take_turns(&mut self) {
        std::mem::swap(&mut self.producer, &mut self.resting);
    }

    fn send(&self, event: &RecordedEvent) -> Result<(), Trouble> {
        let message = Message::new(event, &self.origin);
        // The place is ours to choose: librdkafka would go by more partitions as soon as it hears of them.
        let partition = partition_of(message.key, self.partitions);
        let mut record = message.record(self.settings.topic.as_str()).partition(partition);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
                Err((error, _)) => return Err(self.trouble("publishing", &error)),
            }
            self.look();
            self.check("publishing")?;
        }
    }

    /// Waits until all messages are acknowledged, for as long as that goes on, and commits; answers up to where. The commit of
    /// `rdkafka` waits for them itself, and looks every 100 ms.
    fn commit(&mut self) -> Result<Option<Checkpoint>, Trouble> {
        let mut left = self.producer.in_flight_count();
        let mut end = Instant::now() + ANSWER_LIMIT;
        while left > 0 {
            self.look();
            self.check("publishing")?;
            let before = std::mem::replace(&mut left, self.producer.in_flight_count());
            if left < before {
                end = Instant::now() + ANSWER_LIMIT;
            } else if Instant::now() > end {
                return Err(self.trouble("publishing", &KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)));
            }
        }
        self.check("publishing")?;
        self.patiently("committing", |slice| self.producer.commit_transaction(slice))?;
        self.take_turns();
        let Some(ended) = self.open.take() else { return Ok(None) };
        let topic = self.settings.topic.to_string();
        metrics::counter!("daybook_relay_transactions_total", "topic" => topic.clone()).increment(1);
        metrics::counter!("daybook_relay_published_total", "topic" => topic).increment(ended.events as u64);
        Ok(Some(ended.reached))
    }

    /// Waits a little, and hears what librdkafka has to say. (`poll` does not wait if it is given that time: it asks again and
    /// again, since what is left of a millisecond is no time at all to librdkafka.)
    fn look(&self) {
        std::thread::sleep(LOOK_INTERVAL);
        self.producer.poll(Duration::ZERO);
    }

    /// Whether it makes sense to wait for what is under way.
    fn check(&self, what: &str) -> Result<(), Trouble> {
        let failed = self.producer.context().failed.lock().ok().and_then(|failed| failed.clone());
        match failed {
            Some(error) => Err(self.trouble(what, &error)),
            None if self.producer.client().fatal_error().is_some() || !self.is_wanted() => {
                Err(self.trouble(what, &KafkaError::Canceled))
            }
            None => Ok(()),
        }
    }

    /// Whether anybody still has something to publish.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.pages.is_closed()
    }

    /// Asks until there is an answer, for as long as anybody wants it.
    pub(crate) fn patiently<T>(
        &self,
        what: &str,
        mut ask: impl FnMut(Duration) -> KafkaResult<T>,
    ) -> Result<T, Trouble> {
        let end = Instant::now() + ANSWER_LIMIT;
        loop {
            match ask(SLICE) {
                Ok(answer) => return Ok(answer),
                Err(error) if is_passing(&error) && Instant::now() < end && self.is_wanted() => {}
                Err(error) => return Err(self.trouble(what, &error)),
            }
            self.look();
        }
    }

    /// Why the transaction failed that is open, if it did: the messages that fail with it do not say so.
    fn failed_transaction(&self) -> Option<KafkaError> {
        self.open.as_ref()?;
        // Nothing is begun within another one, and that one's error is the answer.
        match self.producer.begin_transaction() {
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                Some(KafkaError::Transaction(error))
            }
            _ => None,
        }
    }

    /// What somebody has to grant, when that is what an error says.
    fn missing_right(&self, code: RDKafkaErrorCode) -> Option<String> {
        match code {
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed => {
                let [first, second] = transactional_ids(&self.settings, &self.origin);
                Some(format!("`Write` on the transactional ids `{first}` and `{second}`"))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                Some(format!("`Write` on the topic `{}`", self.settings.topic))
            }
            RDKafkaErrorCode::ClusterAuthorizationFailed => Some("`IdempotentWrite` on the cluster".to_owned()),
            _ => None,
        }
    }

    /// What to do about a message that is not taken: by the broker, or by librdkafka before it gets there.
    fn advice(&self, code: RDKafkaErrorCode, is_of_broker: bool) -> Option<String> {
        let topic = &self.settings.topic;
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge if is_of_broker => Some(format!(
                "the topic `{topic}` does not take that much at once: raise its `max.message.bytes` to {BATCH_BYTES_MAX}"
            )),
            RDKafkaErrorCode::MessageSizeTooLarge => {
                Some("an event is greater than `message.max.bytes` in `kafka_settings`: take that out".to_owned())
            }
            RDKafkaErrorCode::InvalidTimestamp => Some(format!(
                "the topic `{topic}` does not take the time of an event, which lies ahead of the broker's clock: set its \
                 `message.timestamp.after.max.ms` to {TIME_AHEAD_MAX}, and its `message.timestamp.type` to CreateTime"
            )),
            _ => None,
        }
    }

    /// What to say of an error.
    pub(crate) fn trouble(&self, what: &str, error: &KafkaError) -> Trouble {
        let client = self.producer.client();
        self.producer.poll(Duration::ZERO);
        let (failed, fatal) = (self.failed_transaction(), client.fatal_error());
        let error = failed.as_ref().unwrap_or(error);
        let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
        if let Some(right) = code.and_then(|code| self.missing_right(code)) {
            let brokers = &self.settings.brokers;
            return Trouble::Refused(format!(
                "{what}: the brokers {brokers} do not let us: grant the relay's user {right}"
            ));
        }
        let reason = match (fatal, error) {
            (Some((_, reason)), _) => reason,
            (None, error) if is_passing(error) => {
                let said = client.context().reason().map(|said| format!(": {said}")).unwrap_or_default();
                format!("the brokers {} do not answer{said}", self.settings.brokers)
            }
            (None, error) => {
                code.and_then(|code| self.advice(code, failed.is_some())).unwrap_or(error.to_string())
            }
        };
        Trouble::Kafka(format!("{what}: {reason}"))
    }
}

/// What the broker knows all producers of a log and a topic by. No topic has a colon in its name, so the second is never the
/// first of another topic.
fn transactional_ids(settings: &Settings, origin: &Origin) -> [String; 2] {
    let first = format!("daybook-{}-{}", origin.log_id, settings.topic);
    let second = format!("{first}:2");
    [first, second]
}

/// Whether the same may succeed if it is asked again.
fn is_passing(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(code) | KafkaError::MetadataFetch(code) => matches!(
            code,
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        ),
        _ => false,
    }
}
