//! The proxy in front of the API processes, as `docker/nginx.conf` says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::child::run_quietly;
use crate::install;
use crate::loopback::free_ports;
use crate::server::{Ready, Server};
use crate::user::Unprivileged;

const SETTINGS: &str = include_str!("../../docker/nginx.conf");

/// What in it is about where it runs: its own address, those behind it, and its log.
const LISTEN: &str = "listen 8080;";
const BEHIND: [&str; 2] = ["server api-1:8080 ", "server api-2:8080 "];
const LOG: &str = "access_log /dev/stdout ";

/// A proxy of our own. Dropping it stops it, and removes its folder.
pub(crate) struct Proxy {
    server: Server,
    port: u16,
    _folder: TempDir,
}

impl Proxy {
    /// Starts one in front of API processes, whose ports are `behind`, and waits until they answer through it.
    ///
    /// # Errors
    ///
    /// When there is no nginx, or it does not start.
    pub(crate) async fn start(behind: [u16; 2]) -> anyhow::Result<Self> {
        let [port] = free_ports()?;
        let (folder, command) = make(port, behind).await?;
        let ready = Ready::Answers(port, "/health/ready");
        let mut server = Server::new("nginx", command, ready, folder.path().join("nginx.log"));
        server.start().await?;
        Ok(Self { server, port, _folder: folder })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The server itself.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Makes sure that nginx understands `docker/nginx.conf`, where there is an nginx or one can be installed.
///
/// # Errors
///
/// When it does not.
pub(crate) async fn check() -> anyhow::Result<()> {
    if let Err(error) = find_or_install().await {
        println!("Not checked: {error:#}.");
        return Ok(());
    }
    // It listens there for a moment.
    let [port, one, other] = free_ports()?;
    let (_folder, mut command) = make(port, [one, other]).await?;
    run_quietly(command.arg("-t")).map(drop)
}

/// Makes its folder, and answers what runs it.
async fn make(port: u16, behind: [u16; 2]) -> anyhow::Result<(TempDir, Command)> {
    let program = find_or_install().await?;
    let user = Unprivileged::find()?;
    let folder = Unprivileged::make_folder(user, "daybook-nginx-")?;
    let settings = folder.path().join("nginx.conf");
    fs::write(&settings, settings_for(port, behind)?)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&settings).args(["-e", "stderr"]);
    if let Some(user) = user {
        user.run_as(&mut command);
    }
    Ok((folder, command))
}

/// The settings, on loopback. Everything else in them is as it is in production.
fn settings_for(port: u16, behind: [u16; 2]) -> anyhow::Result<String> {
    let mut places =
        vec![(LISTEN, format!("listen 127.0.0.1:{port};")), (LOG, "access_log access.log ".to_owned())];
    places.extend(BEHIND.into_iter().zip(behind.map(|port| format!("server 127.0.0.1:{port} "))));
    let mut text = SETTINGS.to_owned();
    for (place, here) in places {
        if text.matches(place).count() != 1 {
            bail!("docker/nginx.conf is to have one `{place}`");
        }
        text = text.replace(place, &here);
    }
    Ok(text)
}

async fn find_or_install() -> anyhow::Result<PathBuf> {
    if find().is_none() && install::possible()? {
        install::packages(&["nginx-light"]).await?;
    }
    find().context("there is no nginx; install it (Debian, Ubuntu: sudo apt-get install nginx-light)")
}

/// It may be where only root looks for programs.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join("nginx")).find(|program| Path::is_file(program))
}
