//! The programs that are measured, or measure.

use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;

use crate::bench::plan::Pace;
use crate::{build, child};

/// Our binaries, optimized.
#[derive(Debug)]
pub(crate) struct Programs {
    bench: PathBuf,
}

impl Programs {
    /// Builds them.
    pub(crate) async fn build(profile: &str) -> anyhow::Result<Self> {
        Ok(Self { bench: build::binary("daybook-bench", profile).await? })
    }

    /// A measurement by our own binary.
    pub(crate) fn measurement(&self, verb: &str, pace: Pace) -> Command {
        let mut command = Command::new(&self.bench);
        command.arg(verb);
        command.args(["--warm-up", &pace.warm_up_s.to_string(), "--seconds", &pace.seconds.to_string()]);
        command
    }
}

/// Runs a measurement, and answers what it printed.
pub(crate) async fn measure(command: &mut Command) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&child::read(command).await?)?)
}
