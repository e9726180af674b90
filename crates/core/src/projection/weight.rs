//! What a document takes in memory.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// What a text or a list takes beside what is in it, with what an allocator adds.
const HEADER: [u8; 40] = [0; 40];
/// What a number, a name or a place in a list takes at least.
const WORD: [u8; 8] = [0; 8];

/// How many bytes a document takes, more or less: it is written down with each of its parts as long as in memory.
pub(super) fn weight<V: Serialize>(view: &V) -> serde_json::Result<usize> {
    let mut serializer = Serializer::with_formatter(Count(0), AsInMemory { is_name: false });
    view.serialize(&mut serializer)?;
    Ok(serializer.into_inner().0)
}

struct AsInMemory {
    /// Whether a name is being written: those of fields are nowhere in memory, those of maps are.
    is_name: bool,
}

impl Formatter for AsInMemory {
    fn begin_string<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.is_name { &WORD } else { &HEADER })
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(&HEADER)
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, _first: bool) -> io::Result<()> {
        writer.write_all(&WORD)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, _first: bool) -> io::Result<()> {
        self.is_name = true;
        writer.write_all(&WORD)
    }

    fn end_object_key<W: Write + ?Sized>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.is_name = false;
        Ok(())
    }
}

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_parts_weigh_more_than_their_json() {
        let texts = vec!["a".to_owned(); 100];
        let weight = weight(&texts).expect("JSON");
        // A `String` of 24 bytes and an allocation of 16 for each.
        assert!((4_000..6_000).contains(&weight), "{weight}");
    }

    #[test]
    fn a_long_text_weighs_what_it_is_long() {
        let weight = weight(&"a".repeat(10_000)).expect("JSON");
        assert!((10_000..10_100).contains(&weight), "{weight}");
    }
}
