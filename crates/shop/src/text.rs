//! Texts that people write.

/// Refuses a text with nothing visible in it, and one of several lines. For `#[garde(custom(one_line))]`.
pub(crate) fn one_line(text: &str, (): &()) -> garde::Result {
    if text.trim().is_empty() {
        Err(garde::Error::new("is blank"))
    } else if text.chars().any(char::is_control) {
        Err(garde::Error::new("holds a line break or another control character"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_something_in_it_and_does_not_break() {
        for text in ["a", " a ", "Grüner Tee, 250 g", "茶"] {
            assert!(one_line(text, &()).is_ok(), "{text:?}");
        }
        for text in ["", " ", "\u{a0}", "a\nb", "a\tb", "\u{7f}"] {
            assert!(one_line(text, &()).is_err(), "{text:?}");
        }
    }
}
