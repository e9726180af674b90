//! The edge where personal fields are opened. Whoever opens those of others is recorded before they get them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use daybook_core::{Actor, account_subject};
use daybook_dispatch::Request;
use serde_json::value::RawValue;

use crate::{Backend, Problem, request};

/// What [`CACHE_CONTROL`] says of an answer that nobody but its reader may keep.
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Somebody who reads, and what they asked for.
pub(crate) struct Reader {
    backend: web::Data<Backend>,
    request: Request,
    /// The path.
    asked: String,
    /// Whose data was opened for this request, as it is recorded.
    recorded: BTreeSet<String>,
    /// Whether anybody's was, their own included.
    has_opened: bool,
}

/// What somebody sees of the personal fields of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The values.
    Open,
    /// That there are some.
    Sealed,
    /// That the person was forgotten.
    Erased,
}

/// What somebody sees of the people in some documents.
#[derive(Debug)]
pub(crate) struct Sight(pub(crate) BTreeMap<String, Seen>);

impl Sight {
    /// Whether nobody is in them, so that there is nothing to open.
    pub(crate) fn is_of_nobody(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anything personal is open.
    pub(crate) fn is_open(&self) -> bool {
        self.0.values().any(|seen| *seen == Seen::Open)
    }
}

/// Unambiguous, since no subject holds a quote.
impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(subject, seen)| write!(f, "{subject:?}{seen:?}"))
    }
}

impl Reader {
    pub(crate) fn new(http: &HttpRequest, backend: &web::Data<Backend>, actor: Actor) -> Result<Self, Problem> {
        let request = request::plain_request(http, actor)?;
        let asked = http.path().to_owned();
        Ok(Self { backend: backend.clone(), request, asked, recorded: BTreeSet::new(), has_opened: false })
    }

    pub(crate) fn actor(&self) -> &Actor {
        &self.request.actor
    }

    /// What this reader is to see of the people in documents, without opening anything; with `all`, they may see
    /// everybody's.
    pub(crate) async fn sight(&self, documents: &[Box<RawValue>], all: bool) -> Result<Sight, Problem> {
        let own = self.own();
        let people = self.backend.keys.people_in(documents).await?;
        let seen = |subject: &str, is_forgotten| match is_forgotten {
            true => Seen::Erased,
            false if all || own.as_deref() == Some(subject) => Seen::Open,
            false => Seen::Sealed,
        };
        let mut sight = BTreeMap::new();
        for (subject, is_forgotten) in people {
            let seen = seen(&subject, is_forgotten);
            sight.insert(subject, seen);
        }
        Ok(Sight(sight))
    }

    /// The subject that this reader is, when they have an account.
    fn own(&self) -> Option<String> {
        self.actor().account().map(account_subject)
    }

    /// Documents as this reader may see them: with their own personal fields open, and with `all` everybody's. What
    /// holds none stays as it is, to the byte.
    pub(crate) async fn opened(
        &mut self,
        documents: Vec<Box<RawValue>>,
        all: bool,
    ) -> Result<Vec<Box<RawValue>>, Problem> {
        let own = self.own();
        let may_open = |subject: &str| all || own.as_deref() == Some(subject);
        let opened = self.backend.keys.open_documents(documents, &may_open).await?;
        self.has_opened |= !opened.subjects.is_empty();
        let others: Vec<_> = opened
            .subjects
            .into_iter()
            .filter(|subject| Some(subject) != own.as_ref() && !self.recorded.contains(subject))
            .collect();
        if !others.is_empty() {
            self.backend.dispatcher.record_opening(&self.request, &self.asked, &others).await?;
            self.recorded.extend(others);
        }
        Ok(opened.documents)
    }

    /// The beginning of an answer with what was opened. Nothing on its way may keep a copy of personal data: who was
    /// forgotten would be found there.
    pub(crate) fn answer(&self) -> HttpResponseBuilder {
        let mut answer = HttpResponse::Ok();
        if self.has_opened {
            answer.insert_header((CACHE_CONTROL, NO_STORE));
        }
        answer
    }
}
