//! `daybook status`

use daybook_core::Domain;
use daybook_log::Log;
use daybook_views::Views;
use serde_json::json;

use crate::config::Config;
use crate::engine::Databases;
use crate::terminal;

/// Prints how far the log and each projection are.
pub(crate) async fn status(domain: Domain, config: &Config, as_json: bool) -> anyhow::Result<()> {
    let databases = Databases::open(config).await?;
    let log = Log::open(databases.log.clone(), config.appends.clone()).await?;
    let projections = domain.projections.into_values().collect();
    let views = Views::open(databases.views.clone(), log.clone(), domain.events, projections)?;
    let head = log.head().await?;
    let projections = views.status().await?;
    log.close().await;
    databases.close().await;
    if as_json {
        let projections: Vec<_> = projections
            .iter()
            .map(|one| {
                json!({
                    "name": one.name, "version": one.version, "position": one.position,
                    "lag_events": one.lag_events, "lag_seconds": one.lag_seconds, "owners": one.owners,
                    "stopped": one.stopped,
                })
            })
            .collect();
        return terminal::json(&json!({
            "log": {"id": head.log_id, "epoch": head.epoch, "position": head.position, "at": config.log.to_string()},
            "projections": projections,
        }));
    }
    terminal::line(format_args!("log          {}", config.log))?;
    terminal::line(format_args!("  id         {}", head.log_id))?;
    terminal::line(format_args!("  epoch      {}", head.epoch))?;
    terminal::line(format_args!("  position   {}", head.position))?;
    terminal::line("projections")?;
    for one in projections {
        let state = match (&one.stopped, one.owners.len()) {
            (Some(stopped), _) => format!("stopped at {}: {}", stopped.position, stopped.reason),
            (None, 1..) => "running".to_owned(),
            (None, 0) => "nobody runs it".to_owned(),
        };
        terminal::line(format_args!(
            "  {:10} version {}  position {}  lag {} events, {:.1} s  {state}",
            one.name, one.version, one.position, one.lag_events, one.lag_seconds,
        ))?;
    }
    Ok(())
}
