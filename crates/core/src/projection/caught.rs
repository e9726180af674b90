//! Running a projection's code, whatever it does.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether what runs on this thread is caught when it panics.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// Where it panicked.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a projection's code. It is pure, so that its panic leaves nothing half-done behind; what it worked on has to be given up.
///
/// # Errors
///
/// When it panics: with the message, and where that was in the code. Whoever is told has to pass it on, since nothing is
/// printed.
pub fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| match IS_CAUGHT.get() {
            true => note(panic),
            false => before(panic),
        }));
    });
    let is_within = IS_CAUGHT.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(code));
    IS_CAUGHT.set(is_within);
    outcome.map_err(|panic| {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let place = PLACE.take().map(|place| format!(", at {place}")).unwrap_or_default();
        format!("the projection panicked: {}{place}", message.unwrap_or("no message"))
    })
}

/// Remembers where a panic was: only the hook is told.
fn note(panic: &PanicHookInfo<'_>) {
    PLACE.set(panic.location().map(|location| format!("{}:{}", location.file(), location.line())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        assert_eq!(caught(|| 7), Ok(7));
        let line = line!() + 1;
        let told = caught(|| panic!("no {}", "more"));
        assert_eq!(told, Err::<(), _>(format!("the projection panicked: no more, at {}:{line}", file!())));
        assert_eq!(caught(|| caught::<()>(|| panic!("within")).is_err()), Ok(true));
        // What is not caught here is printed as ever, and leaves no place behind.
        assert!(catch_unwind(|| panic!("elsewhere")).is_err());
        assert_eq!(PLACE.take(), None);
    }
}
