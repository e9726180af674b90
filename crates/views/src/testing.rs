//! A view of orders and a generation of it, as tests of stores and queries need them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook_core::{
    Access, AnyProjection, Changed, Envelope, Event, Field, FieldKind, Keys, Personal, Position, Projection,
    ProjectionSpec, event_set,
};
use daybook_database::Database;
use daybook_log::Checkpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Criteria;
use crate::criteria::Unusable;
use crate::generation::Phase;
use crate::ranges::Claim;
use crate::slices::{SLICES, Slices};
use crate::store::generations::NewGeneration;
use crate::store::{Commit, Selected, Selection, Store, store};
use crate::table::Table;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Happened {}

impl Event for Happened {
    const TYPE: &'static str = "happened";
    const VERSION: u32 = 1;
}

event_set! { pub(crate) enum Events { Happened } }

#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Order {
    customer_id: Option<String>,
    status: Option<String>,
    total: Option<Total>,
    placed_at: Option<DateTime<Utc>>,
    open: Option<bool>,
    email: Personal<String>,
    note: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Total {
    amount: i64,
}

pub(crate) struct Orders;

pub(crate) const FIELDS: [Field; 5] = [
    Field { name: "customer_id", path: &["customer_id"], kind: FieldKind::Text },
    Field { name: "status", path: &["status"], kind: FieldKind::Text },
    Field { name: "total", path: &["total", "amount"], kind: FieldKind::Integer },
    Field { name: "placed_at", path: &["placed_at"], kind: FieldKind::Time },
    Field { name: "open", path: &["open"], kind: FieldKind::Bool },
];

impl Projection for Orders {
    type Event = Events;
    type View = Order;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "orders",
            version: 1,
            summary: "",
            category: "order",
            fields: &FIELDS,
            indexes: &[&["customer_id", "placed_at"], &["status", "placed_at"], &["status", "total"]],
            access: Access::anyone(),
            owner: Some("customer_id"),
        }
    }

    fn keys(_: &Envelope<'_, Events>, _: &mut Keys) {}

    fn apply(_: &str, _: &mut Option<Order>, _: &Envelope<'_, Events>) {}
}

pub(crate) fn table() -> Table {
    Table::new(&Orders::spec()).expect("a good declaration")
}

/// Reads a query string without escapes.
pub(crate) fn parse(query: &str) -> Result<Criteria, Unusable> {
    let projection: &dyn AnyProjection = &*daybook_core::projection::<Orders>();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    Criteria::parse(projection, pairs.map(|(name, value)| (name.into(), value.into())))
}

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A place in a log.
pub(crate) fn at(position: u64) -> Checkpoint {
    let event_id = Uuid::from_u128(u128::from(position));
    Checkpoint { log_id: Uuid::from_u128(7), epoch: 3, position: Position::new(position), event_id }
}

pub(crate) fn new(phase: Phase) -> NewGeneration {
    NewGeneration { phase, shards: 1, confirm_diff: false, started_by: "a test".into(), start: at(0) }
}

/// A generation with one range, which `a` holds.
pub(crate) struct Ready {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) generation: i64,
    pub(crate) table: Table,
    pub(crate) claim: Claim,
}

impl Ready {
    /// One that is served.
    pub(crate) async fn new(database: Database, view: &Table) -> Self {
        Self::begun(database, view, Phase::Live).await
    }

    pub(crate) async fn begun(database: Database, view: &Table, phase: Phase) -> Self {
        let store = store(database);
        let generation = store.begin(view, &new(phase)).await.expect("an answer").expect("the first one");
        let free = Claim { slices: Slices { from: 0, to: SLICES }, lease_epoch: 0 };
        assert!(store.take(generation.id, free, "a", LONG).await.expect("an answer"));
        let claim = Claim { lease_epoch: 1, ..free };
        Self { store, generation: generation.id, table: view.of(&generation), claim }
    }

    pub(crate) async fn commit(
        &self,
        ranges: &[Claim],
        from: u64,
        to: u64,
        changed: &[Changed],
    ) -> Result<bool, sqlx::Error> {
        self.store.commit(&self.to_commit(ranges, from, to, changed)).await
    }

    pub(crate) fn to_commit<'a>(
        &'a self,
        ranges: &'a [Claim],
        from: u64,
        to: u64,
        changed: &'a [Changed],
    ) -> Commit<'a> {
        Commit {
            generation: self.generation,
            table: &self.table,
            ranges,
            from: Position::new(from),
            to: at(to),
            changed,
            parked: &[],
            revived: None,
            announced: true,
            lease: LONG,
        }
    }

    pub(crate) async fn select(&self, selection: &Selection) -> Selected {
        self.store.select(self.generation, &self.table, self.table.version, selection).await.expect("an answer")
    }
}
