//! Whatever is in a view and whatever is asked: the pages, one after the other, are what a plain filter and sort of all
//! documents are.

use daybook_core::{Changed, Field, FieldKind};
use daybook_database::{Database, Location, on_both};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::*;
use crate::criteria::Filter;
use crate::testing::{FIELDS, Ready};
use crate::{Answer, Criteria};

on_both!(&[Schema::Views], pages_are_the_plain_filter_and_sort);

/// How many views, and how many lists of each.
const VIEWS: usize = 4;
const LISTS: usize = 120;

/// Few values, so that there are many documents with the same one; and the bytes' order, which is no language's.
const TEXTS: [&str; 6] = ["", "Z", "a", "a-b", "ab", "é"];
const TIMES: [&str; 3] =
    ["2026-01-31T09:15:00.000000Z", "2026-01-31T09:15:00.000001Z", "2026-02-01T00:00:00.000000Z"];

fn value(kind: FieldKind) -> BoxedStrategy<FieldValue> {
    let text = |text: &str| FieldValue::Text(text.to_owned());
    match kind {
        FieldKind::Text => prop::sample::select(&TEXTS[..]).prop_map(text).boxed(),
        FieldKind::Time => prop::sample::select(&TIMES[..]).prop_map(text).boxed(),
        FieldKind::Integer => {
            prop_oneof![-2..3_i64, Just(i64::MIN), Just(i64::MAX)].prop_map(FieldValue::Integer).boxed()
        }
        FieldKind::Bool => any::<bool>().prop_map(FieldValue::Bool).boxed(),
    }
}

/// A document: a value in each field, or `null`, or nothing.
fn document() -> impl Strategy<Value = Value> {
    let values = FIELDS.map(|field| prop::option::weighted(0.8, prop::option::weighted(0.9, value(field.kind))));
    values.to_vec().prop_map(|values| {
        let mut document = json!({});
        for (field, value) in FIELDS.iter().zip(values) {
            let Some(value) = value else { continue };
            let mut at = &mut document;
            for step in field.path {
                at = &mut at[*step];
            }
            *at = json!(value);
        }
        document
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let operators = [Operator::Is, Operator::In, Operator::Gt, Operator::Gte, Operator::Lt, Operator::Lte];
    let drawn = (prop::sample::select(&FIELDS[..]), prop::sample::select(operators.to_vec()));
    drawn.prop_flat_map(|(field, operator)| {
        let count = if operator == Operator::In { 1..4_usize } else { 1..2 };
        prop::collection::btree_set(value(field.kind), count).prop_map(move |values| Filter {
            field,
            operator,
            values: values.into_iter().collect(),
        })
    })
}

fn list() -> impl Strategy<Value = (Selection, usize)> {
    let sort = (prop::sample::select(&FIELDS[..]), any::<bool>());
    let sort = sort.prop_map(|(field, descending)| Sort { field, descending });
    let filters = prop::collection::vec(filter(), 0..3);
    let owner = prop::option::weighted(0.3, prop::sample::select(&TEXTS[..]).prop_map(str::to_owned));
    let drawn = (filters, prop::option::weighted(0.8, sort), owner, 1..13_usize);
    drawn.prop_map(|(filters, sort, owner, limit)| {
        (Selection { filters, sort, owner, ..Selection::default() }, limit)
    })
}

fn documents() -> impl Strategy<Value = Vec<(String, Value)>> {
    prop::collection::btree_map("[a-cZé-]{1,4}", document(), 0..90).prop_map(|drawn| drawn.into_iter().collect())
}

fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).expect("drawn").current()
}

fn value_of(document: &Value, field: &Field) -> Option<FieldValue> {
    let value = field.path.iter().try_fold(document, |json, step| json.get(step))?;
    (!value.is_null()).then(|| serde_json::from_value(value.clone()).expect("a field's value"))
}

/// The keys that a list is to have.
fn plain(documents: &[(String, Value)], selection: &Selection) -> Vec<String> {
    let own = |document: &Value| {
        let owner = value_of(document, &FIELDS[0]);
        selection.owner.as_ref().is_none_or(|wanted| owner == Some(FieldValue::Text(wanted.clone())))
    };
    // What live readers are shown is found by this, and lists by SQL.
    let criteria = Criteria { filters: selection.filters.clone(), sort: selection.sort };
    let mut found: Vec<_> = documents
        .iter()
        .filter(|(_, document)| own(document) && criteria.matches(document))
        .map(|(key, document)| (selection.sort.and_then(|sort| value_of(document, &sort.field)), key.clone()))
        .collect();
    found.sort();
    if selection.sort.is_some_and(|sort| sort.descending) {
        found.reverse();
    }
    found.into_iter().map(|(_, key)| key).collect()
}

async fn pages_are_the_plain_filter_and_sort(_: Location, database: Database) {
    let mut runner = TestRunner::deterministic();
    for version in 1..=VIEWS as u32 {
        let spec = daybook_core::ProjectionSpec {
            version,
            ..<crate::testing::Orders as daybook_core::Projection>::spec()
        };
        let view = Table::new(&spec).expect("a good declaration");
        let ready = Ready::new(database.clone(), &view).await;
        let documents = draw(&mut runner, documents());
        let changed: Vec<_> = documents
            .iter()
            .map(|(key, body)| Changed {
                key: key.clone(),
                body: Some(body.to_string()),
                position: Position::new(1),
                revision: Revision::new(1),
            })
            .collect();
        assert!(ready.commit(&[ready.claim], 0, 1, &changed).await.expect("an answer"));
        for _ in 0..LISTS {
            let (mut selection, limit) = draw(&mut runner, list());
            let expected = plain(&documents, &selection);
            selection.limit = rows_for(limit as u32);
            let mut keys = Vec::new();
            loop {
                let selected = ready.select(&selection).await;
                let page = Answer::page(selected, limit).expect("good documents").data;
                keys.extend(page.documents.into_iter().map(|document| document.key));
                let Some(next) = page.next else { break };
                assert_eq!(keys.len() % limit, 0, "a page that is not the last is full: {selection:?}");
                // As it goes through a client's hands.
                let token = serde_json::to_string(&next).expect("JSON");
                selection.after = Some(serde_json::from_str(&token).expect("the same cursor"));
            }
            assert_eq!(keys, expected, "{selection:?}");
        }
    }
}
