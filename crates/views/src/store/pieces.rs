//! Documents on their way from a rebuild's memory into the database.

use daybook_core::{Changed, GivenAway, Misshapen};
use tokio::sync::{Mutex, mpsc};

/// The most documents of a piece, and about how many bytes their bodies take at most.
const DOCUMENTS: usize = 5_000;
const BYTES: usize = 1 << 20;

/// Documents, encoded by a thread of its own ahead of whoever writes them, be it one or more. Never more than a few
/// pieces are there twice, as they are in memory and as they are stored.
pub(crate) struct Pieces(Mutex<mpsc::Receiver<Piece>>);

/// `None` behind the last one. That is said: whatever encodes may also come to grief.
type Piece = Result<Option<Vec<Changed>>, Misshapen>;

impl Pieces {
    pub(crate) fn of(documents: GivenAway) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let mut documents = documents.peekable();
            while documents.peek().is_some() {
                // It may be that nobody asks any more.
                if sender.blocking_send(piece(&mut documents).map(Some)).is_err() {
                    return;
                }
            }
            // To each that may ask.
            while sender.blocking_send(Ok(None)).is_ok() {}
        });
        Self(Mutex::new(pieces))
    }

    /// The next one; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// When a document has no JSON form.
    pub(crate) async fn next(&self) -> Result<Option<Vec<Changed>>, sqlx::Error> {
        let piece = self.0.lock().await.recv().await.ok_or(sqlx::Error::WorkerCrashed)?;
        piece.map_err(|error| sqlx::Error::Encode(Box::new(error)))
    }
}

fn piece(documents: &mut impl Iterator<Item = Result<Changed, Misshapen>>) -> Result<Vec<Changed>, Misshapen> {
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for document in documents {
        let document = document?;
        bytes += document.body.as_ref().map_or(0, String::len);
        piece.push(document);
        if piece.len() >= DOCUMENTS || bytes >= BYTES {
            break;
        }
    }
    Ok(piece)
}
