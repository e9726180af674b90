//! What is asked of a view, and what it answers.

use daybook_core::{Position, Revision};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::criteria::FieldValue;
use crate::store::{Row, Selected};
use crate::{Criteria, ViewError};

/// A document of a view.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its key.
    pub key: String,
    /// Its JSON, as the database gives it.
    pub body: Box<RawValue>,
    /// The position of the last event that touched it.
    pub position: Position,
    /// The revision of the stream that it stands for.
    pub revision: Revision,
}

/// What a view answers.
#[derive(Debug)]
pub struct Answer<T> {
    /// What was asked for.
    pub data: T,
    /// The position that it corresponds to: everything up to there is in it. Of documents whose range is further ahead, what
    /// came later is in it, too.
    pub position: Position,
}

/// How fresh an answer has to be.
#[derive(Debug, Clone, Copy)]
pub struct AtLeast {
    /// The position that the view must have reached.
    pub position: Position,
    /// How long to wait for it.
    pub deadline: Instant,
}

/// Which documents to answer with, a page at a time.
#[derive(Debug, Clone, Default)]
pub struct PageQuery {
    /// Only those whose owner this is. A view without owners has none for anybody.
    pub owner: Option<String>,
    /// Only those whose fields are so, and in which order.
    pub criteria: Criteria,
    /// Only those behind this place.
    pub after: Option<Cursor>,
    /// The most documents, from 1 to [`PageQuery::LIMIT_MAX`]; what is outside is brought inside.
    pub limit: u32,
}

impl PageQuery {
    /// The most documents on a page.
    pub const LIMIT_MAX: u32 = 100;

    /// What tells it from every other query of its view, when it has this limit.
    pub(crate) fn name(&self, limit: u32) -> String {
        format!("{limit} {:?} {:?} {:?}", self.owner, self.criteria, self.after)
    }
}

impl Document {
    /// What its texts take.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.body.get().len()
    }
}

/// A place between the documents of a view. Opaque: it comes from [`Page::next`] and goes into
/// [`PageQuery::after`] of the same query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The key of the last document before it.
    pub(crate) key: String,
    /// The value of the field that it is sorted by, unless there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<FieldValue>,
}

/// Some of a view's documents.
#[derive(Debug, Clone)]
pub struct Page {
    /// The documents.
    pub documents: Vec<Document>,
    /// Where to go on; `None` when these were the last.
    pub next: Option<Cursor>,
}

impl TryFrom<Row> for Document {
    type Error = ViewError;

    fn try_from(row: Row) -> Result<Self, ViewError> {
        let Row { key, body, position, revision, .. } = row;
        match RawValue::from_string(body) {
            Ok(body) => Ok(Self { key, body, position, revision }),
            Err(source) => Err(ViewError::Damaged { key, source }),
        }
    }
}

impl Answer<Option<Document>> {
    pub(crate) fn one(selected: Selected) -> Result<Self, ViewError> {
        let data = selected.rows.into_iter().next().map(Document::try_from).transpose()?;
        Ok(Self { data, position: selected.position })
    }
}

impl Answer<Page> {
    /// Makes a page of `limit` documents out of a selection of one more.
    pub(crate) fn page(mut selected: Selected, limit: usize) -> Result<Self, ViewError> {
        let more = selected.rows.len() > limit;
        selected.rows.truncate(limit);
        let next = selected
            .rows
            .last()
            .filter(|_| more)
            .map(|last| Cursor { key: last.key.clone(), value: last.sorted.clone() });
        let documents = selected.rows.into_iter().map(Document::try_from).collect::<Result<_, _>>()?;
        Ok(Self { data: Page { documents, next }, position: selected.position })
    }
}
