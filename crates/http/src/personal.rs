//! The edge where personal fields are opened.

use daybook_core::{Actor, account_subject};
use serde_json::value::RawValue;

use crate::{Backend, Problem};

/// Documents as this actor may see them: their own personal fields are open, and with `all` everybody's. What holds none
/// stays as it is, to the byte.
pub(crate) async fn opened(
    backend: &Backend,
    documents: Vec<Box<RawValue>>,
    actor: &Actor,
    all: bool,
) -> Result<Vec<Box<RawValue>>, Problem> {
    let own = actor.account().map(account_subject);
    let may_open = |subject: &str| all || own.as_deref() == Some(subject);
    Ok(backend.keys.open_documents(documents, &may_open).await?.documents)
}
