//! Views of filled logs: a document for each stream.

pub(crate) mod by_hand;
pub(crate) mod lag;
pub(crate) mod project;
pub(crate) mod rebuild;

use clap::{Arg, ArgMatches};
use daybook_core::{
    Access, Contracts, Envelope, Keys, Metadata, Position, Projection, ProjectionSpec, projection,
};
use daybook_database::{Database, Options, Schema};
use daybook_dispatch::Request;
use daybook_log::Log;
use daybook_views::{ProjectionEvent, Views};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::arguments;
use crate::filled::FilledEvent;

/// A stream, as its view shows it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FilledView {
    /// How many events it has.
    events: u64,
    /// What the last of them says.
    last: u64,
    note: String,
}

impl FilledView {
    /// What both the projection and who writes it by hand do with an event.
    fn apply(&mut self, event: &FilledEvent) {
        self.events += 1;
        let (last, note) = match event {
            FilledEvent::Filled(filled) => (filled.number, &filled.filler),
            FilledEvent::Counted(counted) => (counted.count, &counted.note),
        };
        self.last = last;
        self.note.clone_from(note);
    }
}

/// The view `filled`.
struct FilledStreams;

impl Projection for FilledStreams {
    type Event = FilledEvent;
    type View = FilledView;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: FILLED,
            version: 1,
            summary: "The streams of a filled log.",
            category: "daybook.bench",
            fields: &[],
            indexes: &[],
            access: Access::anyone(),
            owner: None,
        }
    }

    fn keys(event: &Envelope<'_, FilledEvent>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
    }

    fn apply(_: &str, view: &mut Option<FilledView>, event: &Envelope<'_, FilledEvent>) {
        view.get_or_insert_default().apply(&event.event);
    }
}

const FILLED: &str = "filled";

/// Where the log and the views are.
fn store() -> impl Iterator<Item = Arg> {
    let [url, file] = arguments::store();
    let views = "The views' PostgreSQL database, which is made ready for them";
    let views_url = Arg::new("views-url").long("views-url").value_name("URL").help(views);
    let views_file = Arg::new("views-file").long("views-file").value_name("PATH").help("The views' SQLite file");
    [url, file, views_url, views_file.conflicts_with("views-url")].into_iter()
}

/// A filled log and the views of it, as a process has them.
struct World {
    databases: [Database; 2],
    log: Log,
    views: Views,
    head: Position,
}

impl World {
    async fn open(arguments: &ArgMatches) -> anyhow::Result<Self> {
        let views = arguments::location(arguments, "views-url", "views-file")?;
        let views = Database::connect(&views, &Options::default()).await?;
        views.migrate(Schema::Views).await?;
        let databases = [arguments::open(arguments).await?, views];
        let log = Log::open(databases[0].clone(), daybook_log::Settings::default()).await?;
        let mut contracts = Contracts::default();
        contracts.add::<FilledEvent>();
        contracts.add::<ProjectionEvent>();
        let views =
            Views::open(databases[1].clone(), log.clone(), contracts, vec![projection::<FilledStreams>()])?;
        let head = log.head().await?.position;
        Ok(Self { databases, log, views, head })
    }

    async fn close(self) {
        self.log.close().await;
        for database in self.databases {
            database.close().await;
        }
    }
}

/// Whoever has a view built anew.
fn operator() -> Metadata {
    Request::system("bench").metadata("daybook.bench.rebuild", Uuid::now_v7(), chrono::Utc::now())
}
