//! The handle that answers queries.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daybook_core::{AnyProjection, Contracts, Position};
use daybook_database::{Database, Heard, Signal, is_missing_table};
use daybook_log::Log;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::feed::{Feed, Live};
use crate::generation::served;
use crate::mark::Mark;
use crate::select::rows_for;
use crate::store::{Selected, Selection, Store, store};
use crate::table::Table;
use crate::{Answer, AtLeast, Document, Page, PageQuery, ViewError};

/// How often a query that waits for a position looks, when the projector is another process and is not heard: at first, and
/// at most.
const POLL_MIN: Duration = Duration::from_millis(10);
const POLL_MAX: Duration = Duration::from_millis(100);

/// How often a query looks for the table of the generation that is served. It is gone once when another one took its place;
/// each time, when it is missing.
const TRIES: usize = 5;

/// How many documents are folded at once of streams that are declared. More wait, for as long as one may be folded.
const FOLDS_MAX: usize = 4;

/// The views, for reading. Cheap to clone.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    store: Arc<dyn Store>,
    log: Log,
    contracts: Arc<Contracts>,
    views: BTreeMap<&'static str, Arc<View>>,
    /// Set when nobody is to wait any more.
    closing: watch::Sender<bool>,
    /// Whoever goes through the log for one document takes this: one at a time, however many ask.
    scan: Semaphore,
    /// Whoever folds a document of the streams that are declared for it takes one of these.
    folds: Semaphore,
    /// Whoever folds the log in memory to build a view anew takes this: one at a time, however many are to be built.
    replays: Arc<Semaphore>,
}

/// One view, as this process knows it.
pub(crate) struct View {
    pub(crate) projection: Arc<dyn AnyProjection>,
    pub(crate) table: Table,
    /// The position that this process's projector has committed: wakes queries that wait for it.
    pub(crate) committed: watch::Sender<Position>,
    /// Tells other processes, and is heard from them.
    pub(crate) signal: Signal,
    /// Signalled when generations came or went by what this process did.
    pub(crate) generations_changed: watch::Sender<()>,
    /// The generation that was served last, and its table.
    served: Mutex<Option<Arc<Served>>>,
    /// What changes in it, and what was read before.
    pub(crate) feed: Feed,
}

/// A generation that is served.
struct Served {
    id: i64,
    table: Table,
}

impl View {
    fn served(&self) -> MutexGuard<'_, Option<Arc<Served>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the queries that wait for a position that this process's projector has committed, in every process.
    pub(crate) fn reached(&self, position: Position) {
        self.committed.send_replace(position);
        self.signal.send(position.get());
    }
}

impl Views {
    /// Prepares for reading the views of `projections`. `contracts` are all that can be in the log; at any other event
    /// the projectors stop, whether its projection wants it or not. Touches no database: the tables are made by
    /// [`Projectors`](crate::Projectors), and until then the views are empty.
    ///
    /// # Errors
    ///
    /// [`ViewError::Spec`] when a projection cannot be stored.
    pub fn open(
        database: Database,
        log: Log,
        contracts: Contracts,
        projections: Vec<Arc<dyn AnyProjection>>,
    ) -> Result<Self, ViewError> {
        let mut views = BTreeMap::new();
        for projection in projections {
            let table = Table::new(projection.spec())?;
            let name = table.projection;
            let misdeclared = table.fields.iter().find_map(|field| projection.shape().check(field).err());
            if let Some(reason) = misdeclared {
                return Err(ViewError::Spec { projection: name, reason });
            }
            let committed = watch::Sender::new(Position::START);
            let (signal, generations_changed) = (log.signal(&table.name), watch::Sender::new(()));
            let (served, feed) = (Mutex::new(None), Feed::new());
            let view = View { projection, table, committed, signal, generations_changed, served, feed };
            if views.insert(name, Arc::new(view)).is_some() {
                return Err(ViewError::Spec { projection: name, reason: "its name is taken".into() });
            }
        }
        let (store, contracts) = (store(database.clone()), Arc::new(contracts));
        let closing = watch::Sender::new(false);
        let (scan, folds) = (Semaphore::new(1), Semaphore::new(FOLDS_MAX));
        let replays = Arc::new(Semaphore::new(1));
        let shared = Shared { database, store, log, contracts, views, closing, scan, folds, replays };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The document with a key.
    ///
    /// # Errors
    ///
    /// See [`ViewError`]; [`ViewError::NotYet`] when the view does not get as far as `at_least` in time.
    pub async fn get(
        &self,
        view: &str,
        key: &str,
        at_least: Option<AtLeast>,
    ) -> Result<Answer<Option<Document>>, ViewError> {
        let (view, position) = (self.view(view)?, at_least.map_or(Position::START, |wanted| wanted.position));
        if let Some(found) = Feed::ask(self, view, |cache| cache.document(key, position)) {
            return Ok(Answer { data: Some(found.data), position: found.position });
        }
        let selection = Selection { key: Some(key.to_owned()), limit: 1, ..Selection::default() };
        // On the heap, so that what is found above has not to move about what it takes to ask the database.
        let selected = Box::pin(self.read(view, &selection, at_least)).await?;
        let generation = selected.served;
        let answer = Answer::one(selected)?;
        if let Some(generation) = generation {
            view.feed.keep(|cache| cache.keep_document(generation, &answer));
        }
        Ok(answer)
    }

    /// A page of documents.
    ///
    /// # Errors
    ///
    /// See [`get`](Self::get).
    pub async fn page(
        &self,
        view: &str,
        query: &PageQuery,
        at_least: Option<AtLeast>,
    ) -> Result<Answer<Page>, ViewError> {
        let (view, position) = (self.view(view)?, at_least.map_or(Position::START, |wanted| wanted.position));
        let limit = query.limit.clamp(1, PageQuery::LIMIT_MAX);
        let name = query.name(limit);
        if let Some(found) = Feed::ask(self, view, |cache| cache.page(&name, position)) {
            return Ok(found);
        }
        let selection = Selection {
            key: None,
            owner: query.owner.clone(),
            filters: query.criteria.filters.clone(),
            sort: query.criteria.sort,
            after: query.after.clone(),
            limit: rows_for(limit),
        };
        let selected = Box::pin(self.read(view, &selection, at_least)).await?;
        let generation = selected.served;
        let answer = Answer::page(selected, limit as usize)?;
        if let Some(generation) = generation {
            view.feed.keep(|cache| cache.keep_page(name, generation, &answer));
        }
        Ok(answer)
    }

    /// Follows what becomes of a view: behind what was told up to `after`, or from now on.
    ///
    /// # Errors
    ///
    /// See [`ViewError`]; [`ViewError::Unavailable`] when nothing is known of the view's changes just now.
    pub async fn live(&self, view: &str, after: Option<Mark>) -> Result<Live, ViewError> {
        Live::begin(self, self.view(view)?, after).await
    }

    /// Ends all waiting for a position, now and later: queries answer at once, with [`ViewError::NotYet`] when the view
    /// is not as far as it has to be. For when the process shuts down.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Reads, again and again until the view is as far as it has to be.
    async fn read(
        &self,
        view: &View,
        selection: &Selection,
        at_least: Option<AtLeast>,
    ) -> Result<Selected, ViewError> {
        let (mut committed, mut heard) = (view.committed.subscribe(), view.signal.hear());
        let mut closing = self.shared.closing.subscribe();
        let mut poll = POLL_MIN;
        loop {
            // Marked as seen before reading, so that whatever is committed from here on wakes.
            committed.mark_unchanged();
            heard.mark_unchanged();
            let late = *closing.borrow() || at_least.is_some_and(|wanted| Instant::now() >= wanted.deadline);
            let selected = self.read_now(view, selection).await?;
            match at_least {
                Some(wanted) if selected.position < wanted.position && late => {
                    return Err(ViewError::NotYet { reached: selected.position });
                }
                Some(wanted) if selected.position < wanted.position => {
                    let until = wanted.deadline.min(Instant::now() + poll);
                    // Whichever comes first, it is time to look again.
                    tokio::select! {
                        () = reaches(&mut committed, |reached| *reached >= wanted.position) => {}
                        () = reaches(&mut heard, |heard| match heard {
                            Heard::Number(reached) => *reached >= wanted.position.get(),
                            Heard::Deaf => true,
                        }) => {}
                        _ = closing.wait_for(|closing| *closing) => {}
                        () = sleep_until(until) => {}
                    }
                    poll = (poll * 2).min(POLL_MAX);
                }
                _ => return Ok(selected),
            }
        }
    }

    /// Reads of the generation that is served at this moment. When it is another one than it was, or its table is gone
    /// meanwhile, it is looked up, and read again.
    async fn read_now(&self, view: &View, selection: &Selection) -> Result<Selected, ViewError> {
        let store = &self.shared.store;
        for _ in 0..TRIES {
            let known = view.served().clone().filter(|served| served.table.lacks(selection).is_none());
            let served = match known {
                Some(served) => served,
                None => match self.look_up(view).await? {
                    Some(served) => served,
                    None => return Ok(Selected::default()),
                },
            };
            if let Some(field) = served.table.lacks(selection) {
                return Err(ViewError::NotReady { version: served.table.version, field: field.name });
            }
            match store.select(served.id, &served.table, view.table.version, selection).await {
                Ok(selected) if selected.served == Some(served.id) => return Ok(selected),
                Ok(_) => {}
                Err(error) if is_missing_table(&error) => {}
                Err(error) => return Err(error.into()),
            }
            // Whoever was faster has looked it up already.
            view.served().take_if(|known| known.id == served.id);
        }
        Err(ViewError::Unavailable("the generation that is served cannot be read".into()))
    }

    async fn look_up(&self, view: &View) -> Result<Option<Arc<Served>>, ViewError> {
        let generations = self.shared.store.generations(view.table.projection).await?;
        let found = served(&generations, view.table.version)
            .map(|generation| Arc::new(Served { id: generation.id, table: view.table.of(generation) }));
        view.served().clone_from(&found);
        Ok(found)
    }

    pub(crate) fn view(&self, name: &str) -> Result<&Arc<View>, ViewError> {
        self.shared.views.get(name).ok_or_else(|| ViewError::Unknown(name.to_owned()))
    }

    /// Whether nobody is to wait any more.
    pub(crate) fn is_closing(&self) -> bool {
        *self.shared.closing.borrow()
    }

    /// Set when nobody is to wait any more.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.shared.closing.subscribe()
    }

    /// Waits for something, unless nobody is to wait any more; whether that is so.
    pub(crate) async fn closed_within(&self, something: impl Future<Output = ()>) -> bool {
        let mut closing = self.closing();
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => true,
            () = something => false,
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    pub(crate) fn replays(&self) -> &Arc<Semaphore> {
        &self.shared.replays
    }

    pub(crate) fn database(&self) -> &Database {
        &self.shared.database
    }

    pub(crate) fn scan(&self) -> &Semaphore {
        &self.shared.scan
    }

    pub(crate) fn folds(&self) -> &Semaphore {
        &self.shared.folds
    }

    pub(crate) fn log(&self) -> &Log {
        &self.shared.log
    }

    pub(crate) fn contracts(&self) -> &Arc<Contracts> {
        &self.shared.contracts
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        self.shared.views.values()
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Views").field(&self.shared.views.keys()).finish()
    }
}

/// Waits for news that are far enough.
async fn reaches<T>(news: &mut watch::Receiver<T>, far_enough: impl Fn(&T) -> bool) {
    while news.changed().await.is_ok() {
        if far_enough(&news.borrow_and_update()) {
            return;
        }
    }
}
