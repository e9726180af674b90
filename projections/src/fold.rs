//! Folding a history in memory, as the engine does it batch by batch; and the law that batches do not matter.

use std::collections::HashMap;

use chrono::DateTime;
use daybook_core::{
    AnyProjection, Changed, Event, JsonText, Opened, Personal, Position, Projection, RecordedEvent, Revision,
    Sealing, StreamId, open_fields, projection, seal_fields,
};
use daybook_events::{
    CustomerRegistered, Money, OrderCancelled, OrderConfirmed, OrderLine, OrderPlaced, ProductCreated,
    StockAllocated, StockReceived, StockReleased, TaxCategory,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use uuid::Uuid;

use crate::{Customers, Orders, Products, Stock};

pub(crate) const ORDER: Uuid = Uuid::from_u128(0x0d);
pub(crate) const ADA: Uuid = Uuid::from_u128(0xada);
pub(crate) const TEA: Uuid = Uuid::from_u128(0x7ea);

pub(crate) fn subject(customer_id: Uuid) -> String {
    format!("account-{customer_id}")
}

pub(crate) fn ada() -> CustomerRegistered {
    let personal = |value: &str| Personal::new(subject(ADA), value.to_owned());
    CustomerRegistered { customer_id: ADA, name: personal("Ada"), email: personal("ada@example.com") }
}

fn eur(amount: i64) -> Money {
    Money::new(amount, "EUR".parse().expect("a currency"))
}

pub(crate) fn tea() -> ProductCreated {
    ProductCreated {
        product_id: TEA,
        sku: "TEA-1".into(),
        name: "Assam".into(),
        category: "Tea".into(),
        price: eur(1290),
        tax_category: TaxCategory::Reduced,
    }
}

pub(crate) fn order() -> OrderPlaced {
    let line = OrderLine {
        product_id: TEA,
        sku: "TEA-1".into(),
        name: "Assam".into(),
        quantity: 2,
        unit_price: eur(1290),
        total: eur(2580),
    };
    OrderPlaced {
        order_id: ORDER,
        customer_id: ADA,
        pricing_policy: 1,
        lines: vec![line],
        total: eur(2580),
        placed_at: DateTime::from_timestamp(1_769_850_900, 0).expect("a time"),
    }
}

/// A log in memory.
#[derive(Debug, Default)]
pub(crate) struct History(Vec<RecordedEvent>);

impl History {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an event to the stream of this category and id, a second after the one before it.
    pub(crate) fn add<E: Event>(mut self, category: &str, id: Uuid, event: E) -> Self {
        let stream = StreamId::new(category, id);
        let position = self.0.len() as u64 + 1;
        let event_id = Uuid::from_u128(position.into());
        let revision = self.0.iter().filter(|record| record.stream == stream).count() as u64 + 1;
        self.0.push(RecordedEvent {
            position: Position::new(position),
            stream,
            revision: Revision::new(revision),
            id: event_id,
            event_type: E::TYPE.to_owned(),
            schema_version: E::VERSION,
            recorded_at: DateTime::from_timestamp(1_769_850_900 + position as i64, 0).expect("a time"),
            metadata: JsonText::new("null"),
            payload: sealed(&event, event_id),
        });
        self
    }

    /// The documents that are left in the end, when all is folded in one batch.
    pub(crate) fn fold<P: Projection>(&self) -> Vec<Changed> {
        fold(&*projection::<P>(), [&self.0[..]])
    }
}

/// An event's payload as it is recorded: sealed, with a cipher that hides nothing.
fn sealed(event: &impl Event, id: Uuid) -> JsonText {
    let payload = serde_json::to_string(event).expect("JSON");
    match seal_fields(payload, id, &mut |_, plain| Some(plain.to_owned())) {
        Sealing::Sealed(payload) => JsonText::new(payload),
        Sealing::Missing(_, subjects) => panic!("no keys of {subjects:?}"),
    }
}

/// Folds batch after batch, each over what the ones before left.
fn fold<'a>(
    projection: &dyn AnyProjection,
    batches: impl IntoIterator<Item = &'a [RecordedEvent]>,
) -> Vec<Changed> {
    let mut documents: HashMap<String, Changed> = HashMap::new();
    for events in batches {
        let mut batch = projection.open(events.into(), &|_| true).expect("readable events");
        let mut memory = projection.documents();
        for key in batch.keys() {
            let stored = documents.get(key).and_then(|found| Some((found.body.as_deref()?, found.revision)));
            memory.load(key, stored).expect("a document of the view's shape");
        }
        assert_eq!(memory.fold(&mut *batch, &|_| None), []);
        for changed in memory.changed().expect("documents with a JSON form") {
            documents.insert(changed.key.clone(), changed);
        }
    }
    let mut documents: Vec<_> = documents.into_values().filter(|document| document.body.is_some()).collect();
    documents.sort_by(|a, b| a.key.cmp(&b.key));
    documents
}

/// The document with this key, as somebody sees it who may open all of it.
pub(crate) fn document(documents: &[Changed], key: Uuid) -> Value {
    let body =
        documents.iter().find(|document| document.key == key.to_string()).and_then(|found| found.body.as_deref());
    let body = body.expect("a document");
    let opened = open_fields(body, &mut |_, sealed| Opened::Value(sealed.to_owned()));
    serde_json::from_str(opened.as_deref().unwrap_or(body)).expect("JSON")
}

/// Any history at all, even one that the shop would not allow: a fold takes what has happened.
fn history() -> impl Strategy<Value = History> {
    prop::collection::vec((0..8_u8, 0..3_u128, 1..9_i64), 0..40).prop_map(|choices| {
        choices.into_iter().fold(History::new(), |history, (choice, number, quantity)| {
            let id = Uuid::from_u128(number);
            let order_id = ORDER;
            match choice {
                0 => history.add("product", id, ProductCreated { product_id: id, ..tea() }),
                1 => history.add("customer", id, CustomerRegistered { customer_id: id, ..ada() }),
                2 => history.add("stock", id, StockReceived { quantity }),
                3 => history.add("stock", id, StockAllocated { order_id, quantity }),
                4 => history.add("stock", id, StockReleased { order_id, quantity }),
                5 => history.add("order", id, OrderPlaced { order_id: id, customer_id: id, ..order() }),
                6 => history.add("order", id, OrderConfirmed { customer_id: id }),
                _ => history.add("order", id, OrderCancelled { customer_id: id, reason: None }),
            }
        })
    })
}

/// The history cut at some places.
fn batches<'a>(History(events): &'a History, cuts: &[Index]) -> Vec<&'a [RecordedEvent]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(events.len() + 1)).collect();
    places.extend([0, events.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &events[pair[0]..pair[1]]).collect()
}

#[test]
fn what_happened_before_a_document_was_there_is_not_remembered_by_one_batch_alone() {
    let history = History::new().add("stock", TEA, StockReceived { quantity: 1 }).add("product", TEA, tea());
    let stock = projection::<Stock>();
    assert_eq!(fold(&*stock, history.0.chunks(1)), history.fold::<Stock>());
}

proptest! {
    #[test]
    fn a_view_does_not_depend_on_the_size_of_the_batches(
        history in history(),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let projections =
            [projection::<Products>(), projection::<Stock>(), projection::<Orders>(), projection::<Customers>()];
        for projection in projections {
            let whole = fold(&*projection, [&history.0[..]]);
            prop_assert_eq!(&fold(&*projection, batches(&history, &cuts)), &whole);
            prop_assert_eq!(&fold(&*projection, history.0.chunks(1)), &whole);
        }
    }
}
