//! Which JSON the log takes: what can be stored on both databases, read back by this program, looked into by SQL,
//! and written on one line.

use memchr::{memchr2_iter, memchr3};
use serde_json::value::RawValue;

/// The most arrays and objects inside each other. Parsers stop at 128, and an event is shown inside others.
const DEPTH_MAX: usize = 100;

/// Checks a JSON text; the reason when the log does not take it.
pub(crate) fn check(text: &str) -> Result<(), &'static str> {
    let value: &RawValue = serde_json::from_str(text).map_err(|_| "is no valid JSON")?;
    if value.get().len() < text.len() {
        return Err("has white space around it");
    }
    check_valid(text)
}

/// As [`check`], for a text that is known to be JSON on one line, since it was just written here.
pub(crate) fn check_valid(text: &str) -> Result<(), &'static str> {
    if daybook_core::holds_fresh(text) {
        return Err("holds a personal value that is not sealed");
    }
    // Most texts have no escapes, and are not deep however their brackets lie.
    if memchr3(b'\\', b'\n', b'\r', text.as_bytes()).is_none()
        && memchr2_iter(b'{', b'[', text.as_bytes()).count() <= DEPTH_MAX
    {
        return Ok(());
    }
    // A backslash stands in a string, with its escape behind it.
    let (mut depth, mut in_string, mut at) = (0_usize, false, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'\\' if text[at..].starts_with("\\u") => at += check_escape(&text[at..])? - 1,
            b'\\' => at += 1,
            b'"' => in_string = !in_string,
            b'\n' | b'\r' => return Err("spans several lines"),
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err("is nested too deeply");
        }
        at += 1;
    }
    Ok(())
}

/// Checks the `\uXXXX` that `text` begins with; a surrogate must be followed by its other half. How many bytes the
/// character takes.
fn check_escape(text: &str) -> Result<usize, &'static str> {
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u").and_then(|rest| rest.get(..4));
        digits.and_then(|digits| u16::from_str_radix(digits, 16).ok())
    };
    match unit(text) {
        Some(0) => Err("holds the character U+0000"),
        Some(0xd800..=0xdbff) if matches!(text.get(6..).and_then(unit), Some(0xdc00..=0xdfff)) => Ok(12),
        Some(0xd800..=0xdfff) => Err("holds half of a surrogate pair"),
        _ => Ok(6),
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::Personal;

    use super::*;

    #[test]
    fn json_is_taken_whatever_its_spacing_and_order() {
        for text in [
            "{}",
            "null",
            r#"{ "b" :1e2,  "a": [ "ä\u00e4\ud83d\ude00\\u0000 {[" ] }"#,
            r#""\"\\\n""#,
            &format!("{}{}", "[".repeat(100), "]".repeat(100)),
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_could_not_be_stored_or_read_everywhere_is_refused() {
        for (text, reason) in [
            ("", "is no valid JSON"),
            ("{", "is no valid JSON"),
            ("{} {}", "is no valid JSON"),
            ("\"a\0\"", "is no valid JSON"),
            ("\"a\nb\"", "is no valid JSON"),
            (" {}", "has white space around it"),
            ("{}\n", "has white space around it"),
            ("{\n}", "spans several lines"),
            (
                &serde_json::to_string(&Personal::new("account-1", 1)).expect("JSON"),
                "holds a personal value that is not sealed",
            ),
            (r#""\u0000""#, "holds the character U+0000"),
            (r#"{"a\\\u0000": 1}"#, "holds the character U+0000"),
            (r#""\ud800""#, "holds half of a surrogate pair"),
            (r#""\ud800\u0041""#, "holds half of a surrogate pair"),
            (r#""\udc00""#, "holds half of a surrogate pair"),
            (&format!("{}{}", "[".repeat(101), "]".repeat(101)), "is nested too deeply"),
            (&"[".repeat(10_000), "is no valid JSON"),
        ] {
            assert_eq!(check(text), Err(reason), "{text}");
        }
    }
}
