//! What a process has used so far, as Linux tells it in /proc.

use std::{fs, io, time::Duration};

/// Clock ticks a second in /proc (`USER_HZ`, 100 on every Linux that Rust runs on).
const TICKS: u64 = 100;

/// The processor time of all threads, those that have ended included.
pub(crate) fn cpu(process: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or(io::ErrorKind::InvalidData)?;
    let fields = fields.split(' ').collect::<Vec<_>>();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    // utime and stime, fields 14 and 15 of proc(5); the first of these is field 3.
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(Duration::from_millis((user + system) * 1000 / TICKS))
}

/// Resident memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Now, in MB of 10^6 bytes.
    pub(crate) now: f64,
    /// The most since [`forget_peak`].
    pub(crate) peak: f64,
}

/// How much memory a process has.
pub(crate) fn memory(process: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
        kib.map(|kib| kib * 1024.0 / 1e6).ok_or(io::ErrorKind::InvalidData)
    };
    Ok(Memory { now: value("VmRSS:")?, peak: value("VmHWM:")? })
}

/// Begins a new peak.
pub(crate) fn forget_peak(process: u32) -> io::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5")
}
