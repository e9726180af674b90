//! The parameters of a view's addresses.

use std::borrow::Cow;

use daybook_core::{AnyProjection, Position};
use daybook_views::{Criteria, PageQuery};
use serde::Deserialize;

use super::as_of::At;
use super::sparse::Fields;
use crate::{Problem, request};

/// How many documents a page has when nobody asks for more or fewer.
pub(crate) const LIMIT: u32 = 20;

/// What is asked of a list.
#[derive(Debug)]
pub(super) struct ListQuery {
    pub(super) criteria: Criteria,
    pub(super) limit: u32,
    pub(super) cursor: Option<String>,
    pub(super) fields: Option<Fields>,
    pub(super) min_position: Option<Position>,
}

/// What is asked of a document.
#[derive(Debug)]
pub(super) struct DocumentQuery {
    pub(super) fields: Option<Fields>,
    pub(super) min_position: Option<Position>,
    pub(super) at: Option<At>,
}

/// There are no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The parameters of a list that are about none of its fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
    fields: Option<String>,
    min_position: Option<Position>,
}

const PAGE: [&str; 4] = ["limit", "cursor", "fields", "min_position"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    fields: Option<String>,
    min_position: Option<Position>,
    at: Option<String>,
}

impl ListQuery {
    /// Reads the query string of a list.
    pub(super) fn parse(query: &str, projection: &dyn AnyProjection) -> Result<Self, Problem> {
        request::without_nul(query)?;
        type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;
        let pairs = form_urlencoded::parse(query.as_bytes());
        let (page, criteria): (Pairs<'_>, Pairs<'_>) = pairs.partition(|(name, _)| PAGE.contains(&name.as_ref()));
        let page = form_urlencoded::Serializer::new(String::new()).extend_pairs(page).finish();
        let Page { limit, cursor, fields, min_position } = request::query(&page)?;
        let limit = limit.unwrap_or(LIMIT);
        if !(1..=PageQuery::LIMIT_MAX).contains(&limit) {
            let detail = format!("The limit is 1 to {}.", PageQuery::LIMIT_MAX);
            return Err(Problem::parameter("limit", detail));
        }
        let criteria = Criteria::parse(projection, criteria).map_err(|unusable| {
            let others = "Besides, there are `sort`, `fields`, `limit`, `cursor` and `min_position`.";
            Problem::parameter(&unusable.parameter, format!("{} {others}", unusable.reason))
        })?;
        Ok(Self { criteria, limit, cursor, fields: Fields::parse_some(fields, projection.shape())?, min_position })
    }
}

impl DocumentQuery {
    /// Reads the query string of a document.
    pub(super) fn parse(query: &str, projection: &dyn AnyProjection) -> Result<Self, Problem> {
        let One { fields, min_position, at } = request::query(query)?;
        let at = at.as_deref().map(At::parse).transpose()?;
        Ok(Self { fields: Fields::parse_some(fields, projection.shape())?, min_position, at })
    }
}

/// Reads the query string of a list that is followed: which documents to tell of.
pub(super) fn live(query: &str, projection: &dyn AnyProjection) -> Result<Criteria, Problem> {
    request::without_nul(query)?;
    let criteria = Criteria::parse(projection, form_urlencoded::parse(query.as_bytes()))
        .map_err(|unusable| Problem::parameter(&unusable.parameter, unusable.reason))?;
    match criteria.is_sorted() {
        true => Err(Problem::parameter("sort", "What is followed comes as it happens, in no other order.")),
        false => Ok(criteria),
    }
}
