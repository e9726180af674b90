//! A proxy before the broker, which passes on what it does not understand, and cuts.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy. Dropping it cuts everything.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Raised to cut every connection that is open; each of them listens.
    cut: watch::Sender<u64>,
    _listening: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy on port `at` of loopback, before the port `server`.
    pub(super) async fn start(at: u16, server: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, at)).await?;
        let cut = watch::Sender::new(0);
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, server, cut.clone()));
        Ok(Self { cut, _listening: listening })
    }

    /// Cuts every connection that is open; answers whether there was any.
    pub(super) fn cut_all(&self) -> bool {
        self.cut.send_modify(|count| *count += 1);
        self.cut.receiver_count() > 0
    }
}

async fn listen(listener: TcpListener, server: u16, cut: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut client, _)) = accepted else { continue };
                let mut cutting = cut.subscribe();
                connections.spawn(async move {
                    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
                    // Broken connections are what this is about.
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cutting.changed() => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
