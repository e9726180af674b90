//! Kafka in a container, where there is a Docker and no Java.

use std::path::Path;

use tokio::process::Command;

use crate::child::run_quietly;
use crate::kafka::{CLUSTER_ID, VERSION, properties};

/// Where the settings are within the container.
const SETTINGS: &str = "/tmp/server.properties";

/// A container, which keeps its data as long as it is there. Dropping it removes it.
pub(crate) struct Container {
    name: String,
}

impl Container {
    /// Makes one, whose settings are in `folder`. It is not running yet.
    ///
    /// # Errors
    ///
    /// When there is no Docker, or it does not have the image and cannot get it.
    pub(crate) fn make(folder: &Path, ports: [u16; 2]) -> anyhow::Result<Self> {
        let settings = folder.join("server.properties");
        // Within the container all is its own; only the clients' port leads into it.
        std::fs::write(&settings, properties("0.0.0.0", ports, None, "/tmp/data"))?;
        let [clients, _] = ports;
        let name = format!("daybook-kafka-{clients}");
        let serve = format!(
            "/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id {CLUSTER_ID} --config {SETTINGS} \
             && exec /opt/kafka/bin/kafka-server-start.sh {SETTINGS}"
        );
        let mut create = std::process::Command::new("docker");
        create.args(["create", "--name", &name, "--publish", &format!("127.0.0.1:{clients}:{clients}")]);
        create.args(["--volume", &format!("{}:{SETTINGS}:ro", settings.display())]);
        create.args(["--env", "KAFKA_HEAP_OPTS=-Xmx384m", &format!("apache/kafka:{VERSION}"), "sh", "-c", &serve]);
        run_quietly(&mut create)?;
        Ok(Self { name })
    }

    /// What starts it, and runs as long as it does.
    pub(crate) fn command(&self) -> Command {
        let mut start = Command::new("docker");
        start.args(["start", "--attach", &self.name]);
        start
    }

    /// What kills it: what runs beside us is Docker's client alone.
    pub(crate) fn kill(&self) -> std::process::Command {
        let mut kill = std::process::Command::new("docker");
        kill.args(["kill", &self.name]);
        kill
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // If Docker is gone, there is nothing left to remove.
        let _ = run_quietly(std::process::Command::new("docker").args(["rm", "--force", "--volumes", &self.name]));
    }
}
