//! Logs and metrics of the process.

mod json_lines;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use self::json_lines::JsonLines;
use crate::config::LogFormat;

/// Starts to log to standard error.
pub(crate) fn start_logging(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{level},actix_server=warn,sqlx=warn"))
        .with_context(|| format!("`log_level` cannot be `{level}`"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let text = match format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    if text {
        lines.with_ansi(std::io::stderr().is_terminal()).init();
    } else {
        lines.event_format(JsonLines).init();
    }
    Ok(())
}

/// Buckets of durations, in seconds: from a flush to a time-out.
const SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Buckets of counts: powers of two.
const COUNTS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// How often samples are put into their buckets, so that they do not pile up when nobody asks for them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts to gather metrics; what is returned writes them out. To be called in the runtime.
pub(crate) fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".into()), &COUNTS)?
        .install_recorder()?;
    let kept = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            kept.run_upkeep();
        }
    });
    Ok(handle)
}
