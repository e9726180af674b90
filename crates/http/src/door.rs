//! How a server ends without a request being lost, of whoever asks it or stands between.
//!
//! Over a connection that is kept open, a request may come at any time. Who sends one just as the connection is closed cannot
//! tell whether it was carried out, and a proxy does not send a command again that may have been. So no connection is closed
//! under its client: each is told with an answer that it was the last one, or has been idle for so long that the client knows
//! it to be closed. Nor is one let in that is not answered.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::{Extensions, ResponseHead, ServerHandle};
use actix_web::http::ConnectionType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockFilter, SockRef};
use tokio::time::{Instant, sleep};

/// How long a connection is kept open that nobody uses. A proxy keeps its own for less long.
pub(crate) const KEPT: Duration = Duration::from_secs(5);

/// How long a handshake takes that was begun, over a network: some round trips.
const SETTLES: Duration = Duration::from_millis(200);

/// How long the server's thread may take to hear that it is to let nobody in.
const HEARD: Duration = Duration::from_millis(50);

/// How often to look whether connections are left.
const POLL: Duration = Duration::from_millis(10);

/// What a server knows of its connections.
#[derive(Default)]
pub(crate) struct Connections {
    /// Whether each answer is to be the last one of its connection.
    closing: AtomicBool,
    /// Each connection has a clone of it, for as long as another request may come.
    open: Arc<()>,
}

/// A connection, for as long as another request may come over it.
#[derive(Clone)]
struct Connection(Rc<Cell<Option<Arc<()>>>>);

/// The way out of an answer. It is there before the answer is, since a request that takes too long, or whose handler panics, is
/// gone by then.
pub(crate) struct WayOut {
    connections: Arc<Connections>,
    connection: Option<Connection>,
}

impl Connections {
    /// Counts a new one.
    pub(crate) fn opened(&self, connection: &mut Extensions) {
        connection.insert(Connection(Rc::new(Cell::new(Some(self.open.clone())))));
    }

    /// Those of a server that closes.
    #[cfg(test)]
    pub(crate) fn closing() -> Arc<Self> {
        let connections = Self::default();
        connections.closing.store(true, Ordering::Release);
        Arc::new(connections)
    }

    fn are_left(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }
}

impl WayOut {
    /// The one of a request's answer; `None` where nothing is lost with a request.
    pub(crate) fn of(request: &HttpRequest) -> Option<Self> {
        let connections = request.app_data::<Arc<Connections>>()?.clone();
        Some(Self { connections, connection: request.conn_data().cloned() })
    }

    /// Says with the answer that it is the connection's last one, if it is to be.
    pub(crate) fn taken(self, answer: &mut ResponseHead) {
        if self.connections.closing.load(Ordering::Acquire) {
            answer.set_connection_type(ConnectionType::Close);
        }
        if answer.connection_type() == ConnectionType::Close
            && let Some(Connection(open)) = self.connection
        {
            open.set(None);
        }
    }
}

/// Where connections come in.
pub(crate) struct Door {
    listener: TcpListener,
    connections: Arc<Connections>,
    /// How long to answer on at most.
    patience: Duration,
}

impl Door {
    /// The one of a server that is going to serve on `listener`.
    pub(crate) fn new(
        listener: &TcpListener,
        connections: Arc<Connections>,
        patience: Duration,
    ) -> io::Result<Self> {
        Ok(Self { listener: listener.try_clone()?, connections, patience })
    }

    /// Lets nobody in any more, and answers on until no other request may come.
    pub(crate) async fn close(&self, server: &ServerHandle) {
        let end = Instant::now() + self.patience;
        if let Err(error) = self.shut(server, end).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "connections may be reset that were let in");
        }
        self.connections.closing.store(true, Ordering::Release);
        while self.connections.are_left() && Instant::now() < end {
            sleep(POLL).await;
        }
    }

    /// Has whoever begins to connect passed over, at once, and refused, once nobody is left whom the kernel has taken: it would
    /// reset them with the listener.
    async fn shut(&self, server: &ServerHandle, end: Instant) -> io::Result<()> {
        let listener = SockRef::from(&self.listener);
        listener.attach_filter(&NOBODY_NEW)?;
        loop {
            sleep(SETTLES).await;
            while self.is_waited_at() && Instant::now() < end {
                sleep(POLL).await;
            }
            server.pause().await;
            // It stops to accept a while after it was told.
            sleep(HEARD).await;
            let is_left = self.is_waited_at();
            if !is_left || Instant::now() >= end {
                listener.shutdown(Shutdown::Both)?;
                return match is_left {
                    false => Ok(()),
                    true => Err(io::Error::other(format!("some were not let in within {:?}", self.patience))),
                };
            }
            server.resume().await;
        }
    }

    /// Whether the kernel has taken connections that the server has not taken over yet, as on a machine that is busy. It may
    /// be so where nobody can say.
    fn is_waited_at(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&now)).is_ok_and(|count| count == 0)
    }
}

/// Has the kernel pass over every packet that begins a connection, as if it were lost (in classic BPF, which sees the packet
/// from TCP's header on: the flags are its byte 13, and SYN is 2). Whoever sent it tries again after a second.
const NOBODY_NEW: [SockFilter; 4] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 13),
    SockFilter::new(JUMP_IF_SET, 0, 1, 2),
    SockFilter::new(RETURN, 0, 0, 0),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
];
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn who_was_not_let_in_yet_is_seen_to_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let door = Door::new(&listener, Arc::default(), Duration::ZERO).expect("a door");
        assert!(!door.is_waited_at());
        let _client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
        assert!(door.is_waited_at());
        drop(listener.accept().expect("somebody waits"));
        assert!(!door.is_waited_at());
    }
}
