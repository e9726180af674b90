//! What the operating system says of a process.

/// The most memory that this process has had, in MiB; `None` where there is no `/proc`.
pub(crate) fn peak_mib() -> Option<f64> {
    field_mib(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// A field of `/proc/<id>/status`, which is in KiB.
fn field_mib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::field_mib;

    #[test]
    fn memory_is_read_from_what_linux_prints() {
        let status = "Name:\tx\nVmPeak:\t    9 kB\nVmHWM:\t    2048 kB\n";
        assert_eq!(field_mib(status, "VmHWM"), Some(2.0));
        assert_eq!(field_mib(status, "VmRSS"), None);
    }
}
