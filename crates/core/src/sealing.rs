//! Personal fields in JSON, from fresh to sealed and from sealed to open: text to text, with the cipher passed in.
//!
//! A sealed field is `{"subject":"account-018f…","of":"018f…/email","sealed":"…"}`: whose it is, which event (or
//! command) and which field of it the value came in with, and the ciphertext. Only that object is replaced; the rest of
//! the text stays as it is, to the byte.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What a fresh field begins with. The space makes it unmistakable: nothing else that is serialised here has white
/// space outside of its texts, and within a text there is no quote without a backslash. So no value that came from
/// outside is ever taken for one.
const FRESH: &str = r#"{ "subject":"#;

/// What a fresh field ends with: half of a character. JSON can say it, and nobody can make a text of it; so whoever takes
/// a field apart to write it anew in another form, as a `serde_json::Value` does, fails rather than losing how it begins.
const FRESH_END: &str = r#","fresh":"\ud800"}"#;

/// Whose value it is, and where it comes from. A ciphertext is bound to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The person.
    pub subject: &'a str,
    /// The id of the event (of the command, in metadata), a slash, and where the field stands in it: a JSON pointer
    /// (RFC 6901) without its first slash.
    pub of: &'a str,
}

impl Origin<'_> {
    /// The additional data that the ciphertext is authenticated with: the length of the subject, as four bytes with the
    /// highest first; the subject; and `of`.
    pub fn aad(&self) -> Vec<u8> {
        let length = u32::try_from(self.subject.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), self.subject.as_bytes(), self.of.as_bytes()].concat()
    }
}

/// Seals the JSON of one value; `None` when the subject's key is not at hand.
pub type SealField<'a> = &'a mut dyn FnMut(Origin<'_>, &str) -> Option<String>;

/// What became of sealing.
#[derive(Debug)]
pub enum Sealing<T> {
    /// Everything personal in it is sealed.
    Sealed(T),
    /// The keys of these subjects are not at hand. What is left to seal, for when they are.
    Missing(T, Vec<String>),
}

/// What becomes of a sealed field at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The JSON of the value.
    Value(String),
    /// It stays sealed: `{"sealed": true}`.
    Sealed,
    /// Its subject was forgotten: `{"erased": true}`.
    Erased,
}

/// The stored form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedField<'a> {
    #[serde(borrow)]
    pub(crate) subject: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) of: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) sealed: Cow<'a, str>,
}

/// The form until then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FreshField<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    personal: &'a RawValue,
    #[serde(rename = "fresh")]
    _fresh: IgnoredAny,
}

/// The form of a fresh field.
pub(crate) fn fresh_json(subject: &str, value: &impl Serialize) -> Result<String, serde_json::Error> {
    let (subject, value) = (serde_json::to_string(subject)?, serde_json::to_string(value)?);
    Ok([FRESH, &subject, r#","personal":"#, &value, FRESH_END].concat())
}

/// Whether a text holds a fresh field. Such a text must not be stored.
pub fn holds_fresh(json: &str) -> bool {
    json.contains(FRESH)
}

/// Replaces every fresh field by its value: for what is shown to whom it came from, and stored nowhere.
pub fn show_fresh(json: &str) -> String {
    let (mut out, mut done) = (String::with_capacity(json.len()), 0);
    while let Some(found) = json[done..].find(FRESH) {
        let start = done + found;
        out.push_str(&json[done..start]);
        done = match first_value::<FreshField<'_>>(&json[start..]) {
            Some((field, length)) => {
                out.push_str(field.personal.get());
                start + length
            }
            // Not one of ours.
            None => {
                out.push('{');
                start + 1
            }
        };
    }
    out + &json[done..]
}

/// Seals the fresh fields of a payload. `origin` is the event's id.
pub fn seal_fields(json: String, origin: Uuid, seal: SealField<'_>) -> Sealing<String> {
    if !holds_fresh(&json) {
        return Sealing::Sealed(json);
    }
    let mut out = String::with_capacity(json.len() + 256);
    let (mut place, mut missing, mut done) = (Place::default(), Vec::new(), 0);
    while let Some(found) = json[done..].find(FRESH) {
        let start = done + found;
        place.advance(&json[done..start]);
        out.push_str(&json[done..start]);
        let of = format!("{origin}/{}", place.pointer());
        done = match first_value::<FreshField<'_>>(&json[start..]) {
            Some((field, length)) => {
                match seal(Origin { subject: &field.subject, of: &of }, field.personal.get()) {
                    Some(sealed) => {
                        let field = SealedField { subject: field.subject, of: of.into(), sealed: sealed.into() };
                        // Three texts have a JSON form.
                        out.push_str(&serde_json::to_string(&field).unwrap_or_default());
                    }
                    None => {
                        out.push_str(&json[start..start + length]);
                        missing.push(field.subject.into_owned());
                    }
                }
                start + length
            }
            // Not one of ours: it stays, and the log refuses it.
            None => {
                place.advance("{");
                out.push('{');
                start + 1
            }
        };
    }
    out.push_str(&json[done..]);
    if missing.is_empty() { Sealing::Sealed(out) } else { Sealing::Missing(out, missing) }
}

/// The subjects of the sealed fields in a text, in their order; one may be there several times.
pub fn sealed_subjects(json: &str) -> impl Iterator<Item = Cow<'_, str>> {
    sealed_fields(json).map(|(_, field)| field.subject)
}

/// Replaces every sealed field by what `open` makes of its origin and its ciphertext; `None` when there is none.
pub fn open_fields(json: &str, open: &mut dyn FnMut(Origin<'_>, &str) -> Opened) -> Option<String> {
    let (mut out, mut done) = (String::new(), 0);
    for (range, field) in sealed_fields(json) {
        out.push_str(&json[done..range.start]);
        match open(Origin { subject: &field.subject, of: &field.of }, &field.sealed) {
            Opened::Value(value) => out.push_str(&value),
            Opened::Sealed => out.push_str(r#"{"sealed":true}"#),
            Opened::Erased => out.push_str(r#"{"erased":true}"#),
        }
        done = range.end;
    }
    (done > 0).then(|| out + &json[done..])
}

/// The sealed fields of a text and where they stand. Their keys may come in any order and with any white space:
/// databases keep JSON in forms of their own.
fn sealed_fields(json: &str) -> impl Iterator<Item = (Range<usize>, SealedField<'_>)> {
    // Most texts hold none.
    let mut at = if json.contains(r#""sealed""#) { 0 } else { json.len() };
    std::iter::from_fn(move || {
        while let Some(byte) = json.as_bytes().get(at) {
            match byte {
                b'"' => at = string_end(json, at),
                b'{' => {
                    let start = at;
                    at += 1;
                    let first = json[at..].trim_start();
                    let may_be =
                        [r#""subject""#, r#""of""#, r#""sealed""#].iter().any(|key| first.starts_with(key));
                    if may_be && let Some((field, length)) = first_value::<SealedField<'_>>(&json[start..]) {
                        at = start + length;
                        return Some((start..at, field));
                    }
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// The value that a text begins with, and how many bytes it takes.
fn first_value<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// Where the text that begins at the quote at `start` ends.
fn string_end(json: &str, start: usize) -> usize {
    let bytes = json.as_bytes();
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where one is while reading through a JSON text.
#[derive(Default)]
struct Place<'a>(Vec<Step<'a>>);

enum Step<'a> {
    /// At this key of an object, as it is written.
    Key(&'a str),
    /// At this item of an array.
    Item(usize),
}

impl<'a> Place<'a> {
    /// Goes on over the next piece of the text, which ends between two values.
    fn advance(&mut self, piece: &'a str) {
        let mut at = 0;
        while let Some(byte) = piece.as_bytes().get(at) {
            match byte {
                b'"' => {
                    let end = string_end(piece, at);
                    if piece[end..].trim_start().starts_with(':')
                        && let Some(Step::Key(key)) = self.0.last_mut()
                    {
                        *key = piece.get(at + 1..end - 1).unwrap_or_default();
                    }
                    at = end;
                    continue;
                }
                b'{' => self.0.push(Step::Key("")),
                b'[' => self.0.push(Step::Item(0)),
                b'}' | b']' => drop(self.0.pop()),
                b',' => {
                    if let Some(Step::Item(item)) = self.0.last_mut() {
                        *item += 1;
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn pointer(&self) -> String {
        let step = |step: &Step<'_>| match step {
            Step::Key(key) if key.contains(['~', '/']) => key.replace('~', "~0").replace('/', "~1"),
            Step::Key(key) => (*key).to_owned(),
            Step::Item(item) => item.to_string(),
        };
        self.0.iter().map(step).collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
mod tests;
