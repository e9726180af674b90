//! What operators do that is no command of the domain: it has metadata like one, and is denied like one.

use chrono::Utc;
use daybook_core::{Metadata, StreamId};
use uuid::Uuid;

use crate::refusals::Refusal;
use crate::{DispatchError, Dispatcher, Request};

impl Dispatcher {
    /// The metadata of the event of an act, with where it came from sealed.
    ///
    /// # Errors
    ///
    /// When the keys are not available.
    pub async fn metadata(&self, request: &Request, act: &'static str) -> Result<Metadata, DispatchError> {
        Ok(self.keys.sealed_metadata(request.metadata(act, Uuid::now_v7(), Utc::now())).await?)
    }

    /// Records that somebody may not do an act that `stream` would tell of. To be called before they are told.
    ///
    /// # Errors
    ///
    /// When it cannot be recorded.
    pub async fn record_denial(
        &self,
        request: &Request,
        act: &'static str,
        stream: &StreamId,
    ) -> Result<(), DispatchError> {
        let metadata = self.metadata(request, act).await?;
        self.refusals.record(act, stream, Refusal::Denied, metadata).await
    }
}
