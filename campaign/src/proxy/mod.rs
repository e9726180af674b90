//! A proxy before PostgreSQL that knows when a write to the log goes by, and breaks it off where it hurts.

mod connection;
mod frames;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::Dice;
pub use frames::Moment;

/// Where a write is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// None of it reaches the server.
    Before,
    /// Only the beginning of it reaches the server.
    Half,
    /// It reaches the server, and both ends are cut at once.
    Blind,
    /// The server answers, and the answer goes nowhere: what was written is written.
    Answer,
    /// Only the beginning of the answer comes through.
    HalfAnswer,
    /// The answer comes through, and then both ends are cut.
    After,
    /// The client is cut; what it has sent reaches the server this much later.
    Late(Duration),
    /// Nothing is cut. It reaches the server this much later, and nobody is told.
    Stall(Duration),
    /// Nothing is cut. The answer comes this much later.
    StallAnswer(Duration),
}

/// A cut that waits for a write to go by.
#[derive(Debug)]
struct Armed {
    /// At this moment only, and after so many others.
    at: Option<(Moment, u32)>,
    cut: Cut,
    made: oneshot::Sender<Moment>,
}

/// What the connections of a proxy share.
#[derive(Debug, Clone)]
struct Shared {
    armed: Arc<Mutex<Option<Armed>>>,
    dice: Arc<Mutex<Dice>>,
    /// Raised to cut every connection that is open.
    cut: watch::Receiver<u64>,
    /// How many writes are held back, to be delivered late.
    held: watch::Sender<u64>,
}

/// A proxy on a port of its own. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    armed: Arc<Mutex<Option<Armed>>>,
    cut: watch::Sender<u64>,
    held: watch::Receiver<u64>,
    closed: watch::Sender<bool>,
    _listening: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy before the server at `server` (`host:port`).
    ///
    /// # Errors
    ///
    /// When there is no port to listen on.
    pub async fn start(server: String, dice: Dice) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let armed = Arc::<Mutex<Option<Armed>>>::default();
        let (cut, cutting) = watch::channel(0);
        let (closed, closing) = watch::channel(false);
        let (holding, held) = watch::channel(0);
        let dice = Arc::new(Mutex::new(dice));
        let shared = Shared { armed: Arc::clone(&armed), dice, cut: cutting, held: holding };
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, server, shared, closing));
        Ok(Self { address, armed, cut, held, closed, _listening: listening })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has the next write that goes by broken off. The receiver says when that was done, and fails when another cut has
    /// taken its place.
    pub fn arm(&self, cut: Cut) -> oneshot::Receiver<Moment> {
        self.arm_for(None, cut)
    }

    /// The same, for the next write that goes by at a certain moment.
    pub fn arm_at(&self, moment: Moment, cut: Cut) -> oneshot::Receiver<Moment> {
        self.arm_for(Some((moment, 0)), cut)
    }

    /// The same, for one that goes by at that moment after `others` did.
    pub fn arm_behind(&self, others: u32, moment: Moment, cut: Cut) -> oneshot::Receiver<Moment> {
        self.arm_for(Some((moment, others)), cut)
    }

    fn arm_for(&self, at: Option<(Moment, u32)>, cut: Cut) -> oneshot::Receiver<Moment> {
        let (made, when) = oneshot::channel();
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Armed { at, cut, made });
        when
    }

    /// Waits until all that is to come late has come, and was answered.
    pub async fn delivered(&self) {
        // An error: nobody listens any more.
        let _ = self.held.clone().wait_for(|held| *held == 0).await;
    }

    /// Forgets a cut that nothing has come by for.
    pub fn disarm(&self) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Cuts every connection that is open.
    pub fn cut_all(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Takes no more connections, until [`open`](Self::open). Those that are there stay.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Takes connections again.
    pub fn open(&self) {
        self.closed.send_replace(false);
    }
}

async fn listen(listener: TcpListener, server: String, shared: Shared, closed: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if *closed.borrow() {
                    reset(client);
                    continue;
                }
                let (server, shared) = (server.clone(), shared.clone());
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        // Broken connections are what this is about.
                        let _ = connection::run(client, server, shared).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Ends a connection without a goodbye.
fn reset(stream: TcpStream) {
    // Where that cannot be, it ends as any other.
    let _ = stream.set_zero_linger();
}
