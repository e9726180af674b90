//! Who opened whose personal data.

use chrono::Utc;
use daybook_core::{Event, StreamId, event_set};
use daybook_log::{Append, NewRecord, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DispatchError, Dispatcher, Request};

/// Somebody asked for personal data of others, and could open it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonalOpened {
    /// What was asked for: `/v1/views/customers/018f…`.
    pub asked: String,
    /// Whose data it was.
    pub subjects: Vec<String>,
}

impl Event for PersonalOpened {
    const TYPE: &'static str = "daybook.personal.opened";
    const VERSION: u32 = 1;
}

event_set! {
    /// What is recorded of who read what.
    pub enum OpeningEvent { PersonalOpened }
}

/// The category of the streams that openings are recorded in, one for each actor.
const CATEGORY: &str = "daybook.openings";

/// What openings are called in their own metadata, where commands have their names.
const COMMAND: &str = "daybook.personal.open";

/// The most subjects that one event names: its line has a limit.
const SUBJECTS_MAX: usize = 500;

impl Dispatcher {
    /// Records that somebody opens personal data of others. To be called before they get it.
    ///
    /// # Errors
    ///
    /// When it cannot be recorded; then the data must not be given.
    pub async fn record_opening(
        &self,
        request: &Request,
        asked: &str,
        subjects: &[String],
    ) -> Result<(), DispatchError> {
        let actor = request.actor.name().unwrap_or_else(|| "anonymous".into());
        let stream = StreamId::new(CATEGORY, &actor);
        let opened = |subjects: &[String]| {
            let event = PersonalOpened { asked: asked.to_owned(), subjects: subjects.to_vec() };
            NewRecord::new(stream.clone(), &OpeningEvent::from(event))
        };
        let command_id = Uuid::now_v7();
        let metadata = self.keys.sealed_metadata(request.metadata(COMMAND, command_id, Utc::now())).await?;
        let append = Append {
            id: actor,
            command_id,
            events: subjects.chunks(SUBJECTS_MAX).map(opened).collect::<Result<_, _>>()?,
            metadata,
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        match self.log.append(append).await? {
            Verdict::Committed(_) => Ok(()),
            verdict => Err(DispatchError::Internal(format!("an opening was not written: {verdict:?}"))),
        }
    }
}
