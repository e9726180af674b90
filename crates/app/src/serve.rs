//! `serve` and `demo`: start, serve, drain, end.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use daybook_core::Domain;
use daybook_database::Database;
use daybook_http::metrics::Render;
use daybook_http::{Backend, Readiness, Running};
use daybook_kafka::Relay;
use daybook_log::Log;
use daybook_views::{Projectors, Views};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep};

use crate::config::{Config, Role};
use crate::engine::{Databases, Engine};
use crate::master::Missing;
use crate::{demo, telemetry, terminal};

/// How long to wait until a part that ended by itself is started again, at first and at most.
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(60);

/// How long everything else may take to end once the requests under way have ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What is there.
    Plain,
    /// A shop with some history.
    Demo,
}

/// Serves until the process is asked to end, or a part of it ends by itself.
pub(crate) async fn serve(domain: Domain, config: Config, kind: Kind) -> anyhow::Result<()> {
    let mut end = EndSignals::listen()?;
    if kind == Kind::Demo && !config.roles.is_superset(&BTreeSet::from([Role::Api, Role::Projector])) {
        bail!("`demo` does everything in one process; `serve --roles …` splits it");
    }
    let listener = match config.roles.contains(&Role::Api) {
        true => Some(bind(&config.listen, "listen")?),
        false => None,
    };
    let metrics_listener = match &config.metrics_listen {
        Some(address) => Some(bind(address, "metrics_listen")?),
        None => None,
    };
    let gathered = telemetry::start_metrics()?;

    let entropy = spawn_blocking(daybook_keys::gather_entropy);
    let databases = Databases::create(&config).await?;
    if config.migrate_on_start {
        databases.migrate().await?;
    } else {
        databases.check_migrated().await?;
    }
    let missing = match kind {
        Kind::Demo => Missing::IsMade,
        Kind::Plain => Missing::IsMadeForEmbedded,
    };
    let engine = Engine::start(domain, &config, databases, missing).await?;
    entropy.await??;
    if kind == Kind::Plain && config.keys_beside_log {
        tracing::warn!(
            "the keys are in the log's database, so its backups hold both: `KEYS_DATABASE_URL` parts them"
        );
    }
    let start_projectors = || Projectors::start(&engine.views, projectors_settings(&config));
    let mut projectors = config.roles.contains(&Role::Projector).then(start_projectors);
    let start_relay = relay_settings(&config).filter(|_| config.roles.contains(&Role::Relay)).map(|settings| {
        let (log, database) = (&engine.log, &engine.databases.log);
        move || Relay::start(log, database, settings.clone())
    });
    let mut relay = start_relay.as_ref().map(|start| start());
    // The other roles go on beside one of these. Where there is no other, a supervisor is told that nothing is done.
    let goes_on = config.roles.len() > 1;

    let readiness = Readiness::default();
    let backend = backend(&engine, &config, readiness.clone());
    // How far views are is said by whoever folds them, and how far the topic is by whoever may publish.
    let views = projectors.is_some().then(|| engine.views.clone());
    let topic = relay
        .as_ref()
        .and(config.relay.as_ref())
        .map(|settings| (engine.databases.log.clone(), engine.log.clone(), settings.topic.to_string()));
    let mut metrics = match metrics_listener {
        Some(listener) => {
            let render = render(gathered, views, topic);
            Some(daybook_http::metrics::start(backend.clone(), listener, render)?)
        }
        None => None,
    };
    if let Some(running) = &metrics {
        terminal::notice(format_args!("metrics on http://{}/metrics", running.address()))?;
    }
    let mut api = match listener {
        Some(listener) => Some(daybook_http::start(backend, listener)?),
        None => None,
    };
    let base_url = api.as_ref().map(|running| format!("http://{}", running.address()));
    if let Some(base_url) = &base_url {
        terminal::notice(format_args!("listening on {base_url}"))?;
    }

    let started = async {
        if let (Kind::Demo, Some(base_url)) = (kind, &base_url) {
            demo::prepare(&engine, &config, base_url).await?;
        }
        readiness.set(true);
        tracing::info!("ready");
        if let (Kind::Demo, Some(base_url)) = (kind, &base_url) {
            demo::welcome(&engine, &config, base_url)?;
        }
        pending().await
    };
    let outcome: anyhow::Result<()> = tokio::select! {
        failed = started => failed,
        lost = part_lost(&engine.log, &mut api, &mut metrics) => Err(lost),
        lost = part_ended("projector", &mut projectors, Projectors::ended, goes_on.then_some(start_projectors)) => Err(lost),
        lost = part_ended("relay", &mut relay, Relay::ended, start_relay.filter(|_| goes_on)) => Err(lost),
        () = end.wait() => Ok(()),
    };

    readiness.set(false);
    tracing::info!("draining");
    let drained = async {
        let served = async {
            // When a part is lost, nobody is answered for longer than it takes.
            if let (Some(api), Ok(())) = (&api, &outcome) {
                api.let_go().await;
            }
            engine.views.close();
            if let Some(api) = api {
                api.stop().await;
            }
            if let Some(projectors) = projectors {
                projectors.stop().await;
            }
        };
        let published = async {
            if let Some(relay) = relay {
                relay.stop().await;
            }
        };
        // Kafka may take its time to answer, and nobody else waits for that.
        tokio::join!(served, published);
        engine.stop().await;
        if let Some(metrics) = metrics {
            metrics.stop().await;
        }
    };
    let limit = Duration::from_secs(config.http.drain_s).saturating_add(END_TIMEOUT);
    let drained = tokio::select! {
        drained = tokio::time::timeout(limit, drained) => {
            drained.map_err(|_| anyhow!("not everything ended within {} s", limit.as_secs()))
        }
        () = end.wait() => Err(anyhow!("asked to end a second time: ended without draining")),
    };
    tracing::info!("ended");
    outcome.and(drained)
}

/// Writes metrics out, those of `views` and of the `topic` as they are then.
fn render(gathered: PrometheusHandle, views: Option<Views>, topic: Option<(Database, Log, String)>) -> Render {
    Arc::new(move || {
        let (gathered, views, topic) = (gathered.clone(), views.clone(), topic.clone());
        Box::pin(async move {
            if let Some(views) = views {
                views.report().await;
            }
            if let Some((database, log, topic)) = topic {
                daybook_kafka::report(&database, &log, &topic).await;
            }
            gathered.render()
        })
    })
}

fn backend(engine: &Engine, config: &Config, readiness: Readiness) -> Backend {
    Backend {
        domain: engine.domain.clone(),
        dispatcher: engine.dispatcher.clone(),
        log: engine.log.clone(),
        views: engine.views.clone(),
        identity: engine.identity.clone(),
        keys: engine.keys.clone(),
        readiness,
        settings: config.http.clone(),
    }
}

/// With a name of this process that tells it from those on other hosts.
pub(crate) fn projectors_settings(config: &Config) -> daybook_views::Settings {
    let mut settings = config.projectors.clone();
    settings.process = on_this_host(settings.process);
    settings
}

/// The same for the relay.
fn relay_settings(config: &Config) -> Option<daybook_kafka::Settings> {
    let mut settings = config.relay.clone()?;
    settings.process = on_this_host(settings.process);
    Some(settings)
}

fn on_this_host(process: String) -> String {
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(host) => format!("{} {process}", host.trim()),
        Err(_) => process,
    }
}

/// Waits until a part that nothing goes on without ends, though it was not asked to; says which.
async fn part_lost(log: &Log, api: &mut Option<Running>, metrics: &mut Option<Running>) -> anyhow::Error {
    let (part, outcome) = tokio::select! {
        () = log.ended() => ("the appender", Ok(())),
        outcome = ended(api, Running::ended) => ("the server of the API", outcome),
        outcome = ended(metrics, Running::ended) => ("the server of the metrics", outcome),
    };
    lost(part, outcome)
}

/// Starts a part anew whenever it ends by itself, by `again`, and waits longer each time: what it ended of is a mistake in the
/// program, and is there again. Where it is not to be started again, says why it ended.
async fn part_ended<P>(
    name: &'static str,
    part: &mut Option<P>,
    ended: impl AsyncFn(&mut P) -> Result<(), JoinError>,
    again: Option<impl Fn() -> P>,
) -> anyhow::Error {
    let mut pause = RESTART_MIN;
    loop {
        let started = Instant::now();
        let lost = lost(&format!("the {name}"), self::ended(part, &ended).await);
        // What is left of it is told to end before another one begins.
        *part = None;
        metrics::counter!("daybook_part_ended_total", "part" => name).increment(1);
        if started.elapsed() > RESTART_MAX {
            pause = RESTART_MIN;
        }
        let Some(again) = &again else { return lost };
        tracing::error!(error = %format_args!("{lost:#}"), pause_s = pause.as_secs_f64(), "it is started again");
        sleep(pause).await;
        *part = Some(again());
        pause = (pause * 2).min(RESTART_MAX);
    }
}

fn lost(part: &str, outcome: anyhow::Result<()>) -> anyhow::Error {
    match outcome {
        Ok(()) => anyhow!("{part} ended by itself"),
        Err(error) => error.context(format!("{part} ended by itself")),
    }
}

/// Waits until a part ends; for ever where this process has none.
async fn ended<P, E: Into<anyhow::Error>>(
    part: &mut Option<P>,
    ended: impl AsyncFnOnce(&mut P) -> Result<(), E>,
) -> anyhow::Result<()> {
    match part {
        Some(part) => ended(part).await.map_err(Into::into),
        None => pending().await,
    }
}

fn bind(address: &str, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; choose another with `--{}`", setting.replace('_', "-"))
    })
}

/// Ctrl-C and SIGTERM.
struct EndSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl EndSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that panics as soon as it works.
    async fn panics((): &mut ()) -> Result<(), JoinError> {
        tokio::spawn(async { panic!("a mistake in the program") }).await
    }

    #[tokio::test]
    async fn a_part_that_ended_is_started_again_where_others_go_on() {
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let again = move || started.send(()).expect("somebody waits for it");
        let (mut kept, mut alone) = (Some(()), Some(()));
        tokio::select! {
            lost = part_ended("part", &mut kept, panics, Some(again)) => panic!("{lost:#}"),
            () = async { for _ in 0..2 { starts.recv().await.expect("it is started"); } } => {}
        }
        let lost = part_ended("part", &mut alone, panics, None::<fn()>).await;
        let lost = format!("{lost:#}");
        assert!(lost.contains("the part ended by itself") && lost.contains("a mistake in the program"), "{lost}");
    }
}
