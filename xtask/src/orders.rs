//! What whoever sits at the terminal has done to servers.

use std::convert::Infallible;
use std::io::BufRead;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::server::Server;

/// How often to look whether a server has ended.
const POLL: Duration = Duration::from_millis(100);

/// What can be typed.
pub(crate) const HELP: &str =
    "Until Ctrl-C, which removes everything, a line may say: stop, kill or start, and the name of one.";

/// Watches servers, and does to them what is typed. What goes wrong is said, and nothing else comes of it.
pub(crate) async fn obey(servers: &mut [&mut Server]) -> Infallible {
    let mut lines = listen();
    let mut look = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            line = next(&mut lines) => match obey_one(servers, &line).await {
                Ok(said) => println!("{said}"),
                Err(error) => println!("{error:#}"),
            },
            _ = look.tick() => for server in servers.iter_mut() {
                if let Err(error) = server.check() {
                    println!("{error:#}");
                }
            }
        }
    }
}

async fn obey_one(servers: &mut [&mut Server], line: &str) -> anyhow::Result<String> {
    let (act, name) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let is_meant = |server: &&mut &mut Server| server.name().eq_ignore_ascii_case(name.trim());
    let names: Vec<_> = servers.iter().map(|server| server.name().to_owned()).collect();
    let Some(server) = servers.iter_mut().find(is_meant) else {
        return Ok(format!("{HELP}\nThere are: {}.", names.join(", ")));
    };
    match act {
        "stop" => server.stop(),
        "kill" => server.kill(),
        "start" => server.start().await?,
        _ => return Ok(HELP.to_owned()),
    }
    Ok(match server.process_id() {
        None => format!("{} has ended.", server.name()),
        Some(id) => format!("{} is ready: process {id}.", server.name()),
    })
}

/// The lines of the standard input.
fn listen() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    // A thread that waits for a line cannot be woken; it ends with the process.
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

/// The next line; for ever when there is nobody to type one.
async fn next(lines: &mut UnboundedReceiver<String>) -> String {
    match lines.recv().await {
        Some(line) => line,
        None => std::future::pending().await,
    }
}
