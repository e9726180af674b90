//! One connection through the proxy.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::frames::{self, Listener, Moment};
use super::{Armed, Cut, Shared, reset};

/// How long a server that nobody listens to any more has for an answer.
const LAST_ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Passes messages on until one end closes, or the connection is cut.
pub(super) async fn run(client: TcpStream, server: TcpStream, shared: Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut cut = shared.cut.clone();
    cut.mark_unchanged();
    let connection = Connection {
        client: End::new(client),
        server: End::new(server),
        listener: Listener::default(),
        shared,
        cut,
    };
    connection.pass().await
}

/// One of the two ends, and what it has sent and nobody has taken yet.
struct End {
    stream: TcpStream,
    sent: Vec<u8>,
}

impl End {
    fn new(stream: TcpStream) -> Self {
        Self { stream, sent: Vec::new() }
    }

    /// The next message, once it is all there; `None` when nothing more comes. Can be dropped and called again.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = frames::message(&self.sent) {
                return Ok(Some(self.sent.drain(..length).collect()));
            }
            if self.stream.read_buf(&mut self.sent).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The first message, which has another form.
    async fn first(&mut self) -> io::Result<Option<(Vec<u8>, u32)>> {
        loop {
            if let Some((length, code)) = frames::first(&self.sent)
                && self.sent.len() >= length
            {
                return Ok(Some((self.sent.drain(..length).collect(), code)));
            }
            if self.stream.read_buf(&mut self.sent).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// All that comes up to where the server is ready for more, or goes away.
    async fn whole_answer(&mut self) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        let reading = async {
            while let Some(message) = self.next().await? {
                answer.extend(&message);
                if frames::ready(&message).is_some() {
                    break;
                }
            }
            io::Result::Ok(())
        };
        // One that does not answer in time waits for a lock; it may have it later.
        timeout(LAST_ANSWER_LIMIT, reading).await.unwrap_or(Ok(()))?;
        Ok(answer)
    }
}

struct Connection {
    client: End,
    server: End,
    listener: Listener,
    shared: Shared,
    cut: watch::Receiver<u64>,
}

impl Connection {
    async fn pass(mut self) -> io::Result<()> {
        loop {
            match self.client.first().await? {
                None => return Ok(()),
                Some((_, frames::TLS_REQUEST)) => self.client.send(b"N").await?,
                Some((startup, _)) => break self.server.send(&startup).await?,
            }
        }
        // What is on its way to the server: up to the end of what it works off at once, if it writes.
        let mut unit = Vec::new();
        let mut moment = None;
        loop {
            tokio::select! {
                _ = self.cut.changed() => return self.cut_both(),
                message = self.client.next() => {
                    let Some(message) = message? else { return Ok(()) };
                    moment = self.listener.hear(&message).or(moment);
                    let ends = frames::ends(&message);
                    unit.extend(message);
                    if moment.is_some() && !ends {
                        continue;
                    }
                    match moment.take().and_then(|moment| self.shared.take(moment)) {
                        None => self.server.send(&unit).await?,
                        Some(Cut::Late(by)) => return self.late(by, &unit).await,
                        Some(cut) => {
                            if self.make(cut, &unit).await? == Over::Cut {
                                return self.cut_both();
                            }
                        }
                    }
                    unit.clear();
                }
                message = self.server.next() => {
                    let Some(message) = message? else { return Ok(()) };
                    self.answer(&message).await?;
                }
            }
        }
    }

    /// Passes one of the server's messages on.
    async fn answer(&mut self, message: &[u8]) -> io::Result<()> {
        if let Some(open) = frames::ready(message) {
            self.listener.in_transaction = open;
        }
        self.client.send(message).await
    }

    /// Makes a cut, but for the last step of closing the connection.
    async fn make(&mut self, cut: Cut, unit: &[u8]) -> io::Result<Over> {
        match cut {
            Cut::Before | Cut::Late(_) => {}
            Cut::Half => self.server.send(&unit[..unit.len() / 2]).await?,
            Cut::Blind => self.server.send(unit).await?,
            Cut::Answer => {
                self.server.send(unit).await?;
                self.server.whole_answer().await?;
            }
            Cut::HalfAnswer => {
                self.server.send(unit).await?;
                let answer = self.server.whole_answer().await?;
                self.client.send(&answer[..answer.len() / 2]).await?;
            }
            Cut::After => {
                self.server.send(unit).await?;
                let answer = self.server.whole_answer().await?;
                self.client.send(&answer).await?;
            }
            Cut::Stall(time) => {
                sleep(time).await;
                self.server.send(unit).await?;
                return Ok(Over::GoesOn);
            }
            Cut::StallAnswer(time) => {
                self.server.send(unit).await?;
                sleep(time).await;
                return Ok(Over::GoesOn);
            }
        }
        Ok(Over::Cut)
    }

    /// Cuts the client, and lets the server have the rest later.
    async fn late(mut self, by: Duration, unit: &[u8]) -> io::Result<()> {
        self.shared.held.send_modify(|held| *held += 1);
        reset(self.client.stream);
        sleep(by).await;
        let delivered = match self.server.send(unit).await {
            Ok(()) => self.server.whole_answer().await.map(drop),
            refused => refused,
        };
        self.shared.held.send_modify(|held| *held -= 1);
        delivered
    }

    fn cut_both(self) -> io::Result<()> {
        if self.shared.one_in(2) {
            reset(self.client.stream);
            reset(self.server.stream);
        }
        Ok(())
    }
}

/// Whether there is still a connection after a cut.
#[derive(PartialEq, Eq)]
enum Over {
    Cut,
    GoesOn,
}

impl Shared {
    /// Takes the cut that waits, if it is for this moment. A write that is whole by itself is rare where many write; what
    /// is written in a transaction is lost in any case, so mostly it is the COMMIT that is cut.
    fn take(&self, moment: Moment) -> Option<Cut> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = armed.as_mut().is_some_and(|armed| match (&mut armed.at, moment) {
            (Some((at, others)), moment) if *at == moment => match others.checked_sub(1) {
                Some(left) => {
                    *others = left;
                    false
                }
                None => true,
            },
            (Some(_), _) => false,
            (None, Moment::Statement) => true,
            (None, Moment::Commit) => self.one_in(2),
            (None, Moment::InTransaction) => self.one_in(6),
        });
        let Armed { cut, made, .. } = if fits { armed.take() } else { None }?;
        // Whoever has armed it may not wait for it.
        let _ = made.send(moment);
        Some(cut)
    }

    fn one_in(&self, n: u64) -> bool {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).one_in(n)
    }
}
