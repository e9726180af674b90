//! What is appended: one event of 200 bytes, with the metadata that a command of a signed-in customer has.

use chrono::Utc;
use daybook_core::{Actor, Event, Role, event_set};
use daybook_database::{Database, Location, Options, Schema};
use daybook_dispatch::Request;
use daybook_keys::{Keys, MasterKeys};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What all keys are wrapped under: nothing here is a secret.
pub(crate) const MASTER_KEY: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

/// Something was counted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counted {
    /// How often by now.
    pub(crate) count: u64,
    /// Makes the payload as long as payloads are.
    pub(crate) note: String,
}

impl Event for Counted {
    const TYPE: &'static str = "bench.counted";
    const VERSION: u32 = 1;
}

event_set! {
    /// What happens to a counter.
    pub(crate) enum CounterEvent { Counted }
}

impl Counted {
    /// With a payload of 200 bytes, as long as `count` has six digits.
    pub(crate) fn new(count: u64) -> Self {
        Self { count, note: "n".repeat(174) }
    }
}

/// Which of a caller's calls bring an idempotency key: every tenth.
pub(crate) fn has_key(call: u64) -> bool {
    call % 10 == 3
}

/// Which of a caller's calls take a claim: every twentieth. Neither these nor those with a key are all about new
/// streams, or all about old ones.
pub(crate) fn has_claim(call: u64) -> bool {
    call % 20 == 8
}

/// The keys that personal data is sealed with, in the same database as all else.
pub(crate) async fn keys(database: &Database) -> anyhow::Result<Keys> {
    database.migrate(Schema::Keys).await?;
    Ok(Keys::open(database, MasterKeys::parse(MASTER_KEY)?).await?)
}

/// The request of a customer behind a browser.
pub(crate) fn request() -> Request {
    Request {
        actor: Actor::Account { id: Uuid::now_v7(), roles: vec![Role::Customer] },
        client_ip: Some("192.0.2.7".into()),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".into()),
        ..Request::system("bench")
    }
}

/// The metadata that rows written by hand have: it is as long as the metadata of an append, and sealed once.
pub(crate) async fn sealed_metadata() -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let database =
        Database::connect(&Location::Sqlite(folder.path().join("keys.db")), &Options::default()).await?;
    let metadata = request().metadata("bench.count", Uuid::now_v7(), Utc::now());
    let sealed = keys(&database).await?.sealed_metadata(metadata).await?;
    database.close().await;
    Ok(serde_json::to_string(&sealed)?)
}

#[cfg(test)]
mod tests {
    use daybook_core::AnyEvent;

    use super::*;

    #[test]
    fn a_payload_has_200_bytes() {
        let encoded = CounterEvent::from(Counted::new(100_000)).encode().expect("JSON");
        assert_eq!(encoded.payload.len(), 200);
    }
}
