//! `serve` and `demo`: start, serve, drain, end.

use std::net::TcpListener;

use anyhow::{Context, bail};
use daybook_core::Domain;
use daybook_http::{Backend, Readiness};
use daybook_views::Projectors;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Role};
use crate::engine::{Databases, Engine};
use crate::{demo, telemetry, terminal};

/// What to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What is there.
    Plain,
    /// A shop with some history.
    Demo,
}

/// Serves until the process is asked to end.
pub(crate) async fn serve(domain: Domain, config: Config, kind: Kind) -> anyhow::Result<()> {
    let mut end = EndSignals::listen()?;
    if kind == Kind::Demo && config.roles != [Role::Api, Role::Projector] {
        bail!("`demo` does everything in one process; `serve --roles …` splits it");
    }
    let listener = match config.roles.contains(&Role::Api) {
        true => Some(bind(&config.listen, "listen")?),
        false => None,
    };
    let render = telemetry::start_metrics()?;
    let metrics = match &config.metrics_listen {
        Some(address) => Some(daybook_http::metrics::serve(bind(address, "metrics_listen")?, render)?),
        None => None,
    };

    let databases = Databases::create(&config).await?;
    if config.migrate_on_start {
        databases.migrate().await?;
    } else {
        databases.check_migrated().await?;
    }
    let engine = Engine::start(domain, &config, databases).await?;
    let projectors = match config.roles.contains(&Role::Projector) {
        true => Some(Projectors::start(&engine.views, daybook_views::Settings::default())),
        false => None,
    };

    let metrics = match metrics {
        Some((server, handle, address)) => {
            terminal::line(format_args!("metrics on http://{address}/metrics"))?;
            tokio::spawn(server);
            Some(handle)
        }
        None => None,
    };
    let readiness = Readiness::default();
    let api = match listener {
        Some(listener) => Some(start_api(&engine, &config, readiness.clone(), listener)?),
        None => None,
    };

    let started = async {
        if let (Kind::Demo, Some((_, base_url))) = (kind, &api) {
            demo::prepare(&engine, &config, base_url).await?;
        }
        readiness.set(true);
        tracing::info!("ready");
        if let (Kind::Demo, Some((_, base_url))) = (kind, &api) {
            demo::welcome(&engine, &config, base_url)?;
        }
        anyhow::Ok(())
    };
    let outcome = tokio::select! {
        outcome = started => match outcome {
            Ok(()) => {
                end.wait().await;
                Ok(())
            }
            failed => failed,
        },
        () = end.wait() => Ok(()),
    };

    readiness.set(false);
    tracing::info!("draining");
    let drained = async {
        if let Some((handle, _)) = api {
            handle.stop(true).await;
        }
        if let Some(projectors) = projectors {
            projectors.stop().await;
        }
        engine.stop().await;
        if let Some(metrics) = metrics {
            metrics.stop(false).await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = end.wait() => bail!("asked to end a second time: ended without draining"),
    }
    tracing::info!("ended");
    outcome
}

fn start_api(
    engine: &Engine,
    config: &Config,
    readiness: Readiness,
    listener: TcpListener,
) -> anyhow::Result<(actix_web::dev::ServerHandle, String)> {
    let backend = Backend {
        domain: engine.domain.clone(),
        dispatcher: engine.dispatcher.clone(),
        log: engine.log.clone(),
        views: engine.views.clone(),
        identity: engine.identity.clone(),
        digests: engine.digests.clone(),
        readiness,
        settings: config.http.clone(),
    };
    let running = daybook_http::start(backend, listener)?;
    let base_url = format!("http://{}", running.address);
    terminal::line(format_args!("listening on {base_url}"))?;
    tokio::spawn(running.server);
    Ok((running.handle, base_url))
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
