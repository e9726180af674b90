//! Making a fault happen.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use daybook_database::Database;
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};

use super::Campaign;
use super::faults::Fault;
use crate::journal::now;
use crate::proxy::{Cut, Moment};
use crate::{Dice, signal};

/// How long to wait for a write that can be cut.
const WRITE_LIMIT: Duration = Duration::from_millis(500);
/// How long a server has to recover.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// How much is written at once to fill a disk.
const FILL_BYTES: usize = 64 << 10;

impl Campaign<'_> {
    /// Makes a fault happen; what happened, or `None` when it could not be.
    pub(super) async fn inject(&mut self, fault: Fault, dice: &mut Dice) -> anyhow::Result<Option<String>> {
        let running: Vec<_> = (0..self.writers.len()).filter(|index| self.writers[*index].is_running()).collect();
        if running.is_empty() {
            return Ok(None);
        }
        let working: Vec<_> = running.iter().copied().filter(|index| self.writers[*index].is_working()).collect();
        let one = *dice.pick(if working.is_empty() { &running } else { &working });
        // Some go on at any time.
        let enough_left = running.len() > self.writers.len().div_ceil(2);
        let name = fault.name().to_owned();
        match fault {
            Fault::Cut(cut) => {
                let made = self.cut(one, cut).await?;
                return Ok(made.map(|moment| format!("{name} ({moment})")));
            }
            Fault::CutAndAway(cut, time) => {
                let made = self.cut(one, cut).await?;
                if made.is_some() {
                    self.out_of_reach(one, time).await;
                }
                return Ok(made.map(|moment| format!("{name} ({moment})")));
            }
            Fault::LateAndAway(late, away) => {
                let made = self.cut(one, Cut::Late(late)).await?;
                if made.is_some() {
                    sleep(away).await;
                    self.proxies[one].close();
                    self.proxies[one].delivered().await;
                    self.proxies[one].open();
                }
                return Ok(made.map(|moment| format!("{name} ({moment})")));
            }
            Fault::Kill(_) | Fault::Freeze(_) | Fault::FreezeAndAdopt(_) if !enough_left => return Ok(None),
            Fault::Kill(_) if !self.writers[one].has_worked() => return Ok(None),
            Fault::Kill(pause) => self.writers[one].kill(pause).await?,
            Fault::Freeze(time) => self.writers[one].freeze(time)?,
            Fault::FreezeAndAdopt(time) => {
                self.writers[one].freeze(time)?;
                let others: Vec<_> = running.into_iter().filter(|index| *index != one).collect();
                let number = self.writers[one].number;
                self.writers[*dice.pick(&others)].adopt(number).await?;
            }
            Fault::Outage(time) => self.out_of_reach(one, time).await,
            Fault::Terminate => return Ok(self.terminate().await?.then_some(name)),
            Fault::Hold(time) => {
                let held = self.hold(time).await?;
                return Ok(held.then_some(name));
            }
            Fault::Crash => {
                let from = now();
                self.crash().await?;
                self.crashes.push(from..=now());
            }
            Fault::FullDisk(time) => self.fill_disk(time).await?,
        }
        Ok(Some(name))
    }

    /// Keeps a writer from its server.
    async fn out_of_reach(&self, writer: usize, time: Duration) {
        self.proxies[writer].close();
        sleep(time).await;
        self.proxies[writer].open();
    }

    /// Breaks the next write of a writer off.
    async fn cut(&mut self, writer: usize, cut: Cut) -> anyhow::Result<Option<Moment>> {
        let made = self.proxies[writer].arm(cut);
        let moment = timeout(WRITE_LIMIT, made).await;
        self.proxies[writer].disarm();
        Ok(moment.ok().and_then(Result::ok))
    }

    /// Has the server end one of the writers' connections, preferably an appender's.
    async fn terminate(&self) -> anyhow::Result<bool> {
        let mut administration = self.store.administration().await?;
        let ended: Option<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = $1 ORDER BY application_name = 'daybook appender' DESC, random() LIMIT 1",
        )
        .bind(self.store.name())
        .fetch_optional(&mut administration)
        .await?;
        administration.close().await?;
        Ok(ended.unwrap_or_default())
    }

    /// Holds the log's head, as somebody would who looks into it by hand.
    async fn hold(&self, time: Duration) -> anyhow::Result<bool> {
        let database = self.store.connect().await?;
        let held = match &database {
            Database::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let held = sqlx::query("SELECT FROM log_identity FOR UPDATE").execute(&mut *transaction).await;
                sleep(time).await;
                held.is_ok() && transaction.rollback().await.is_ok()
            }
            Database::Sqlite(file) => match file.writer().begin_with("BEGIN IMMEDIATE").await {
                Ok(transaction) => {
                    sleep(time).await;
                    transaction.rollback().await.is_ok()
                }
                Err(_) => false,
            },
        };
        database.close().await;
        Ok(held)
    }

    /// Kills one of the server's processes. The server then ends all others at once, and recovers from its own log.
    async fn crash(&self) -> anyhow::Result<()> {
        let mut administration = self.store.administration().await?;
        let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut administration).await?;
        signal::send("KILL", process.unsigned_abs())?;
        let limit = Instant::now() + RECOVERY_LIMIT;
        // Not before the crash is noticed: this very connection goes.
        while administration.ping().await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        while !self.answers().await {
            anyhow::ensure!(Instant::now() < limit, "the server did not recover within {RECOVERY_LIMIT:?}");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn answers(&self) -> bool {
        match self.store.administration().await {
            Ok(connection) => PgConnection::close(connection).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Fills the disk that the store is on, and empties it again.
    async fn fill_disk(&self, time: Duration) -> anyhow::Result<()> {
        let file = self.store.file().context("only an embedded store is on a disk of its own")?;
        let filler = file.with_file_name("filler");
        let mut filling = File::create(&filler)?;
        let zeros = vec![0; FILL_BYTES];
        while filling.write_all(&zeros).is_ok() {}
        sleep(time).await;
        Ok(fs::remove_file(filler)?)
    }
}
