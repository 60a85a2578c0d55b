//! LibreOffice as a child process: one for each document, with a profile and a folder of its own, an empty environment and
//! limits, in a process group that is killed as a whole.
//!
//! Must never believe an exit code, keep a profile for another document, or leave a process behind.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::{ConvertError, Converter, docx};

/// Where LibreOffice usually is.
const USUAL: [&str; 6] = [
    "/usr/bin/soffice",
    "/usr/lib/libreoffice/program/soffice",
    "/usr/local/bin/soffice",
    "/opt/libreoffice/program/soffice",
    "/snap/bin/libreoffice",
    "/Applications/LibreOffice.app/Contents/MacOS/soffice",
];
/// How the names of its folders begin.
const FOLDER: &str = "countersign-convert-";
/// Folders that are older belong to nobody: a process that was killed left them. Also how often they are looked for.
const LEFT_OVER: Duration = Duration::from_secs(3_600);
/// Sets the limits that only a process can set for itself, then becomes the program. Ends with its time also if nobody is left
/// to kill it.
const SHELL: &str =
    r#"ulimit -c 0; ulimit -v "$1"; ulimit -t "$2"; ulimit -f "$3"; shift 3; exec timeout -s KILL "$@""#;
/// No macros, nothing active, and no picture that is not in the file.
const SETTINGS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry" xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<item oor:path="/org.openoffice.Office.Common/Security/Scripting"><prop oor:name="DisableMacrosExecution" oor:op="fuse"><value>true</value></prop></item>
<item oor:path="/org.openoffice.Office.Common/Security/Scripting"><prop oor:name="MacroSecurityLevel" oor:op="fuse"><value>3</value></prop></item>
<item oor:path="/org.openoffice.Office.Common/Security/Scripting"><prop oor:name="BlockUntrustedRefererLinks" oor:op="fuse"><value>true</value></prop></item>
<item oor:path="/org.openoffice.Office.Common/Security/Scripting"><prop oor:name="DisableActiveContent" oor:op="fuse"><value>true</value></prop></item>
<item oor:path="/org.openoffice.Office.Writer/Content/Update"><prop oor:name="Link" oor:op="fuse"><value>2</value></prop></item>
</oor:items>
"#;

/// How much a conversion may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From start to end, and also of the processor.
    pub time: Duration,
    /// Of address space.
    pub memory_bytes: u64,
    /// Of any file that it writes.
    pub file_bytes: u64,
    /// Until there is a free place.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        Self {
            time: Duration::from_secs(60),
            memory_bytes: 4 * GIB,
            file_bytes: GIB / 8,
            wait: Duration::from_secs(30),
        }
    }
}

/// LibreOffice as a converter.
pub struct LibreOffice {
    program: PathBuf,
    limits: Limits,
    places: Arc<Semaphore>,
    tidied_at: Mutex<Instant>,
}

impl LibreOffice {
    /// That program, so many times at once.
    #[must_use]
    pub fn new(program: PathBuf, at_once: usize, limits: Limits) -> Self {
        tidy();
        Self { program, limits, places: Arc::new(Semaphore::new(at_once)), tidied_at: Mutex::new(Instant::now()) }
    }

    /// Whether it is time to look for what was left over.
    fn is_untidy(&self) -> bool {
        let mut tidied_at = self.tidied_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_untidy = tidied_at.elapsed() >= LEFT_OVER;
        if is_untidy {
            *tidied_at = Instant::now();
        }
        is_untidy
    }

    /// Where it is, if it is where it usually is.
    #[must_use]
    pub fn find() -> Option<PathBuf> {
        USUAL.iter().map(PathBuf::from).find(|program| program.is_file())
    }

    fn command(&self, folder: &Path) -> Command {
        let (time, limits) = (self.limits.time.as_secs(), &self.limits);
        let profile = url::Url::from_file_path(folder.join("profile")).map(String::from).unwrap_or_default();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SHELL, "sh"]);
        command.args([limits.memory_bytes / 1024, time, limits.file_bytes / 512].map(|limit| limit.to_string()));
        // By itself it must outlast neither the document nor, should this process be killed, its time.
        command.arg((time + 30).to_string()).arg(&self.program).arg(format!("-env:UserInstallation={profile}"));
        command.args([
            "--headless",
            "--norestore",
            "--nolockcheck",
            "--nodefault",
            "--nofirststartwizard",
            // What else the file might look like to it is nothing that was looked through.
            "--infilter=MS Word 2007 XML",
            "--convert-to",
            "pdf:writer_pdf_Export",
            "--outdir",
        ]);
        command.args([folder.join("out").as_os_str(), folder.join("document.docx").as_os_str()]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8").env("TZ", "UTC");
        for variable in ["HOME", "TMPDIR"] {
            command.env(variable, folder);
        }
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0).kill_on_drop(true);
        command
    }
}

#[tonic::async_trait]
impl Converter for LibreOffice {
    async fn convert(&self, docx: Bytes) -> Result<Bytes, ConvertError> {
        let place = tokio::time::timeout(self.limits.wait, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(ConvertError::Unavailable(std::io::Error::other("all converters are busy")));
        };
        let is_untidy = self.is_untidy();
        let laid_out = move || {
            if is_untidy {
                tidy();
            }
            lay_out(&docx)
        };
        let made = tokio::task::spawn_blocking(laid_out).await;
        let folder = made.map_err(|_| ConvertError::Failed)??;
        let mut running = Running::of(self.command(folder.path()).spawn().map_err(ConvertError::Unavailable)?);
        let ended = tokio::time::timeout(self.limits.time, running.child.wait()).await;
        // What it has started is killed with it, however it ended.
        running.kill();
        let Ok(ended) = ended else {
            let _ = running.child.wait().await;
            return Err(ConvertError::Slow);
        };
        ended.map_err(ConvertError::Unavailable)?;
        let made = folder.path().join("out").join("document.pdf");
        let size = tokio::fs::metadata(&made).await.map_err(|_| ConvertError::Failed)?.len();
        if size == 0 || size > self.limits.file_bytes {
            return Err(ConvertError::Failed);
        }
        let pdf = tokio::fs::read(&made).await.map_err(ConvertError::Unavailable)?;
        if pdf.starts_with(b"%PDF-") { Ok(pdf.into()) } else { Err(ConvertError::Failed) }
    }
}

/// A folder with the document, written anew, and an empty profile.
fn lay_out(docx: &[u8]) -> Result<TempDir, ConvertError> {
    let lay = || -> std::io::Result<(TempDir, std::fs::File)> {
        let folder = tempfile::Builder::new().prefix(FOLDER).tempdir()?;
        std::fs::create_dir_all(folder.path().join("profile/user"))?;
        std::fs::create_dir(folder.path().join("out"))?;
        let mut settings = std::fs::File::create(folder.path().join("profile/user/registrymodifications.xcu"))?;
        settings.write_all(SETTINGS.as_bytes())?;
        let file = std::fs::File::create(folder.path().join(OsStr::new("document.docx")))?;
        Ok((folder, file))
    };
    let (folder, file) = lay().map_err(ConvertError::Unavailable)?;
    docx::rewrite(docx, std::io::BufWriter::new(file))?.flush().map_err(ConvertError::Unavailable)?;
    Ok(folder)
}

/// Removes what processes that were killed have left: documents among it.
fn tidy() {
    let Ok(folders) = std::fs::read_dir(std::env::temp_dir()) else { return };
    let is_old = |folder: &std::fs::DirEntry| {
        let about = folder.metadata().ok().filter(std::fs::Metadata::is_dir);
        let age = about.and_then(|about| about.modified().ok()?.elapsed().ok());
        folder.file_name().as_encoded_bytes().starts_with(FOLDER.as_bytes()) && age.is_some_and(|age| age >= LEFT_OVER)
    };
    for folder in folders.flatten().filter(is_old) {
        // Another process may have been faster, or it is somebody else's.
        let _ = std::fs::remove_dir_all(folder.path());
    }
}

/// A child with all that it starts.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn of(child: Child) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Self { child, group }
    }

    /// Once: later the number may be another's.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
