//! Contracts: what an event's payload holds, version by version, and which of them a program knows.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value};

use crate::personal::add_stored_form;
use crate::{DecodeError, Event, EventSet, RecordedEvent};

/// Lifts payloads of one schema version to the next.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    /// The JSON Schema of the version that it lifts: the file that was committed with that version.
    pub schema: &'static str,
    /// Makes a payload of the next version out of one of that version. Personal fields are sealed in it: they can be
    /// moved and renamed, not read.
    ///
    /// # Errors
    ///
    /// When there is no such payload; the reader stops at the event and tells the reason.
    pub lift: fn(&mut Map<String, Value>) -> Result<(), String>,
}

/// One contract, its type erased: the name and all versions of an event.
#[derive(Clone, Copy)]
pub struct EventType {
    /// [`Event::TYPE`].
    pub name: &'static str,
    /// [`Event::VERSION`].
    pub version: u32,
    upcasters: &'static [Upcaster],
    contract: TypeId,
    schema: fn() -> schemars::Schema,
    rewrite: fn(&RecordedEvent) -> Result<Value, DecodeError>,
}

impl EventType {
    /// The entry for one contract. A contract that has not one upcaster for each version but the newest does not
    /// compile.
    pub const fn of<E: Event>() -> Self {
        const {
            assert!(E::UPCASTERS.len() + 1 == E::VERSION as usize, "a contract of version N has N - 1 upcasters");
        }
        Self {
            name: E::TYPE,
            version: E::VERSION,
            upcasters: E::UPCASTERS,
            contract: TypeId::of::<E>(),
            // Inlined, so that what the types are called in Rust is no part of the contract.
            schema: || {
                let inlined = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
                let stored = inlined.with_transform(RecursiveTransform(add_stored_form));
                stored.into_generator().into_root_schema_for::<E>()
            },
            rewrite: |record| {
                let event = record.read::<E>()?;
                serde_json::to_value(event).map_err(|error| record.unreadable(error))
            },
        }
    }

    /// The JSON Schema of the payload in one version, as it is stored and as it is read: a personal field is
    /// `{"subject": …, "of": …, "sealed": …}` in the log, and its value, `{"sealed": true}` or `{"erased": true}` to a
    /// reader. `None` when there is no such version.
    ///
    /// # Errors
    ///
    /// When an upcaster's schema is no JSON.
    pub fn schema(&self, version: u32) -> Result<Option<Value>, serde_json::Error> {
        if version == self.version {
            let mut schema = (self.schema)();
            schema.insert("$id".into(), format!("urn:daybook:event:{}:{version}", self.name).into());
            return Ok(Some(schema.to_value()));
        }
        let older = (1..).zip(self.upcasters).find(|(of, _)| *of == version);
        older.map(|(_, upcaster)| serde_json::from_str(upcaster.schema)).transpose()
    }

    /// The payload of a recorded event as it would be recorded today: lifted to the newest version, read and written.
    ///
    /// # Errors
    ///
    /// See [`RecordedEvent::read`].
    pub fn rewrite(&self, record: &RecordedEvent) -> Result<Value, DecodeError> {
        (self.rewrite)(record)
    }

    /// Checks that this is the version of an event, or an older one.
    pub(crate) fn check_version(&self, record: &RecordedEvent) -> Result<(), DecodeError> {
        match (record.schema_version, self.version) {
            (version, newest) if (1..=newest).contains(&version) => Ok(()),
            (_, 1) => Err(record.unreadable("this program knows version 1")),
            (_, newest) => Err(record.unreadable(format_args!("this program knows versions 1 to {newest}"))),
        }
    }

    /// An older payload, lifted to the newest version, one version at a time.
    pub(crate) fn lift(&self, record: &RecordedEvent) -> Result<Value, DecodeError> {
        self.check_version(record)?;
        let mut payload: Map<String, Value> =
            serde_json::from_str(record.payload.get()).map_err(|error| record.unreadable(error))?;
        for (from, upcaster) in (1..).zip(self.upcasters).skip_while(|(from, _)| *from < record.schema_version) {
            (upcaster.lift)(&mut payload).map_err(|reason| {
                record
                    .unreadable(format_args!("it cannot be lifted from version {from} to {}: {reason}", from + 1))
            })?;
        }
        Ok(Value::Object(payload))
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// The contracts that a program knows.
#[derive(Debug, Clone, Default)]
pub struct Contracts(BTreeMap<&'static str, EventType>);

impl Contracts {
    /// Adds those of a set; they may be there already.
    ///
    /// # Panics
    ///
    /// When two contracts have one name: a mistake in the program, seen at its first start.
    pub fn add<E: EventSet>(&mut self) {
        for added in E::TYPES {
            let known = self.0.entry(added.name).or_insert(*added);
            assert!(known.contract == added.contract, "two contracts are named `{}`", added.name);
        }
    }

    /// The one with a name.
    pub fn get(&self, name: &str) -> Option<&EventType> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &EventType> {
        self.0.values()
    }

    /// Checks that an event is of a type and version that this program knows. A reader that passes over what does not
    /// concern it checks that first: what it does not know may concern it.
    ///
    /// # Errors
    ///
    /// When the program is too old for the event.
    pub fn check(&self, record: &RecordedEvent) -> Result<(), DecodeError> {
        match self.get(&record.event_type) {
            Some(known) => known.check_version(record),
            None => Err(record.unreadable("this program does not know the type")),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{JsonText, Position, Revision, StreamId, event_set};

    /// Once it was `{"how": "loud"}`, then `{"volume": "loud"}`, now a number.
    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Rung {
        decibels: u8,
    }

    impl Event for Rung {
        const TYPE: &'static str = "bell.rung";
        const VERSION: u32 = 3;
        const UPCASTERS: &'static [Upcaster] = &[
            Upcaster {
                schema: r#"{"version": 1}"#,
                lift: |payload| {
                    let how = payload.remove("how").ok_or("it does not say how")?;
                    payload.insert("volume".into(), how);
                    Ok(())
                },
            },
            Upcaster {
                schema: r#"{"version": 2}"#,
                lift: |payload| {
                    let decibels = match payload.remove("volume").as_ref().and_then(Value::as_str) {
                        Some("loud") => 90,
                        Some("soft") => 40,
                        other => return Err(format!("how loud is {other:?}?")),
                    };
                    payload.insert("decibels".into(), decibels.into());
                    Ok(())
                },
            },
        ];
    }

    /// Another contract with that name.
    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    struct Struck {}

    impl Event for Struck {
        const TYPE: &'static str = "bell.rung";
        const VERSION: u32 = 1;
    }

    event_set! {
        enum BellEvent { Rung }
    }

    event_set! {
        enum GongEvent { Struck }
    }

    fn record(event_type: &str, schema_version: u32, payload: Value) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(7),
            stream: StreamId::new("bell", 1),
            revision: Revision::new(1),
            id: Uuid::nil(),
            event_type: event_type.into(),
            schema_version,
            recorded_at: DateTime::UNIX_EPOCH,
            metadata: JsonText::new("null"),
            payload: JsonText::new(payload.to_string()),
        }
    }

    fn rung(schema_version: u32, payload: Value) -> Result<u8, String> {
        let read = record("bell.rung", schema_version, payload).read::<Rung>();
        read.map(|rung| rung.decibels).map_err(|error| error.to_string())
    }

    #[test]
    fn every_version_is_read_as_the_newest() {
        assert_eq!(rung(1, json!({"how": "loud"})), Ok(90));
        assert_eq!(rung(2, json!({"volume": "soft"})), Ok(40));
        assert_eq!(rung(3, json!({"decibels": 61})), Ok(61));
    }

    #[test]
    fn what_cannot_be_lifted_says_where_and_why() {
        let at = |version| format!("the event at position 7 (`bell.rung` version {version}) cannot be read: ");
        for (version, payload, reason) in [
            (0, json!({"how": "loud"}), "this program knows versions 1 to 3"),
            (4, json!({"decibels": 61}), "this program knows versions 1 to 3"),
            (1, json!({}), "it cannot be lifted from version 1 to 2: it does not say how"),
            (1, json!({"how": "so"}), "it cannot be lifted from version 2 to 3: how loud is Some(\"so\")?"),
            (2, json!({"volume": "loud", "how": 1}), "unknown field `how`, expected `decibels`"),
            (2, json!([90]), "invalid type: sequence, expected a map at line 1 column 0"),
        ] {
            assert_eq!(rung(version, payload), Err(at(version) + reason));
        }
    }

    #[test]
    fn each_version_has_its_schema() {
        let contract = EventType::of::<Rung>();
        let schema = |version| contract.schema(version).expect("JSON");
        assert_eq!(schema(1), Some(json!({"version": 1})));
        assert_eq!(schema(2), Some(json!({"version": 2})));
        let newest = schema(3).expect("the newest");
        assert_eq!(newest["$id"], "urn:daybook:event:bell.rung:3");
        assert!(newest["properties"]["decibels"].is_object(), "{newest}");
        assert_eq!((schema(0), schema(4)), (None, None));
    }

    #[test]
    fn what_a_program_does_not_know_is_told_from_what_it_does() {
        let mut contracts = Contracts::default();
        contracts.add::<BellEvent>();
        contracts.add::<BellEvent>();
        let check = |event_type, version| {
            contracts.check(&record(event_type, version, json!({}))).map_err(|error| error.to_string())
        };
        let error = |what, reason| Err(format!("the event at position 7 ({what}) cannot be read: {reason}"));
        for version in 1..=3 {
            assert_eq!(check("bell.rung", version), Ok(()));
        }
        assert_eq!(check("bell.rung", 4), error("`bell.rung` version 4", "this program knows versions 1 to 3"));
        assert_eq!(check("bell.cast", 1), error("`bell.cast` version 1", "this program does not know the type"));
    }

    #[test]
    #[should_panic(expected = "two contracts are named `bell.rung`")]
    fn two_contracts_cannot_have_one_name() {
        let mut contracts = Contracts::default();
        contracts.add::<BellEvent>();
        contracts.add::<GongEvent>();
    }

    #[test]
    fn a_stream_of_one_kind_of_events_holds_no_other() {
        assert!(BellEvent::decode(&record("bell.cast", 1, json!({}))).expect("none of its own").is_none());
        let error = BellEvent::require(&record("bell.cast", 1, json!({}))).expect_err("none of its own");
        assert_eq!(error.reason, "this program knows no such event of `bell`");
    }
}
