//! Kafka as a Java program, which Maven gets.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::child::{self, run_quietly};
use crate::install;
use crate::kafka::{CLUSTER_ID, Detour, properties};

/// The oldest Java that runs it.
const VERSION_MIN: u32 = 17;

/// What Maven is asked for.
const POM: &str = include_str!("../../kafka/pom.xml");

/// What the broker logs.
const LOGGING: &str = include_str!("../../kafka/log4j2.properties");

/// Little memory, and a quick start rather than a long run.
pub(crate) const QUICK: &[&str] =
    &["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData"];

/// What Kafka's own scripts give it: for whoever measures it.
pub(crate) const AS_SHIPPED: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
];

/// A Java, and the libraries that are Kafka.
pub(crate) struct Java {
    program: PathBuf,
    class_path: String,
}

impl Java {
    /// Finds a Java and the libraries, installing the one and getting the others where that is needed.
    ///
    /// # Errors
    ///
    /// When there is no Java, or the libraries are not here and there is no Maven to get them.
    pub(crate) async fn find_or_install() -> anyhow::Result<Self> {
        if let (Some(program), Some(class_path)) = (find_java(), kept()?) {
            return Ok(Self { program, class_path });
        }
        let missing: Vec<_> = [("default-jre-headless", find_java().is_none()), ("maven", !has_maven())]
            .into_iter()
            .filter_map(|(package, is_missing)| is_missing.then_some(package))
            .collect();
        if !missing.is_empty() && install::possible()? {
            install::packages(&missing).await?;
        }
        let program = find_java().with_context(|| format!("there is no Java, version {VERSION_MIN} or later"))?;
        Ok(Self { program, class_path: get().await? })
    }

    /// Makes a broker whose folder is `folder`, and answers what runs it, with `flags` for Java.
    ///
    /// # Errors
    ///
    /// When Kafka does not like its settings.
    pub(crate) fn make_broker(
        &self,
        folder: &Path,
        ports: [u16; 2],
        detour: Detour,
        flags: &[&str],
    ) -> anyhow::Result<Command> {
        fs::write(folder.join("log4j2.properties"), LOGGING)?;
        let settings = folder.join("server.properties");
        let data = folder.join("data").display().to_string();
        fs::write(&settings, properties("127.0.0.1", ports, Some(detour), &data))?;
        let mut format = self.run("kafka.tools.StorageTool", folder, QUICK);
        run_quietly(format.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&settings))?;
        let mut serve = self.run("kafka.Kafka", folder, flags);
        serve.arg(&settings);
        Ok(serve.into())
    }

    fn run(&self, class: &str, folder: &Path, flags: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(flags).arg(format!("-Dlog4j2.configurationFile={}/log4j2.properties", folder.display()));
        command.args(["-cp", &self.class_path, class]).current_dir(folder);
        command
    }
}

/// `JAVA_HOME`'s Java, or else the one that is run by that name.
fn find_java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.into_iter().chain([PathBuf::from("java")]).find(|program| {
        let says = run_quietly(std::process::Command::new(program).arg("--version"));
        says.ok().and_then(|text| major_version(&text)).is_some_and(|version| version >= VERSION_MIN)
    })
}

/// The major version in what `java --version` prints.
fn major_version(text: &str) -> Option<u32> {
    let version = text.split_whitespace().nth(1)?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).map_or(version, |end| &version[..end]);
    digits.parse().ok()
}

fn has_maven() -> bool {
    run_quietly(std::process::Command::new("mvn").arg("--version")).is_ok()
}

/// Where it is noted down which files the libraries are: beside this program, for this list of them.
fn note() -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    POM.hash(&mut hasher);
    Ok(std::env::current_exe()?.with_file_name(format!("kafka-{:016x}.classpath", hasher.finish())))
}

/// The libraries, if all that was noted down is still there. The files themselves are in Maven's own cache.
fn kept() -> anyhow::Result<Option<String>> {
    let Ok(class_path) = fs::read_to_string(note()?) else { return Ok(None) };
    let is_whole = std::env::split_paths(&class_path).all(|file| file.is_file());
    Ok(is_whole.then_some(class_path))
}

/// Has Maven get the libraries.
async fn get() -> anyhow::Result<String> {
    let note = note()?;
    let folder = tempfile::tempdir()?;
    let (pom, log) = (folder.path().join("pom.xml"), folder.path().join("maven.log"));
    fs::write(&pom, POM)?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--no-transfer-progress", "dependency:build-classpath", "--file"]);
    maven.arg(&pom).arg(format!("-Dmdep.outputFile={}", note.display())).arg("--log-file").arg(&log);
    // It sets colours back, whoever reads it.
    maven.stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = child::run(&mut maven).await {
        bail!("Maven did not get Kafka: {error:#}\n{}", fs::read_to_string(&log).unwrap_or_default());
    }
    match kept()? {
        Some(class_path) => Ok(class_path),
        None => bail!("Maven left no whole list of libraries in {}", note.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn the_major_version_is_read_from_what_javas_print() {
        assert_eq!(major_version("openjdk 17.0.15 2025-04-15\nOpenJDK Runtime Environment (build …)"), Some(17));
        assert_eq!(major_version("java 21 2023-09-19 LTS"), Some(21));
        assert_eq!(major_version("openjdk 25-ea 2025-09-16"), Some(25));
        assert_eq!(major_version(""), None);
    }
}
