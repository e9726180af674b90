//! What Linux says of a process.

/// A size out of `/proc/<id>/status` (`VmHWM`: the most memory that it has had; `VmRSS`: what it has) in MiB. Ourselves
/// without an id; `None` where there is no `/proc`.
pub(crate) fn memory_mib(id: Option<u32>, field: &str) -> Option<f64> {
    size_mib(&std::fs::read_to_string(path(id, "status")).ok()?, field)
}

/// How long a process has computed, in seconds; ourselves without an id.
pub(crate) fn cpu_s(id: Option<u32>) -> Option<f64> {
    /// Linux counts a hundred a second, whatever the kernel's own clock.
    const TICKS_PER_S: f64 = 100.0;
    Some(cpu_ticks(&std::fs::read_to_string(path(id, "stat")).ok()?)? / TICKS_PER_S)
}

fn path(id: Option<u32>, file: &str) -> String {
    let id = id.map_or_else(|| "self".to_owned(), |id| id.to_string());
    format!("/proc/{id}/{file}")
}

fn size_mib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1_024.0)
}

/// The fields behind the program's name, which may hold anything: the 12th and 13th are the time of the program and
/// of the kernel for it.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_linux_prints() {
        let status = "Name:\tx\nVmPeak:\t    9 kB\nVmHWM:\t    2048 kB\n";
        assert_eq!(size_mib(status, "VmHWM"), Some(2.0));
        assert_eq!(size_mib(status, "VmRSS"), None);
    }

    #[test]
    fn time_is_read_from_what_linux_prints() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 95 0 0 0 250 50 0 0 20 0 1 0 100 3000 90 0 0";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }
}
