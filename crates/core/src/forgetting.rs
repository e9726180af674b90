//! Forgetting a person.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Event, Receipt, StreamId, event_set};

/// A person was forgotten: the key of their personal data was, or is about to be, deleted. Every copy of the data is
/// unreadable from then on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectForgotten {
    /// Who: the subject of their personal data.
    pub subject: String,
}

impl Event for SubjectForgotten {
    const TYPE: &'static str = "daybook.subject.forgotten";
    const VERSION: u32 = 1;
}

event_set! {
    /// What happens to a subject, to those who have to act on it.
    pub enum SubjectEvent { SubjectForgotten }
}

impl SubjectEvent {
    /// The category of the streams that these events are recorded in, one for each subject.
    pub const CATEGORY: &'static str = "daybook.subject";

    /// The stream of a subject.
    pub(crate) fn stream(subject: &str) -> StreamId {
        StreamId::new(Self::CATEGORY, subject)
    }

    /// Whom it is about.
    pub fn subject(&self) -> &str {
        let Self::SubjectForgotten(SubjectForgotten { subject }) = self;
        subject
    }
}

impl Receipt {
    /// The subjects that were forgotten.
    pub fn forgotten(&self) -> impl Iterator<Item = &str> {
        let forgotten = self.events.iter().filter(|event| event.event_type == SubjectForgotten::TYPE);
        forgotten.map(|event| event.stream.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventSet;
    use crate::testing::check_contracts;

    #[test]
    fn contracts_are_kept() {
        check_contracts(env!("CARGO_MANIFEST_DIR"), &[SubjectEvent::TYPES]);
    }
}
