//! How a server ends without a request being lost, of whoever asks it or stands between.
//!
//! Over a connection that is kept open, a request may come at any time. Who sends one just as the connection is closed cannot
//! tell whether it was carried out, and a proxy does not send a command again that may have been. So no connection is closed
//! under its client: each is told with an answer that it was the last one, or has been idle for so long that the client knows
//! it to be closed. Nor is one let in that is not answered.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::{Extensions, ResponseHead, ServerHandle, ServiceResponse};
use actix_web::http::ConnectionType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockFilter, SockRef};
use tokio::time::{Instant, sleep};

/// How long a connection is kept open that nobody uses. A proxy keeps its own for less long.
pub(crate) const KEPT: Duration = Duration::from_secs(5);

/// How long it takes until whoever is about to connect has, over a network: some round trips.
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

/// A connection over which another request may come.
struct Connection(Cell<Option<Arc<()>>>);

impl Connections {
    /// Counts a new one.
    pub(crate) fn opened(&self, connection: &mut Extensions) {
        connection.insert(Connection(Cell::new(Some(self.open.clone()))));
    }

    /// Has each answer be the last one of its connection, from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Says with an answer that it is the connection's last one, if it is to be.
    pub(crate) fn mark(&self, answer: &mut ResponseHead) {
        if self.closing.load(Ordering::Acquire) {
            answer.set_connection_type(ConnectionType::Close);
        }
    }

    /// The same, and what follows from it.
    pub(crate) fn answered<B>(&self, answer: &mut ServiceResponse<B>) {
        let head = answer.response_mut().head_mut();
        self.mark(head);
        if head.connection_type() == ConnectionType::Close
            && let Some(Connection(open)) = answer.request().conn_data()
        {
            open.set(None);
        }
    }

    fn are_left(&self) -> bool {
        Arc::strong_count(&self.open) > 1
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
        if let Err(error) = self.shut(server).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "connections may be reset that were let in");
        }
        self.connections.close();
        let end = Instant::now() + self.patience;
        while self.connections.are_left() && Instant::now() < end {
            sleep(POLL).await;
        }
    }

    /// Has connections refused, at once, but for those that the kernel has taken: it would reset them with the listener.
    async fn shut(&self, server: &ServerHandle) -> io::Result<()> {
        let listener = SockRef::from(&self.listener);
        listener.attach_filter(&NOBODY_NEW)?;
        sleep(SETTLES).await;
        let end = Instant::now() + self.patience;
        while self.is_waited_at()? && Instant::now() < end {
            sleep(POLL).await;
        }
        server.pause().await;
        sleep(HEARD).await;
        listener.shutdown(Shutdown::Both)
    }

    /// Whether the kernel has taken connections that the server has not taken over yet, as on a machine that is busy.
    fn is_waited_at(&self) -> io::Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&now))? > 0)
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
        assert!(!door.is_waited_at().expect("an answer"));
        let _client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
        assert!(door.is_waited_at().expect("an answer"));
        drop(listener.accept().expect("somebody waits"));
        assert!(!door.is_waited_at().expect("an answer"));
    }
}
