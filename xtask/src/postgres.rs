//! A throw-away PostgreSQL cluster.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::child::run_quietly;
use crate::loopback::free_ports;
use crate::server::{Ready, Server};
use crate::server_binaries;
use crate::user::Unprivileged;

/// The most connections. Tests run in parallel, and each has several pools.
const CONNECTIONS_MAX: u32 = 400;

/// What it logs when it takes connections.
const READY: &str = "database system is ready to accept connections";

/// A PostgreSQL server of our own, in a temporary folder, on a free port of the loopback interface. It is as
/// durable as PostgreSQL is by default. Dropping it stops it and removes the folder.
pub(crate) struct Cluster {
    server: Server,
    port: u16,
    place: Place,
}

impl Cluster {
    /// Makes a cluster and starts it with `settings`, names and values; what they do not name is PostgreSQL's default.
    ///
    /// # Errors
    ///
    /// When there are no server programs, or the server does not start.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let place = Place::make(server_binaries::find_or_install().await?)?;
        let [port] = free_ports()?;
        let server = place.server(port, settings);
        let mut cluster = Self { server, port, place };
        cluster.server.start().await?;
        Ok(cluster)
    }

    /// The server itself.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Where its administration database is, for `DATABASE_URL`.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where a database of it is.
    pub(crate) fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// One of PostgreSQL's client programs (`psql`), pointed at this server.
    pub(crate) fn client(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.place.binaries.join(program));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // There is nothing to keep.
        self.server.kill();
    }
}

/// Where a cluster lives: the programs, the folder, and the user who owns it. The folder goes with it.
struct Place {
    binaries: PathBuf,
    folder: TempDir,
    user: Option<Unprivileged>,
}

impl Place {
    /// Makes an empty cluster.
    fn make(binaries: PathBuf) -> anyhow::Result<Self> {
        let user = Unprivileged::find()?;
        let folder = Unprivileged::make_folder(user, "daybook-postgres-")?;
        let place = Self { binaries, folder, user };
        // `--no-sync` is about this one command: what it writes need not survive a power cut. The server syncs.
        run_quietly(place.command("initdb").args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]))?;
        Ok(place)
    }

    /// The server, not running yet.
    fn server(&self, port: u16, settings: &[(&str, &str)]) -> Server {
        let mut command = self.command("postgres");
        command
            .arg(format!("--port={port}"))
            .arg("--listen_addresses=127.0.0.1")
            .arg(format!("--unix_socket_directories={}", self.folder.path().display()))
            .arg(format!("--max_connections={CONNECTIONS_MAX}"))
            .args(settings.iter().map(|(name, value)| format!("--{name}={value}")));
        // What it starts is not in its process group. Immediate is what a crash leaves; `-w` waits until it is gone.
        let mut kill = self.command("pg_ctl");
        kill.args(["stop", "--mode=immediate", "-w"]);
        // SIGTERM would wait for its clients.
        Server::new("PostgreSQL", command, Ready::Says(READY), self.folder.path().join("server.log"))
            .stopped_by(Signal::INT)
            .killed_by(kill)
    }

    /// A server program, run by the cluster's owner on the cluster's data.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(self.folder.path()).env("PGDATA", self.data());
        if let Some(user) = self.user {
            user.run_as(&mut command);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}
