//! The check that contracts are kept, for the tests of crates that have some.
//!
//! Beside its code, such a crate commits the JSON Schema of each version of each contract
//! (`schemas/order.placed.v1.json`), and samples of each (`golden/order.placed.v1.json`; with a word in between when
//! there are several: `golden/order.placed.v1.guest.json`). Whoever changes a contract without making a new version of
//! it is told so by [`check_contracts`].

mod problems;
mod snapshots;

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use crate::{Aggregate, EventType};

/// When this variable is set, [`check_contracts`] writes the schemas of the newest versions before it checks: those
/// that are missing. One that is there may have been shipped, and is written anew only when the variable says so.
const WRITE: &str = "DAYBOOK_WRITE_SCHEMAS";

/// The variable's value for that.
const OVERWRITE: &str = "overwrite";

/// The texts of a folder's files, by name.
type Files = BTreeMap<String, String>;

/// Checks the contracts of a crate against its committed schemas and samples. For a test named `contracts_are_kept`:
///
/// ```text
/// check_contracts(env!("CARGO_MANIFEST_DIR"), &[CustomerEvent::TYPES, OrderEvent::TYPES]);
/// ```
///
/// # Panics
///
/// When a contract is not what its schema says, a version lacks its schema or a sample, a sample does not fit its
/// schema or cannot be read, or a file belongs to no contract. The message says what to do.
#[track_caller]
pub fn check_contracts(crate_folder: &str, sets: &[&[EventType]]) {
    let contracts = sets.concat();
    let [schemas, golden] = ["schemas", "golden"].map(|folder| Path::new(crate_folder).join(folder));
    if let Some(how) = env::var_os(WRITE) {
        write_schemas(&schemas, &contracts, how == OVERWRITE);
    }
    let problems = problems::find(&contracts, &files(&schemas), &files(&golden));
    assert!(
        problems.is_empty(),
        "\n\n- {}\n\nMissing schemas of newest versions are written by `{WRITE}=1 cargo test contracts_are_kept` in \
         {crate_folder}, and all of them, those that were never shipped, by `{WRITE}={OVERWRITE}`.\n",
        problems.join("\n- ")
    );
}

/// Checks the form in which an aggregate's state is kept beside the log against the committed sample of its version
/// (`snapshots/stock.v1.json`). `events` are folded to the state of the sample: each of its fields should hold something.
/// A state of another form under the same version would be read, by this program or the one before, as what it is not.
///
/// # Panics
///
/// When the state is not written and read like that, or a field that it does not know would be dropped. The message says
/// what to do.
#[track_caller]
pub fn check_snapshots<A: Aggregate>(crate_folder: &str, events: &[A::Event]) {
    let mut state = A::default();
    events.iter().for_each(|event| state.apply(event));
    let folder = Path::new(crate_folder).join("snapshots");
    if let Some(how) = env::var_os(WRITE) {
        snapshots::write(&state, &folder, how == OVERWRITE);
    }
    if let Err(problem) = snapshots::check(&state, &files(&folder)) {
        panic!(
            "\n\n{problem}\n\nA sample that is missing is written by `{WRITE}=1 cargo test` in {crate_folder}, one of a \
             version that was never shipped by `{WRITE}={OVERWRITE}`.\n"
        );
    }
}

fn write_schemas(folder: &Path, contracts: &[EventType], overwrite: bool) {
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for contract in contracts {
        let path = folder.join(problems::schema_file(contract, contract.version));
        if path.exists() && !overwrite {
            continue;
        }
        let text = contract.schema(contract.version).and_then(|schema| serde_json::to_string_pretty(&schema));
        let text = text.unwrap_or_else(|error| panic!("{contract:?}: {error}"));
        fs::write(&path, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// What is in a folder; nothing when there is none.
fn files(folder: &Path) -> Files {
    let Ok(entries) = fs::read_dir(folder) else { return Files::new() };
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?))
    };
    let files: std::io::Result<_> = entries.map(read).collect();
    files.unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{EventSet, SubjectEvent};

    #[test]
    fn a_schema_that_is_there_is_written_anew_only_when_that_is_asked_for() {
        let folder = env::temp_dir().join(format!("daybook-schemas-{}", std::process::id()));
        let file = folder.join("daybook.subject.forgotten.v1.json");
        let written = |overwrite| {
            write_schemas(&folder, SubjectEvent::TYPES, overwrite);
            serde_json::from_str::<Value>(&fs::read_to_string(&file).expect("it is there")).expect("JSON")
        };
        let schema = written(false);
        assert_eq!(schema["$id"], "urn:daybook:event:daybook.subject.forgotten:1");
        fs::write(&file, "7").expect("the folder is ours");
        assert_eq!(written(false), 7);
        assert_eq!(written(true), schema);
        fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
