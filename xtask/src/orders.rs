//! What whoever sits at the terminal wants done while something runs.

use std::io::BufRead;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The lines that are typed, one after the other.
pub(crate) struct Orders(UnboundedReceiver<String>);

impl Orders {
    /// Listens to the standard input.
    pub(crate) fn listen() -> Self {
        let (sender, receiver) = unbounded_channel();
        // A thread that waits for a line cannot be woken; it ends with the process.
        std::thread::spawn(move || {
            std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self(receiver)
    }

    /// The words of the next line; waits for ever when there is nobody to type one.
    pub(crate) async fn next(&mut self) -> Vec<String> {
        match self.0.recv().await {
            Some(line) => line.split_whitespace().map(str::to_owned).collect(),
            None => std::future::pending().await,
        }
    }
}
