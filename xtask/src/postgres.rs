//! A throw-away PostgreSQL cluster.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::child::run_quietly;
use crate::server_binaries;
use crate::user::Unprivileged;

/// How long the server may take to start, and to stop.
const LIMIT: Duration = Duration::from_secs(60);

/// The most connections. Tests run in parallel, and each has several pools.
const CONNECTIONS_MAX: u32 = 400;

/// A PostgreSQL server of our own, in a temporary folder, on a free port of the loopback interface. It is as
/// durable as PostgreSQL is by default. Dropping it stops it and removes the folder.
pub(crate) struct Cluster {
    server: Child,
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
        let port = free_port()?;
        let server = place.serve(port, settings)?;
        let mut cluster = Self { server, port, place };
        cluster.wait_until_ready().await?;
        Ok(cluster)
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

    /// Waits for the server to say so in its own folder; whoever else answers on the port is not it.
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let limit = Instant::now() + LIMIT;
        while !self.place.says_ready() {
            if let Some(status) = self.server.try_wait()? {
                bail!("PostgreSQL ended with {status}:\n{}", self.place.server_log());
            }
            if Instant::now() > limit {
                bail!("PostgreSQL is not ready after {LIMIT:?}:\n{}", self.place.server_log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Immediate: there is nothing to keep. `-w` waits until the server is gone.
        let stopped = run_quietly(self.place.command("pg_ctl").args(["stop", "--mode=immediate", "-w"]));
        if stopped.is_err() {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
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
        let folder = tempfile::Builder::new()
            .prefix("daybook-postgres-")
            .tempdir()
            .context("cannot make a folder for PostgreSQL")?;
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid))
                .context("cannot give PostgreSQL its folder")?;
        }
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

    /// Starts the server. It leads a process group of its own, so that a terminal's Ctrl-C does not end it before
    /// its users.
    fn serve(&self, port: u16, settings: &[(&str, &str)]) -> anyhow::Result<Child> {
        let log = File::create(self.folder.path().join("server.log"))?;
        self.command("postgres")
            .arg(format!("--port={port}"))
            .arg("--listen_addresses=127.0.0.1")
            .arg(format!("--unix_socket_directories={}", self.folder.path().display()))
            .arg(format!("--max_connections={CONNECTIONS_MAX}"))
            .args(settings.iter().map(|(name, value)| format!("--{name}={value}")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start PostgreSQL")
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

    /// Whether the server has written, in the last line of its `postmaster.pid`, that it takes connections.
    fn says_ready(&self) -> bool {
        fs::read_to_string(self.data().join("postmaster.pid"))
            .is_ok_and(|text| text.lines().last().is_some_and(|line| line.trim() == "ready"))
    }

    fn server_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

/// A port that nobody listens on.
fn free_port() -> anyhow::Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback interface")?;
    Ok(listener.local_addr()?.port())
}
