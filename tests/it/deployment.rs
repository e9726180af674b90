//! `docker/` says what there is: nobody here runs its containers, so what can be told without an engine is told here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use daybook_tests::{Backend, Store};
use serde_norway::Value;

/// What our own image is called.
const IMAGE: &str = "daybook:dev";

#[tokio::test]
async fn containers_are_given_settings_that_there_are() {
    let help = Store::new(Backend::Sqlite).await.cli(&["serve", "--help"]).stdout;
    let known: BTreeSet<_> = words(&help).collect();
    let mut named: BTreeSet<String> = BTreeSet::new();
    for service in services().into_values().filter(is_ours) {
        named.extend(service["environment"].as_mapping().expect("settings").keys().map(text));
    }
    let image = read("docker/Dockerfile");
    named.extend(words(&image).filter(|word| word.starts_with("DAYBOOK_")).map(str::to_owned));
    assert!(named.len() > 4, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "nothing is set by {unknown:?}");
}

#[test]
fn containers_may_do_little() {
    for (name, service) in services() {
        assert!(holds(&service["cap_drop"], "ALL"), "{name} keeps capabilities");
        assert!(holds(&service["security_opt"], "no-new-privileges:true"), "{name} may get new privileges");
        if is_ours(&service) {
            assert_eq!(service["read_only"], Value::Bool(true), "{name} may write");
        }
    }
    let image = read("docker/Dockerfile");
    let (_, last_stage) = image.rsplit_once("\nFROM ").expect("several stages");
    assert!(last_stage.contains("\nUSER 65532:65532\n"), "the image is root's");
    assert!(!last_stage.contains("\nRUN "), "there is no shell to run anything");
}

#[test]
fn keys_are_apart_from_the_log_and_its_backups() {
    let server = |url: &Value| text(url).rsplit_once('@').expect("a URL").1.to_owned();
    for (name, service) in services().into_iter().filter(|(_, service)| is_ours(service)) {
        let environment = &service["environment"];
        let [log, keys] = ["DATABASE_URL", "KEYS_DATABASE_URL"].map(|url| server(&environment[url]));
        let host = |place: &str| place.split(':').next().map(str::to_owned);
        assert_ne!(host(&log), host(&keys), "{name}: a base backup of the log has the keys");
    }
    let servers: Vec<_> =
        services().into_values().filter(|service| text(&service["image"]).starts_with("postgres:")).collect();
    let volumes: BTreeSet<_> = servers.iter().map(|server| text(&server["volumes"][0])).collect();
    assert_eq!(volumes.len(), servers.len(), "they share a folder");
}

#[test]
fn secrets_have_no_defaults() {
    let compose = read("docker/compose.yaml");
    for (place, _) in compose.match_indices("${") {
        let variable = &compose[place..place + compose[place..].find('}').expect("it is closed")];
        assert!(variable.contains(":?"), "{variable}}} has a default");
    }
    for (name, service) in services() {
        for (variable, value) in service["environment"].as_mapping().into_iter().flatten() {
            let (variable, value) = (text(variable), value.as_str().unwrap_or_default());
            let is_secret = variable.contains("PASSWORD") && !variable.ends_with("__FILE");
            assert!(!is_secret || value.starts_with("${"), "{name}: {variable} is in clear");
        }
    }
}

#[test]
fn versions_are_pinned_and_ours() {
    let image = read("docker/Dockerfile");
    let bases = image.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
    let images = services().into_values().map(|service| text(&service["image"])).filter(|image| image != IMAGE);
    for base in bases.map(str::to_owned).chain(images) {
        let tag = base.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let names_version = tag.contains(|c: char| c.is_ascii_digit()) || base.contains("-debian12:");
        assert!(names_version, "{base} can be anything");
    }
    let manifest = read("Cargo.toml");
    let rust = between(&manifest, "rust-version = \"", "\"");
    assert!(image.contains(&format!("FROM rust:{rust}.")), "the image is built by another Rust than {rust}");
    let pom = read("xtask/kafka/pom.xml");
    let kafka = between(&pom, "<artifactId>kafka_2.13</artifactId>\n      <version>", "<");
    assert_eq!(text(&services()["kafka"]["image"]), format!("apache/kafka:{kafka}"));
}

#[test]
fn neighbours_are_there() {
    let services = services();
    let (nginx, prometheus) = (read("docker/nginx.conf"), read("docker/prometheus.yaml"));
    let behind = words_with(&nginx, ":8080");
    let watched = words_with(&prometheus, ":9464");
    assert_eq!(behind, ["api-1", "api-2"]);
    let ours = services.iter().filter(|(name, service)| is_ours(service) && *name != "migrations");
    let ours: BTreeSet<_> = ours.map(|(name, _)| name.as_str()).collect();
    assert_eq!(watched.iter().map(String::as_str).collect::<BTreeSet<_>>(), ours);
    for (name, service) in &services {
        for neighbour in service["depends_on"].as_mapping().into_iter().flat_map(serde_norway::Mapping::keys) {
            assert!(services.contains_key(&text(neighbour)), "{name} waits for nobody");
        }
    }
}

#[test]
fn the_dashboard_and_the_documentation_name_metrics_that_there_are() {
    let mut sources = String::new();
    gather(&root().join("crates"), "rs", &mut sources);
    let is_crate = |name: &str| [root(), root().join("crates")].iter().any(|folder| folder.join(name).is_dir());
    let check = |text: &str| {
        let mut named = 0;
        let is_metric = |word: &&str| word.strip_prefix("daybook_").is_some_and(|name| !is_crate(name));
        for word in words(text).filter(is_metric) {
            let metric =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            assert!(sources.contains(&format!("\"{metric}\"")), "there is no {metric}");
            named += 1;
        }
        named
    };
    let dashboard = read("docker/grafana/dashboards/daybook.json");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let targets =
        dashboard["panels"].as_array().expect("panels").iter().flat_map(|panel| panel["targets"].as_array());
    let shown: usize = targets.flatten().map(|one| check(one["expr"].as_str().expect("an expression"))).sum();
    assert!(shown > 10, "{shown} are shown");
    let mut documents = read("README.md");
    gather(&root().join("docs"), "md", &mut documents);
    let named = check(&documents);
    assert!(named > 5, "{named} are named");
}

/// The services of `compose.yaml`, by name.
fn services() -> BTreeMap<String, Value> {
    let mut compose: Value = serde_norway::from_str(&read("docker/compose.yaml")).expect("YAML");
    compose.apply_merge().expect("what is merged are mappings");
    let services = compose["services"].as_mapping().expect("services").clone();
    services.into_iter().map(|(name, service)| (text(&name), service)).collect()
}

fn is_ours(service: &Value) -> bool {
    service["image"].as_str() == Some(IMAGE)
}

fn holds(list: &Value, item: &str) -> bool {
    list.as_sequence().is_some_and(|list| list.iter().any(|one| one.as_str() == Some(item)))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The names in a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The hosts in a text of which a port is named.
fn words_with(text: &str, port: &str) -> Vec<String> {
    let hosts = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | '[' | ']'));
    hosts.filter_map(|host| host.strip_suffix(port).map(str::to_owned)).collect()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).expect("it is there");
    rest.split_once(after).expect("it ends").0
}

/// All texts of a kind in a folder.
fn gather(folder: &Path, kind: &str, texts: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, kind, texts);
        } else if path.extension().is_some_and(|extension| extension == kind) {
            texts.push_str(&fs::read_to_string(path).expect("a text"));
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
