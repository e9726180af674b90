//! What is personal is sealed before it is appended.

use daybook_core::{Decision, Encoded, Sealing, holds_fresh};
use daybook_keys::Keys;
use daybook_log::NewRecord;

use crate::DispatchError;

/// The records of a decision's events, sealed, each under its own id. So are the events themselves then: what is applied
/// in memory is what will be read from the log.
pub(crate) fn sealed_records(
    keys: &Keys,
    decision: &mut Decision,
) -> Result<Sealing<Vec<NewRecord>>, DispatchError> {
    let mut records = Vec::with_capacity(decision.events.len());
    let mut missing = Vec::new();
    for new in &mut decision.events {
        let mut record = NewRecord::new(new.stream.clone(), &*new.event)?;
        if holds_fresh(&record.payload) {
            match keys.seal(record.id, record.payload)? {
                Sealing::Sealed(payload) => {
                    let Encoded { event_type, schema_version, .. } = new.event.encode()?;
                    new.event =
                        new.event.sealed(Encoded { event_type, schema_version, payload: payload.clone() })?;
                    record.payload = payload;
                }
                Sealing::Missing(payload, subjects) => {
                    record.payload = payload;
                    missing.extend(subjects);
                }
            }
        }
        records.push(record);
    }
    Ok(if missing.is_empty() { Sealing::Sealed(records) } else { Sealing::Missing(records, missing) })
}
