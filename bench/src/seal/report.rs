//! What came out, as ratios: a table for the terminal and a page for the documentation.

use std::fmt::Write as _;

use crate::ours::Work;
use crate::{Asked, Key, Measured, PAPERS, TOOLS, Tool};

/// Ours against somebody with the same key, on a paper, and the share it should reach at least.
const TARGETS: [(Tool, Tool, &str, f64); 12] = [
    (SEAL, Tool::LibPdf(Asked::Seal, Key::Rsa), "1-page", 10.0),
    (SEAL, Tool::LibPdf(Asked::Seal, Key::Rsa), "10-pages", 10.0),
    (SEAL_P256, Tool::LibPdf(Asked::Seal, Key::P256), "1-page", 10.0),
    (SEAL_P256, Tool::LibPdf(Asked::Seal, Key::P256), "10-pages", 10.0),
    (SEAL, Tool::PyHanko(Key::Rsa), "1-page", 200.0),
    (SEAL, Tool::PyHanko(Key::Rsa), "10-pages", 200.0),
    (SEAL_P256, Tool::PyHanko(Key::P256), "1-page", 200.0),
    (SEAL_P256, Tool::PyHanko(Key::P256), "10-pages", 200.0),
    (Tool::Ours(Work::Prepared, Key::Rsa), Tool::LibPdf(Asked::Seal, Key::Rsa), "10-mb", 50.0),
    (COMPLETE, Tool::LibPdf(Asked::Complete, Key::Rsa), "1-page", 5.0),
    (COMPLETE, Tool::LibPdf(Asked::Complete, Key::Rsa), "10-pages", 5.0),
    (COMPLETE, Tool::LibPdf(Asked::Complete, Key::Rsa), "10-mb", 5.0),
];
const SEAL: Tool = Tool::Ours(Work::Seal, Key::Rsa);
const SEAL_P256: Tool = Tool::Ours(Work::Seal, Key::P256);
const COMPLETE: Tool = Tool::Ours(Work::Complete, Key::Rsa);

/// All measurements.
#[derive(Default)]
pub struct Report {
    rounds: Vec<(Tool, &'static str, Measured)>,
}

impl Tool {
    fn name(self) -> String {
        let (name, key) = match self {
            Self::Ours(Work::Seal, key) => ("Countersign, read and sealed", key),
            Self::Ours(Work::Prepared, key) => ("Countersign, sealed as prepared at ingest", key),
            Self::Ours(Work::Complete, key) => ("Countersign, values, certificate and seal", key),
            Self::PyHanko(key) => ("pyHanko", key),
            Self::LibPdf(Asked::Seal, key) => ("@libpdf/core", key),
            Self::LibPdf(Asked::Complete, key) => ("@libpdf/core, values, certificate and seal", key),
            Self::LibPdf(Asked::CompleteUnembedded, key) => ("@libpdf/core, the same without embedding fonts", key),
            Self::SignPdf => ("@signpdf/signpdf", Key::Rsa),
        };
        match key {
            Key::Rsa => name.to_owned(),
            Key::P256 => format!("{name}, P-256"),
        }
    }
}

impl Measured {
    fn per_second(self) -> f64 {
        self.documents as f64 / self.seconds
    }

    fn cpu_ms(self) -> f64 {
        1_000.0 * self.cpu_seconds / self.documents.max(1) as f64
    }

    /// For the impatient.
    pub fn line(self, tool: Tool) -> String {
        let (rate, cpu, peak) = (self.per_second(), self.cpu_ms(), self.peak_mib);
        format!("{:<44} {rate:>8.1}/s, {cpu:>8.2} ms of processor time each, {peak:>5.0} MiB", tool.name())
    }
}

impl Report {
    /// One measurement more.
    pub fn add(&mut self, tool: Tool, paper: &'static str, measured: Measured) {
        self.rounds.push((tool, paper, measured));
    }

    fn median(&self, tool: Tool, paper: &str, of: impl Fn(Measured) -> f64) -> f64 {
        let mine = self.rounds.iter().filter(|round| (round.0, round.1) == (tool, paper));
        let mut values: Vec<f64> = mine.map(|round| of(round.2)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// How many times as much processor time a peer takes.
    fn ratio(&self, ours: Tool, peer: Tool, paper: &str) -> f64 {
        let cpu = |tool| self.median(tool, paper, Measured::cpu_ms);
        cpu(peer) / cpu(ours)
    }

    /// The ratios that there are targets for, and those beside a peer that is asked for less.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for (ours, peer, paper, target) in TARGETS {
            let ratio = self.ratio(ours, peer, paper);
            let verdict = if ratio >= target { "reached" } else { "missed" };
            let (ours, theirs) = (ours.name(), peer.name());
            writeln!(table, "| {ours} | {theirs} | {paper} | {ratio:.1} | {target} | {verdict} |").ok();
        }
        for paper in PAPERS {
            let peer = Tool::LibPdf(Asked::CompleteUnembedded, Key::Rsa);
            let (ours, theirs, ratio) = (COMPLETE.name(), peer.name(), self.ratio(COMPLETE, peer, paper));
            writeln!(table, "| {ours} | {theirs} | {paper} | {ratio:.1} | | less work |").ok();
        }
        let memory = |paper| self.median(COMPLETE, paper, |measured| measured.peak_mib);
        let ratio = (memory("10-mb") - memory("1-page")) / 9.5;
        let verdict = if ratio <= 3.0 { "reached" } else { "missed" };
        writeln!(
            table,
            "| peak memory beyond that of a small paper | size of the paper | 10-mb | {ratio:.1} | at most 3 | {verdict} |"
        )
        .ok();
        table
    }

    /// The page of the documentation.
    pub fn markdown(&self, seconds: u32, rounds: u32) -> String {
        let mut page = format!(
            "# How fast papers are sealed\n\nWritten by `cargo bench-seal -- --write`: medians of {rounds} rounds of {seconds} s, each program in a process of its own, warm, one\n\
             paper at a time, SHA-256, RSA-2048 where nothing else is said, bytes in and bytes out. What counts are the ratios of processor time: what else the machine does moves them by a fifth.\n\n\
             | ours | beside | paper | ratio | target | |\n|---|---|---|---|---|---|\n{}\n\
             | program | paper | papers/s | processor time each | peak memory |\n|---|---|---|---|---|\n",
            self.table()
        );
        for tool in TOOLS {
            for paper in PAPERS {
                let of = |figure: fn(Measured) -> f64| self.median(tool, paper, figure);
                let (rate, cpu, peak) =
                    (of(Measured::per_second), of(Measured::cpu_ms), of(|measured| measured.peak_mib));
                writeln!(page, "| {} | {paper} | {rate:.1} | {cpu:.2} ms | {peak:.0} MiB |", tool.name()).ok();
            }
        }
        page.push_str(
            "\n`@signpdf` and `@libpdf/core` do not write all that PAdES asks for (no signing certificate attribute; a signing time among the signed\n\
             attributes), and none of them checks what it has written; Countersign does both. *Prepared*: the paper was read and hashed before; only what is\n\
             appended is made. That is what the library can do with a base that is kept ready (`Prepared`), and the benchmark alone has it done: the service\n\
             prepares no base at ingest, but reads and hashes each when its envelope ends, with values and certificate, as in the rows of that name.\n\n\
             *Values, certificate and seal*: a signature on every page and a certificate of a page behind the last, the same words at the same places on both\n\
             sides. `@libpdf/core` does it in Documenso's order (the certificate is a document of its own, whose page is copied; all is flattened, saved, read\n\
             again and signed) and embeds the letters that are drawn from the same font files. Most of its time then is reading those files, which it wants to\n\
             do for each document, and cutting them. Without embedding it does less work: it draws in fonts that readers are supposed to have, which is no\n\
             evidence and no PDF/A, and in Latin letters only. What is compiled as it runs is run for as long before it is measured.\n\n\
             Where the time of a seal goes, by `perf`: of a paper of a page that is read and sealed three quarters are RSA with 2048 bits, at the pace of the\n\
             processor's own instructions (AVX-512 IFMA where these figures were made; `openssl speed` is no faster), and of one of ten pages three fifths, where a\n\
             fifth is reading; a twentieth is checking that the signature holds. `@libpdf/core` signs as well: a seal of a page that took nothing but the signature\n\
             would be some 12 times as fast as its. Ten times as fast, with the check, would leave half of what reading, writing, CMS and hashing take for them, and\n\
             on ten pages little more. By ECDSA on P-256 two fifths are the check that the signature holds, a seventh is the signature and a seventh is reading.\n\
             pyHanko checks an RSA key each time that it signs, which takes it most of its time; with P-256 it has nothing of the kind to do.\n\n\
             Where the time of a completion goes, by `perf`: for a small paper a fifth is spent on cutting and packing the letters of three fonts, a sixth on\n\
             shaping and breaking lines, a tenth on writing them, an eighth on RSA. For 10 MB two fifths are SHA-256, at the pace of the processor's own\n\
             instructions, and a sixth is copying, half of that the result.\n",
        );
        page
    }
}
