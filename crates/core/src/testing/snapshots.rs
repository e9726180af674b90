//! What is wrong with the form in which a state is kept.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::Files;
use crate::{Aggregate, Snapshots};

fn declared<A: Aggregate>() -> Result<(Snapshots<A>, String), String> {
    let snapshots = A::SNAPSHOTS.ok_or_else(|| format!("there are no snapshots of `{}`", A::CATEGORY))?;
    let file = format!("{}.v{}.json", A::CATEGORY, snapshots.version);
    Ok((snapshots, file))
}

/// Writes the sample of a state.
pub(super) fn write<A: Aggregate>(state: &A, folder: &Path, overwrite: bool) {
    let written = declared::<A>().and_then(|(snapshots, file)| {
        let path = folder.join(file);
        if path.exists() && !overwrite {
            return Ok(());
        }
        let text = (snapshots.encode)(state).map_err(|error| error.to_string())?;
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, text + "\n")).map_err(|error| error.to_string())
    });
    written.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

/// What is wrong with the samples of a state, if anything.
pub(super) fn check<A: Aggregate>(state: &A, samples: &Files) -> Result<(), String> {
    let (snapshots, file) = declared::<A>()?;
    let of_others = |name: &&String| name.starts_with(&format!("{}.v", A::CATEGORY)) && **name != file;
    if let Some(stray) = samples.keys().find(of_others) {
        return Err(format!("snapshots/{stray} is of another version, which is passed over: remove it"));
    }
    let sample = samples.get(&file).ok_or_else(|| format!("snapshots/{file} is missing"))?.trim_end();
    let fails = |what: &str, reason: &dyn std::fmt::Display| {
        format!(
            "snapshots/{file}: {what}: {reason}. If version {} was ever shipped, raise it, remove the file and write \
             that of the new version. If it was not, write the file anew",
            snapshots.version
        )
    };
    let text = (snapshots.encode)(state).map_err(|error| fails("the state has no JSON form", &error))?;
    if text != sample {
        return Err(fails("the state is written as", &text));
    }
    let read = (snapshots.decode)(sample).map_err(|error| fails("it cannot be read", &error))?;
    let text = (snapshots.encode)(&read).map_err(|error| fails("the state has no JSON form", &error))?;
    if text != sample {
        return Err(fails("once read, it is written as", &text));
    }
    let value: Value = serde_json::from_str(sample).map_err(|error| fails("it is no JSON", &error))?;
    match with_one_more(&value).iter().find(|more| (snapshots.decode)(&more.to_string()).is_ok()) {
        Some(more) => Err(format!(
            "a field that `{}` does not know would be dropped: `#[serde(deny_unknown_fields)]`. {more} is read",
            A::CATEGORY
        )),
        None => Ok(()),
    }
}

/// The value with one more field, in each of its objects in turn.
fn with_one_more(value: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    match value {
        Value::Object(fields) => {
            let mut more = fields.clone();
            more.insert("one field more".into(), json!(1));
            found.push(Value::Object(more));
            for (name, field) in fields {
                found.extend(with_one_more(field).into_iter().map(|inner| {
                    let mut outer = fields.clone();
                    outer.insert(name.clone(), inner);
                    Value::Object(outer)
                }));
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                found.extend(with_one_more(item).into_iter().map(|inner| {
                    let mut outer = items.clone();
                    outer[place] = inner;
                    Value::Array(outer)
                }));
            }
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::SubjectEvent;

    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Lamp {
        level: u8,
        #[serde(default)]
        bulbs: Vec<Bulb>,
    }

    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bulb {
        watts: u8,
    }

    impl Aggregate for Lamp {
        const CATEGORY: &'static str = "lamp";
        type Event = SubjectEvent;
        const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(10, 2));

        fn apply(&mut self, _: &SubjectEvent) {}
    }

    /// One that takes any field, though not at its root.
    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shelf {
        lamps: Vec<Open>,
    }

    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    struct Open {}

    impl Aggregate for Shelf {
        const CATEGORY: &'static str = "shelf";
        type Event = SubjectEvent;
        const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(10, 1));

        fn apply(&mut self, _: &SubjectEvent) {}
    }

    fn found<A: Aggregate>(state: &A, samples: &[(&str, &str)]) -> String {
        let samples = samples.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        check(state, &samples).err().unwrap_or_default()
    }

    #[test]
    fn a_state_of_another_form_under_the_same_version_is_found() {
        let lamp = Lamp { level: 3, bulbs: vec![Bulb { watts: 40 }] };
        let kept = r#"{"level":3,"bulbs":[{"watts":40}]}"#;
        assert_eq!(found(&lamp, &[("lamp.v2.json", kept), ("lamppost.v1.json", "{}")]), "");
        for (sample, expected) in [
            (r#"{"level":3}"#, "If version 2 was ever shipped, raise it"),
            (r#"{"level":3,"bulbs":[{"watts":41}]}"#, r#"is written as: {"level":3,"bulbs":[{"watts":40}]}"#),
            (r#"{"level":3,"bulbs":[{"watts":40}],"color":1}"#, "is written as"),
        ] {
            let found = found(&lamp, &[("lamp.v2.json", sample)]);
            assert!(found.contains(expected), "{found}");
        }
        assert!(found(&lamp, &[]).contains("lamp.v2.json is missing"));
        assert!(found(&lamp, &[("lamp.v2.json", kept), ("lamp.v1.json", kept)]).contains("remove it"));
    }

    #[test]
    fn a_state_that_would_drop_a_field_is_found() {
        let found = found(&Shelf { lamps: vec![Open {}] }, &[("shelf.v1.json", r#"{"lamps":[{}]}"#)]);
        assert!(found.contains("deny_unknown_fields"), "{found}");
    }
}
