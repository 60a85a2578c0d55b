//! Who used the processor: read from /proc, so on Linux only; elsewhere all of it reads as zero.

use std::path::Path;

use anyhow::Result;

/// Name of the service's threads.
pub const SERVICE: &str = "service";
/// Name of the load's threads.
pub const LOAD: &str = "load";
/// Name of the notifier's threads.
pub const NOTIFIER: &str = "notifier";
/// Name of the threads of those who abuse the service.
pub const ABUSE: &str = "abuse";
/// Name of the threads that take webhooks and telemetry.
pub const SINK: &str = "sink";

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The service's threads.
    pub service: f64,
    /// The load's threads.
    pub load: f64,
    /// The notifier's threads.
    pub notifier: f64,
    /// The threads of who takes webhooks and telemetry.
    pub sink: f64,
    /// The threads of those who abuse the service.
    pub abuse: f64,
    /// Postgres, all of its processes.
    pub postgres: f64,
    /// pgbench.
    pub pgbench: f64,
    /// All of the machine.
    pub busy: f64,
    /// All that the machine had to give.
    pub total: f64,
}

impl Usage {
    /// Since the processes began.
    pub fn now(postgres: i32) -> Result<Self> {
        if !Path::new("/proc/self/task").exists() {
            return Ok(Self::default());
        }
        let own_id = std::process::id().cast_signed();
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        let mut usage = Self::default();
        for thread in stats("/proc/self/task")? {
            let group = match thread.name.as_str() {
                name if name.starts_with(SERVICE) => &mut usage.service,
                name if name.starts_with(NOTIFIER) => &mut usage.notifier,
                name if name.starts_with(SINK) => &mut usage.sink,
                name if name.starts_with(ABUSE) => &mut usage.abuse,
                _ => &mut usage.load,
            };
            *group += thread.own * tick;
        }
        for process in stats("/proc")? {
            if process.id == postgres {
                usage.postgres += (process.own + process.children) * tick;
            } else if process.parent == postgres {
                usage.postgres += process.own * tick;
            } else if process.id == own_id {
                usage.pgbench = process.children * tick;
            }
        }
        let machine = std::fs::read_to_string("/proc/stat")?;
        let times = machine.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
        for (index, time) in times.enumerate() {
            let time: f64 = time.parse()?;
            usage.total += time * tick;
            // The fourth is idle, the fifth waits for disks.
            if index != 3 && index != 4 {
                usage.busy += time * tick;
            }
        }
        Ok(usage)
    }

    /// What came since then.
    pub fn since(&self, then: &Self) -> Self {
        Self {
            service: self.service - then.service,
            load: self.load - then.load,
            notifier: self.notifier - then.notifier,
            sink: self.sink - then.sink,
            abuse: self.abuse - then.abuse,
            postgres: self.postgres - then.postgres,
            pgbench: self.pgbench - then.pgbench,
            busy: self.busy - then.busy,
            total: self.total - then.total,
        }
    }

    /// What the measurement itself used.
    pub fn ours(&self) -> f64 {
        self.service + self.load + self.notifier + self.sink + self.abuse + self.postgres + self.pgbench
    }

    /// The share of the machine that other programs took.
    pub fn others(&self) -> f64 {
        if self.total > 0.0 { ((self.busy - self.ours()) / self.total).max(0.0) } else { 0.0 }
    }

    /// The share of the machine that was used. The kernel counts short bursts of work as idle, so that the whole may be
    /// less than its parts.
    pub fn load_factor(&self) -> f64 {
        if self.total > 0.0 { self.busy.max(self.ours()) / self.total } else { 0.0 }
    }
}

/// Seconds of processor time that a process has used so far.
pub fn of_process(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat(&text).map_or(0.0, |process| process.own / rustix::param::clock_ticks_per_second() as f64)
}

/// What the kernel says of the memory of a process, `VmRSS` or `VmHWM`.
pub fn memory_bytes(id: u32, what: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0)
}

/// A process or a thread; times in ticks.
struct Stat {
    id: i32,
    parent: i32,
    name: String,
    own: f64,
    children: f64,
}

fn stats(folder: &str) -> Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        // What has ended meanwhile is no loss.
        if let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) {
            found.extend(stat(&text));
        }
    }
    Ok(found)
}

/// `12 (a name) S 1 …`: the name may hold anything.
fn stat(text: &str) -> Option<Stat> {
    let (id, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Stat {
        id: id.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        name: name.to_owned(),
        own: ticks(11)? + ticks(12)?,
        children: ticks(13)? + ticks(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_parentheses() {
        let stat = stat("7 (a (b) c) S 3 7 7 0 -1 4194304 1 0 0 0 10 20 30 40 20 0").unwrap();
        assert_eq!((stat.id, stat.parent, stat.name.as_str(), stat.own, stat.children), (7, 3, "a (b) c", 30.0, 70.0));
    }
}
