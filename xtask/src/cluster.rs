//! `cargo xtask cluster`: all that a production has, on one machine.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

use crate::child::run_quietly;
use crate::kafka::Broker;
use crate::loopback::free_ports;
use crate::nginx::{Place, Proxy};
use crate::server::{Ready, Server};
use crate::{build, postgres};

/// What Daybook's processes do, two each.
const ROLES: [&str; 3] = ["api", "projector", "relay"];

/// The first administrator.
const ADMINISTRATOR: &str = "admin@example.com";

/// A running Daybook, in several processes. They end in this order.
pub(crate) struct System {
    proxy: Proxy,
    processes: Vec<Process>,
    kafka: Broker,
    postgres: postgres::Cluster,
    password: String,
    folder: TempDir,
}

/// A process of Daybook's.
struct Process {
    server: Server,
    /// What it serves, and where.
    serves: Vec<(&'static str, String)>,
}

impl System {
    /// Starts all of it, and waits until all of it is ready.
    ///
    /// # Errors
    ///
    /// When a part cannot be had, or does not become ready.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let postgres = postgres::Cluster::start(&[]).await?;
        let (binary, kafka) = tokio::try_join!(binary(), Broker::start())?;
        let folder = tempfile::Builder::new().prefix("daybook-cluster-").tempdir()?;
        let daybook = Daybook::make(binary, folder.path(), &postgres, &kafka)?;
        run_quietly(&mut daybook.command(&["migrate"]))?;
        let password = daybook.create_administrator()?;

        let mut processes = Vec::new();
        let [ports @ .., first, second] = free_ports::<8>()?;
        let apis = [first, second];
        let roles = ROLES.iter().flat_map(|role| [(*role, 1), (*role, 2)]);
        for ((role, number), metrics) in roles.zip(ports) {
            let api = apis.get(number - 1).copied().filter(|_| role == "api");
            let mut process = daybook.process(role, number, metrics, api);
            process.server.launch()?;
            processes.push(process);
        }
        for process in &mut processes {
            process.server.wait_until_ready().await?;
        }
        let proxy = Proxy::start(Place::in_front_of(apis)?).await?;
        Ok(Self { proxy, processes, kafka, postgres, password, folder })
    }

    /// All servers.
    pub(crate) fn servers(&mut self) -> Vec<&mut Server> {
        let processes = self.processes.iter_mut().map(|process| &mut process.server);
        processes.chain([self.proxy.server(), self.kafka.server(), self.postgres.server()]).collect()
    }
}

impl Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.proxy.url();
        writeln!(f, "Daybook is at {url}\n")?;
        for Process { server, serves } in &self.processes {
            let id = server.process_id().map(|id| id.to_string()).unwrap_or_default();
            write!(f, "{:<12} process {id:<8}", server.name())?;
            for (what, url) in serves {
                write!(f, " {what} {url}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\nDATABASE_URL={}\nKAFKA_BROKERS={}", self.postgres.url(), self.kafka.address())?;
        writeln!(f, "Logs are in {}\n", self.folder.path().display())?;
        writeln!(f, "The first administrator logs in with")?;
        writeln!(f, "  curl -s {url}/v1/auth/login -H 'Content-Type: application/json' \\")?;
        writeln!(f, "    -d '{{\"email\": \"{ADMINISTRATOR}\", \"password\": \"{}\"}}'", self.password)
    }
}

/// What all processes of Daybook's have in common.
struct Daybook<'a> {
    binary: PathBuf,
    folder: &'a Path,
    settings: Vec<(&'static str, String)>,
}

impl<'a> Daybook<'a> {
    /// With a new master key in `folder`.
    fn make(
        binary: PathBuf,
        folder: &'a Path,
        postgres: &postgres::Cluster,
        kafka: &Broker,
    ) -> anyhow::Result<Self> {
        let master_key = folder.join("master.key");
        fs::write(&master_key, random()?)?;
        let settings = vec![
            ("DATABASE_URL", postgres.url()),
            ("KAFKA_BROKERS", kafka.address().to_owned()),
            ("DAYBOOK_MASTER_KEY_FILE", master_key.display().to_string()),
            ("DAYBOOK_MIGRATE_ON_START", false.to_string()),
            ("DAYBOOK_TRUSTED_PROXIES", Ipv4Addr::LOCALHOST.to_string()),
        ];
        Ok(Self { binary, folder, settings })
    }

    /// The binary with these settings and no others.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env_clear().envs(self.settings.iter().cloned()).current_dir(self.folder);
        command
    }

    /// Opens the first account, and answers its password.
    fn create_administrator(&self) -> anyhow::Result<String> {
        let create = ["user", "create", ADMINISTRATOR, "--role", "admin", "--json"];
        let answer: serde_json::Value = serde_json::from_str(&run_quietly(&mut self.command(&create))?)?;
        Ok(answer["password"].as_str().context("no password was drawn")?.to_owned())
    }

    /// A process that is not running yet.
    fn process(&self, role: &str, number: usize, metrics: u16, api: Option<u16>) -> Process {
        let url = |port| format!("http://127.0.0.1:{port}");
        let name = format!("{role} {number}");
        let mut command = self.command(&["serve", "--roles", role]);
        command.args(["--metrics-listen", &format!("127.0.0.1:{metrics}")]);
        let mut serves = vec![("metrics", url(metrics) + "/metrics")];
        if let Some(port) = api {
            command.args(["--listen", &format!("127.0.0.1:{port}")]);
            serves.insert(0, ("API", url(port)));
        }
        let log = self.folder.join(format!("{role}-{number}.log"));
        Process { server: Server::new(name, command, Ready::Answers(metrics, "/health/ready"), log), serves }
    }
}

/// The one that we are told to run, or else one that is built.
async fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("DAYBOOK_BIN") {
        return Ok(path.into());
    }
    let [binary] = build::binaries(["daybook"], "dev").await?;
    Ok(binary)
}

/// 32 bytes that nobody can guess, in hex.
fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
