//! The edge where personal fields are opened.

use daybook_core::{Actor, reveal};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::Problem;

/// JSON as this actor may see it: their own personal fields are open, and with `all` everybody's. What holds none stays
/// as it is, to the byte.
pub(crate) fn opened(json: Box<RawValue>, actor: &Actor, all: bool) -> Result<Box<RawValue>, Problem> {
    if !json.get().contains("\"personal\"") {
        return Ok(json);
    }
    let own = actor.account().map(|account| format!("account-{account}"));
    let mut value: Value = serde_json::from_str(json.get()).map_err(|error| Problem::internal(&error))?;
    reveal(&mut value, &|subject| all || own.as_deref() == Some(subject));
    to_raw_value(&value).map_err(|error| Problem::internal(&error))
}
