//! The dependencies between the crates point one way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

/// The crates of the workspace, the lowest first, and what each may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("daybook-core", &[]),
    ("daybook-database", &[]),
    ("daybook-log", &["daybook-core", "daybook-database"]),
    ("daybook-keys", &["daybook-core", "daybook-database"]),
    ("daybook-dispatch", &["daybook-core", "daybook-log", "daybook-keys"]),
    ("daybook-kafka", &["daybook-core", "daybook-database", "daybook-log"]),
    ("daybook-views", &["daybook-core", "daybook-database", "daybook-log"]),
    ("daybook-identity", &["daybook-core", "daybook-database", "daybook-log", "daybook-keys", "daybook-dispatch"]),
    (
        "daybook-http",
        &[
            "daybook-core",
            "daybook-database",
            "daybook-log",
            "daybook-keys",
            "daybook-dispatch",
            "daybook-views",
            "daybook-identity",
        ],
    ),
    (
        "daybook-app",
        &[
            "daybook-core",
            "daybook-database",
            "daybook-log",
            "daybook-keys",
            "daybook-dispatch",
            "daybook-views",
            "daybook-identity",
            "daybook-kafka",
            "daybook-http",
        ],
    ),
    ("daybook-events", &["daybook-core"]),
    ("daybook-shop", &["daybook-core", "daybook-events"]),
    ("daybook-projections", &["daybook-core", "daybook-events"]),
    ("daybook", &["daybook-core", "daybook-app", "daybook-shop", "daybook-events", "daybook-projections"]),
    (
        "daybook-campaign",
        &[
            "daybook-core",
            "daybook-database",
            "daybook-log",
            "daybook-dispatch",
            "daybook-keys",
            "daybook-views",
            "daybook-kafka",
        ],
    ),
    ("daybook-tests", &[]),
    (
        "daybook-bench",
        &[
            "daybook-core",
            "daybook-database",
            "daybook-log",
            "daybook-dispatch",
            "daybook-keys",
            "daybook-views",
            "daybook-kafka",
        ],
    ),
    ("xtask", &[]),
];

/// The domain: what only the binary joins with the engine.
const DOMAIN: [&str; 3] = ["daybook-events", "daybook-shop", "daybook-projections"];

/// What is pure: no I/O, no runtime, no clock.
const PURE: [&str; 4] = ["daybook-core", "daybook-events", "daybook-shop", "daybook-projections"];

/// Crates that do I/O, run tasks or draw lots.
const IMPURE: [&str; 13] = [
    "actix-web",
    "argon2",
    "async-trait",
    "aws-lc-rs",
    "futures-util",
    "hyper",
    "jsonwebtoken",
    "metrics",
    "rand",
    "rdkafka",
    "reqwest",
    "sqlx",
    "tokio",
];

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = String::new();
    for package in workspace() {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            let _ = writeln!(wrong, "`{}` is new: say in ARROWS what it may depend on", package.name);
            continue;
        };
        for dependency in dependencies(&package, &[DependencyKind::Normal, DependencyKind::Build]) {
            if ARROWS.iter().any(|(name, _)| *name == dependency) && !allowed.contains(&dependency.as_str()) {
                let _ = writeln!(wrong, "`{}` must not depend on `{dependency}`", package.name);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn no_engine_crate_sees_the_domain_even_in_its_tests() {
    let mut wrong = String::new();
    for package in workspace() {
        let is_engine = !DOMAIN.contains(&package.name.as_str()) && package.name != "daybook";
        for dependency in dependencies(&package, &ALL_KINDS) {
            if is_engine && DOMAIN.contains(&dependency.as_str()) {
                let _ = writeln!(wrong, "`{}` serves any domain, and must not know `{dependency}`", package.name);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_shop_and_the_projections_never_see_each_other() {
    for (one, other) in [("daybook-shop", "daybook-projections"), ("daybook-projections", "daybook-shop")] {
        let package = workspace().into_iter().find(|package| package.name == one).expect("it is in the workspace");
        let sees = dependencies(&package, &ALL_KINDS).contains(other);
        assert!(!sees, "`{one}` must not depend on `{other}`: they share `daybook-events` only");
    }
}

#[test]
fn the_pure_crates_do_no_io() {
    let mut wrong = String::new();
    for package in workspace().iter().filter(|package| PURE.contains(&package.name.as_str())) {
        for dependency in dependencies(package, &[DependencyKind::Normal, DependencyKind::Build]) {
            if IMPURE.contains(&dependency.as_str()) {
                let _ = writeln!(wrong, "`{}` is pure, and must not depend on `{dependency}`", package.name);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The benchmarks have a plain server, to compare the edge with.
#[test]
fn only_the_edge_knows_http() {
    let mut wrong = String::new();
    for package in workspace() {
        let is_edge = ["daybook-http", "daybook-bench"].contains(&package.name.as_str());
        for dependency in dependencies(&package, &ALL_KINDS) {
            if !is_edge && dependency.starts_with("actix") {
                let _ =
                    writeln!(wrong, "`{}` must not know `{dependency}`: HTTP is `daybook-http`'s", package.name);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A C compiler is all that it takes to build; TLS and SASL towards Kafka are a feature.
#[test]
fn the_plain_build_needs_no_openssl() {
    let metadata = MetadataCommand::new().manifest_path(MANIFEST).exec().expect("cargo knows the workspace");
    let resolved = metadata.resolve.expect("it knows what is built of what");
    let names: BTreeSet<_> = metadata
        .packages
        .iter()
        .filter(|package| resolved.nodes.iter().any(|node| node.id == package.id))
        .map(|package| package.name.as_str())
        .collect();
    assert!(names.contains("rdkafka-sys") && !names.contains("openssl-sys"), "{names:?}");
}

const ALL_KINDS: [DependencyKind; 3] =
    [DependencyKind::Normal, DependencyKind::Development, DependencyKind::Build];

/// The packages of the workspace.
fn workspace() -> Vec<Package> {
    let metadata =
        MetadataCommand::new().manifest_path(MANIFEST).no_deps().exec().expect("cargo knows the workspace");
    metadata.packages
}

/// The names of what a package depends on directly.
fn dependencies(package: &Package, kinds: &[DependencyKind]) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| kinds.contains(&dependency.kind))
        .map(|dependency| dependency.name.clone())
        .collect()
}
