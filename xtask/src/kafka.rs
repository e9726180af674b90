//! A throw-away Apache Kafka.

mod docker;
mod java;

use anyhow::Context;
use tempfile::TempDir;

use crate::kafka::docker::Container;
use crate::kafka::java::Java;
use crate::loopback::free_ports;
use crate::server::{Ready, Server};

/// Its version.
const VERSION: &str = "4.3.0";

/// What a cluster is called: 16 bytes in base64.
const CLUSTER_ID: &str = "ZGF5Ym9vay1rYWZrYS0xMQ";

/// Settings of every broker of ours.
const PROPERTIES: &str = include_str!("../kafka/server.properties");

/// What one logs when it takes requests.
const READY: &str = "Kafka Server started";

/// A broker of our own, which is a cluster of one node, on a free port of the loopback interface. Dropping it ends it,
/// and removes all that it kept.
pub(crate) struct Broker {
    server: Server,
    /// A second way to it.
    detour: Option<Detour>,
    address: String,
    _container: Option<Container>,
    _folder: TempDir,
}

/// Two ports: the broker listens on one of them, and sends whoever comes by it to the other one, where a proxy is going to
/// be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Detour {
    pub(crate) proxy: u16,
    pub(crate) broker: u16,
}

impl Broker {
    /// Makes one and starts it: as a Java program where there is a Java, and else in a container.
    ///
    /// # Errors
    ///
    /// When there is neither, or it does not start.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(java::QUICK).await
    }

    /// The same, as Kafka's own scripts start it.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub(crate) async fn start_as_shipped() -> anyhow::Result<Self> {
        Self::start_with(java::AS_SHIPPED).await
    }

    async fn start_with(flags: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("daybook-kafka-")
            .tempdir()
            .context("cannot make a folder for Kafka")?;
        // All at once: one that nobody listens on yet may be given twice.
        let [ports @ .., proxy, broker] = free_ports::<4>()?;
        let detour = Detour { proxy, broker };
        let (command, container, detour) = match Java::find_or_install().await {
            Ok(java) => (java.make_broker(folder.path(), ports, detour, flags)?, None, Some(detour)),
            Err(no_java) => {
                let container =
                    Container::make(folder.path(), ports).map_err(|no_docker| none(&no_java, &no_docker))?;
                (container.command(), Some(container), None)
            }
        };
        let mut server = Server::new("Kafka", command, Ready::Says(READY), folder.path().join("server.log"));
        if let Some(container) = &container {
            server = server.killed_by(container.kill());
        }
        server.start().await?;
        Ok(Self { server, detour, address: address(ports), _container: container, _folder: folder })
    }

    /// Where it is, for `KAFKA_BROKERS`. Stopped or killed and started again, it is there again, with what it had.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The way to it that a proxy can stand in; a container has none.
    pub(crate) fn detour(&self) -> Option<Detour> {
        self.detour
    }

    /// The server itself.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // There is nothing to keep.
        self.server.kill();
    }
}

/// What a broker is told: where its clients find it, behind which of its own addresses, and where it keeps its data.
fn properties(host: &str, [clients, controller]: [u16; 2], detour: Option<Detour>, data: &str) -> String {
    let mut listeners = vec![format!("CLIENT://{host}:{clients}"), format!("CONTROLLER://127.0.0.1:{controller}")];
    let mut advertised = vec![format!("CLIENT://{}", address([clients, controller]))];
    if let Some(Detour { proxy, broker }) = detour {
        listeners.push(format!("DETOUR://127.0.0.1:{broker}"));
        advertised.push(format!("DETOUR://127.0.0.1:{proxy}"));
    }
    format!(
        "{PROPERTIES}\nlisteners={}\nadvertised.listeners={}\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={data}\n",
        listeners.join(","),
        advertised.join(","),
    )
}

fn address([clients, _]: [u16; 2]) -> String {
    format!("127.0.0.1:{clients}")
}

/// Why there is no broker, and what to do.
fn none(no_java: &anyhow::Error, no_docker: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "the tests need an Apache Kafka, and there is none.\nEither set KAFKA_BROKERS to one that may be used for \
         tests (topics are made there),\nor install Java and Maven, which gets it:\n  Debian, Ubuntu:  sudo apt-get \
         install default-jre-headless maven\n  Fedora:          sudo dnf install java-21-openjdk-headless maven\n  \
         Arch:            sudo pacman -S jre-openjdk-headless maven\n  macOS:           brew install openjdk maven\n\
         or Docker.\nWith Java: {no_java:#}\nWith Docker: {no_docker:#}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lead_to_the_same_version() {
        let pom = include_str!("../kafka/pom.xml");
        assert!(pom.contains(&format!("<artifactId>kafka_2.13</artifactId>\n      <version>{VERSION}</version>")));
    }

    #[test]
    fn clients_are_sent_to_loopback_wherever_it_listens() {
        let properties = properties("0.0.0.0", [1, 2], None, "/data");
        assert!(properties.contains("\nlisteners=CLIENT://0.0.0.0:1,CONTROLLER://127.0.0.1:2\n"), "{properties}");
        assert!(properties.contains("\nadvertised.listeners=CLIENT://127.0.0.1:1\n"), "{properties}");
    }

    #[test]
    fn whoever_comes_by_the_detour_is_sent_to_the_proxy() {
        let properties = properties("127.0.0.1", [1, 2], Some(Detour { proxy: 3, broker: 4 }), "/data");
        assert!(properties.contains(",DETOUR://127.0.0.1:4\n"), "{properties}");
        assert!(
            properties.contains("\nadvertised.listeners=CLIENT://127.0.0.1:1,DETOUR://127.0.0.1:3\n"),
            "{properties}"
        );
    }
}
