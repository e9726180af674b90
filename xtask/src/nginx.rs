//! The proxy in front of the API processes, as `docker/nginx.conf` says.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use tempfile::TempDir;

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
    place: Place,
    _folder: TempDir,
}

/// Where a proxy is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its own address.
    listen: SocketAddr,
    /// Those of the API processes behind it.
    behind: [SocketAddr; 2],
}

impl Place {
    /// In front of the API processes at these ports of the loopback interface.
    ///
    /// # Errors
    ///
    /// When there is no port left for itself.
    pub(crate) fn in_front_of(behind: [u16; 2]) -> anyhow::Result<Self> {
        let [port] = free_ports()?;
        Ok(Self { listen: local(1, port), behind: behind.map(|port| local(1, port)) })
    }

    /// In front of processes that come and go. Their addresses are theirs: whoever takes any free port takes one of
    /// `127.0.0.1`.
    ///
    /// # Errors
    ///
    /// When there is no port.
    pub(crate) fn apart() -> anyhow::Result<Self> {
        let [port] = free_ports()?;
        Ok(Self { listen: local(1, port), behind: [2, 3].map(|host| local(host, port)) })
    }
}

impl Proxy {
    /// Starts one. Nobody has to be behind it yet.
    ///
    /// # Errors
    ///
    /// When there is no nginx, or it does not understand `docker/nginx.conf`.
    pub(crate) async fn start(place: Place) -> anyhow::Result<Self> {
        let program = find_or_install().await?;
        let user = Unprivileged::find()?;
        let folder = Unprivileged::make_folder(user, "daybook-nginx-")?;
        let settings = folder.path().join("nginx.conf");
        fs::write(&settings, settings_for(place)?)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&settings).args(["-e", "stderr"]);
        if let Some(user) = user {
            user.run_as(&mut command);
        }
        let ready = Ready::Listens(place.listen);
        let mut server = Server::new("nginx", command, ready, folder.path().join("nginx.log"));
        server.start().await?;
        Ok(Self { server, place, _folder: folder })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.place.listen)
    }

    /// Its address and those behind it, for `DAYBOOK_TEST_PROXY`.
    pub(crate) fn addresses(&self) -> String {
        let [one, other] = self.place.behind;
        format!("{},{one},{other}", self.place.listen)
    }

    /// The server itself.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Finds nginx, and installs it where that is possible.
///
/// # Errors
///
/// When there is none; the error says what to install.
pub(crate) async fn find_or_install() -> anyhow::Result<PathBuf> {
    install::program("nginx", "nginx-light").await
}

/// The settings, on loopback. Everything else in them is as it is in production.
fn settings_for(Place { listen, behind }: Place) -> anyhow::Result<String> {
    let mut places = vec![(LISTEN, format!("listen {listen};")), (LOG, "access_log access.log ".to_owned())];
    places.extend(BEHIND.into_iter().zip(behind.map(|address| format!("server {address} "))));
    let mut text = SETTINGS.to_owned();
    for (place, here) in places {
        if text.matches(place).count() != 1 {
            bail!("docker/nginx.conf is to have one `{place}`");
        }
        text = text.replace(place, &here);
    }
    Ok(text)
}

fn local(host: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, host), port).into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_machine_that_is_silent_costs_a_moment() {
        let silent = TcpSocket::new_v4().expect("a socket");
        silent.bind(local(1, 0)).expect("a port");
        let silent = silent.listen(1).expect("it listens");
        let there = TcpListener::bind(local(1, 0)).await.expect("a port");
        let [gone, port] = [&silent, &there].map(|one| one.local_addr().expect("an address"));
        let place = Place::in_front_of([gone.port(), port.port()]).expect("a port");
        // Once its queue is full, its kernel passes over whoever wants to connect.
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(100), TcpStream::connect(gone)).await {
            waiting.push(connected.expect("it listens"));
        }
        let server = tokio::spawn(answer_all(there));
        let _proxy = Proxy::start(place).await.expect("there is nginx");

        let mut waited = Vec::new();
        for _ in 0..8 {
            let begun = Instant::now();
            assert!(ask(place.listen).await.starts_with("HTTP/1.1 204"));
            waited.push(begun.elapsed());
        }
        // Those that went to the silent one first. How long others were kept from running is no matter of the proxy's.
        let shortest = waited.iter().filter(|wait| **wait > Duration::from_millis(150)).min();
        assert!(shortest.is_some_and(|wait| *wait < Duration::from_millis(900)), "{waited:?}");
        server.abort();
    }

    async fn answer_all(there: TcpListener) {
        loop {
            let (mut connection, _) = there.accept().await.expect("a connection");
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await.expect("a request");
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            connection.write_all(answer).await.expect("somebody listens");
        }
    }

    async fn ask(proxy: SocketAddr) -> String {
        let mut connection = TcpStream::connect(proxy).await.expect("it listens");
        let request = b"GET / HTTP/1.1\r\nHost: daybook\r\nConnection: close\r\n\r\n";
        connection.write_all(request).await.expect("it reads");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("it answers");
        answer
    }
}
