//! DOCX by the real LibreOffice, and by programs that misbehave in its place.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_envelope::convert::{ConvertError, Converter as _, LibreOffice, Limits};
use countersign_test_support::docx::{body, docx, docx_of, paragraph, relations, relationship};
use countersign_test_support::outside::{absent, program};
use tempfile::TempDir;
use tokio::net::TcpListener;

const INSTALL: &str = "apt-get install --no-install-recommends libreoffice-writer-nogui";

fn libreoffice() -> Option<PathBuf> {
    let found = LibreOffice::find();
    if found.is_none() {
        absent("LibreOffice Writer", INSTALL);
    }
    found
}

fn converter(program: PathBuf, limits: Limits) -> LibreOffice {
    LibreOffice::new(program, 2, limits)
}

/// The words of a PDF, by a program that is not ours.
fn words(pdf: &[u8]) -> Option<String> {
    let program = program("pdftotext", "apt-get install poppler-utils")?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made.pdf");
    std::fs::write(&file, pdf).unwrap();
    let said = std::process::Command::new(program).arg(&file).arg("-").output().unwrap();
    Some(String::from_utf8(said.stdout).unwrap())
}

/// S1.36: what it says is in the PDF, markers included, and our own reader takes it.
#[tokio::test]
async fn s1_36_a_docx_becomes_a_pdf() {
    let Some(program) = libreoffice() else { return };
    let docx = docx(&["Lease of the flat at Kirkegata 5", "{{signature:Customer}}", "Последний пункт"]);
    let pdf = converter(program, Limits::default()).convert(docx.into()).await.unwrap();
    let inspected = countersign_paper::inspect(&pdf, &countersign_paper::Limits::default()).unwrap();
    assert_eq!(inspected.pages.len(), 1);
    if let Some(words) = words(&pdf) {
        for part in ["Lease of the flat at Kirkegata 5", "{{signature:Customer}}", "Последний пункт"] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }
}

/// Two at once have profiles of their own: neither stands in the other's way.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_both_succeed() {
    let Some(program) = libreoffice() else { return };
    let converter = Arc::new(converter(program, Limits::default()));
    let one = |text: &str| {
        let (converter, docx) = (Arc::clone(&converter), Bytes::from(docx(&[text])));
        async move { converter.convert(docx).await.unwrap() }
    };
    let (first, second) = tokio::join!(one("the first"), one("the second"));
    for (pdf, text) in [(first, "the first"), (second, "the second")] {
        assert!(words(&pdf).is_none_or(|words| words.contains(text)));
    }
}

/// A picture by the relationship of a link, which stays.
const LINKED_PICTURE: &str = "<w:p><w:r><w:drawing><wp:inline><wp:extent cx=\"900000\" cy=\"900000\"/><wp:docPr id=\"1\" name=\"p\"/><a:graphic><a:graphicData uri=\"http://schemas.openxmlformats.org/drawingml/2006/picture\"><pic:pic><pic:nvPicPr><pic:cNvPr id=\"1\" name=\"p\"/><pic:cNvPicPr/></pic:nvPicPr><pic:blipFill><a:blip r:link=\"rId5\"/><a:stretch><a:fillRect/></a:stretch></pic:blipFill><pic:spPr><a:xfrm><a:off x=\"0\" y=\"0\"/><a:ext cx=\"900000\" cy=\"900000\"/></a:xfrm><a:prstGeom prst=\"rect\"/></pic:spPr></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>";
/// Says that a file is a text of LibreOffice's own kind.
const MANIFEST: &str = "<manifest:manifest xmlns:manifest=\"urn:oasis:names:tc:opendocument:xmlns:manifest:1.0\" manifest:version=\"1.2\"><manifest:file-entry manifest:full-path=\"/\" manifest:media-type=\"application/vnd.oasis.opendocument.text\"/><manifest:file-entry manifest:full-path=\"content.xml\" manifest:media-type=\"text/xml\"/></manifest:manifest>";

/// A document that names files and addresses: nothing is fetched, no file of the machine is in the PDF.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_file_is_reached() {
    let Some(program) = libreoffice() else { return };
    let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = canary.local_addr().unwrap().port();
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("secret.txt");
    std::fs::write(&file, "the secret of this machine").unwrap();
    let (file, web) = (file.display().to_string(), format!("http://127.0.0.1:{port}/x.png"));
    let list = relations(
        &[
            relationship("rId1", "image", &web, "External"),
            relationship("rId2", "image", &format!("file://{file}"), "External"),
            relationship("rId3", "attachedTemplate", &web, "External"),
            relationship("rId4", "aFChunk", &web, "External"),
            relationship("rId5", "hyperlink", &web, "External"),
        ]
        .concat(),
    );
    let picture = |id: &str| {
        format!(
            "<w:p><w:r><w:pict><v:shape style=\"width:50pt;height:50pt\"><v:imagedata r:id=\"{id}\" src=\"{web}\"/></v:shape></w:pict></w:r></w:p>"
        )
    };
    let field = |code: &str| {
        format!(
            "<w:p><w:r><w:fldChar w:fldCharType=\"begin\"/></w:r><w:r><w:instrText>{code}</w:instrText></w:r><w:r><w:fldChar w:fldCharType=\"separate\"/></w:r><w:r><w:t>shown</w:t></w:r><w:r><w:fldChar w:fldCharType=\"end\"/></w:r></w:p>"
        )
    };
    let inside = [
        paragraph("The text itself"),
        picture("rId1"),
        picture("rId2"),
        field(&format!(" INCLUDETEXT \"{file}\" ")),
        field(&format!(" INCLUDEPICTURE \"{web}\" \\d ")),
        "<w:altChunk r:id=\"rId4\"/>".to_owned(),
        LINKED_PICTURE.to_owned(),
    ];
    let web = format!(
        "<office:document-content xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" office:version=\"1.2\"><office:body><office:text><text:p>Another text</text:p><text:section text:name=\"s\"><text:section-source xlink:href=\"{web}\"/></text:section></office:text></office:body></office:document-content>"
    );
    let files: [(&str, &[u8]); 4] = [
        ("word/_rels/document.xml.rels", list.as_bytes()),
        ("mimetype.xml", b"<x/>"),
        ("content.xml", web.as_bytes()),
        ("META-INF/manifest.xml", MANIFEST.as_bytes()),
    ];
    let docx = docx_of(&body(&inside.concat()), &files);
    let converting = converter(program, Limits::default());
    let converting = converting.convert(docx.into());
    let pdf = tokio::select! {
        pdf = converting => pdf.unwrap(),
        reached = canary.accept() => panic!("the converter connected: {reached:?}"),
    };
    if let Some(words) = words(&pdf) {
        assert!(
            words.contains("The text itself") && !words.contains("secret") && !words.contains("Another"),
            "{words}"
        );
    }
}

/// A program in LibreOffice's place.
fn script(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("soffice");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn brief(millis: u64) -> Limits {
    Limits { time: Duration::from_millis(millis), ..Limits::default() }
}

async fn of_script(text: &str, limits: Limits) -> Result<Bytes, ConvertError> {
    let folder = tempfile::tempdir().unwrap();
    converter(script(&folder, text), limits).convert(docx(&["a"]).into()).await
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
        && !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") Z ")
}

/// An exit code says nothing: there is a PDF or there is none.
#[tokio::test]
async fn only_a_pdf_is_a_success() {
    let made = of_script(
        "while [ \"$1\" != --outdir ]; do shift; done; printf '%%PDF-1.7' > \"$2/document.pdf\"; exit 1",
        brief(5_000),
    );
    assert_eq!(made.await.unwrap(), "%PDF-1.7");
    let garbage =
        of_script("while [ \"$1\" != --outdir ]; do shift; done; echo no > \"$2/document.pdf\"", brief(5_000));
    assert!(matches!(garbage.await, Err(ConvertError::Failed)));
    assert!(matches!(of_script("exit 0", brief(5_000)).await, Err(ConvertError::Failed)));
    let absent = converter("/nonexistent/soffice".into(), brief(5_000)).convert(docx(&["a"]).into()).await;
    assert!(matches!(absent, Err(ConvertError::Failed | ConvertError::Unavailable(_))));
    let flawed = converter("/bin/true".into(), brief(5_000)).convert(Bytes::from_static(b"PK no")).await;
    assert!(matches!(flawed, Err(ConvertError::Flawed(_))));
}

/// One that hangs is killed with all that it started, also what ignores gentler signals.
#[tokio::test]
async fn a_slow_converter_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let text =
        format!("trap '' TERM INT HUP\necho $$ >> {0}\n(sleep 300 & echo $! >> {0}; wait) &\nwait", pids.display());
    let program = script(&folder, &text);
    let began = Instant::now();
    let slow = converter(program, brief(1_500)).convert(docx(&["a"]).into()).await;
    assert!(matches!(slow, Err(ConvertError::Slow)), "{slow:?}");
    assert!(began.elapsed() < Duration::from_secs(15));
    gone(&pids).await;
}

/// Nor does one whose caller has gone.
#[tokio::test]
async fn a_cut_conversion_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let text = format!("echo $$ >> {0}\n(sleep 300 & echo $! >> {0}; wait) &\nwait", pids.display());
    let converter = converter(script(&folder, &text), Limits::default());
    let cut = tokio::time::timeout(Duration::from_secs(2), converter.convert(docx(&["a"]).into())).await;
    assert!(cut.is_err());
    gone(&pids).await;
}

async fn gone(pids: &Path) {
    let pids: Vec<u32> =
        std::fs::read_to_string(pids).unwrap().lines().map(|pid| pid.trim().parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "both had started");
    for _ in 0..100 {
        if !pids.iter().any(|pid| is_there(*pid)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a process is left: {pids:?}");
}

/// It has none of the service's environment, and limits of its own.
#[tokio::test]
async fn it_runs_bare_and_limited() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let text = format!(
        "env > {0}; ulimit -v >> {0}; ulimit -t >> {0}; ulimit -c >> {0}; for given in \"$@\"; do echo \"$given\" >> {0}; done; pwd >> {0}",
        said.display()
    );
    let limits = Limits { memory_bytes: 3 << 30, time: Duration::from_secs(7), ..Limits::default() };
    let _ = converter(script(&folder, &text), limits).convert(docx(&["a"]).into()).await;
    let said = std::fs::read_to_string(said).unwrap();
    let lines: Vec<_> = said.lines().collect();
    let known = ["PATH=", "LANG=", "TZ=", "HOME=", "TMPDIR=", "PWD=", "OLDPWD=", "SHLVL=", "_="];
    let foreign = |line: &&&str| line.contains('=') && !known.iter().any(|name| line.starts_with(name));
    assert_eq!(lines.iter().take_while(|line| !line.starts_with('-')).find(foreign), None);
    for limit in ["3145728", "7", "0", "--infilter=MS Word 2007 XML"] {
        assert!(lines.contains(&limit), "{limit}: {said}");
    }
    let own = lines.last().unwrap();
    assert!(own.contains("countersign-convert-") && !Path::new(own).exists(), "its folder is gone: {own}");
}

/// What a process that was killed has left is removed; what is in use stays.
#[test]
fn left_over_folders_are_removed() {
    let folder = || {
        let folder = tempfile::Builder::new().prefix("countersign-convert-").tempdir().unwrap();
        std::fs::write(folder.path().join("document.docx"), "a contract").unwrap();
        folder
    };
    let (left, fresh) = (folder(), folder());
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7_200);
    std::fs::File::open(left.path()).unwrap().set_modified(long_ago).unwrap();
    let _converter = converter("/bin/true".into(), brief(1_000));
    assert!(!left.path().exists() && fresh.path().join("document.docx").exists());
}

/// As many at once as there are places, and nobody waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn places_are_bounded_and_so_is_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(&folder, "sleep 20");
    let limits = Limits { wait: Duration::from_millis(300), ..brief(3_000) };
    let one = Arc::new(LibreOffice::new(program, 1, limits));
    let first = tokio::spawn({
        let one = Arc::clone(&one);
        async move { one.convert(docx(&["a"]).into()).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = one.convert(docx(&["b"]).into()).await;
    assert!(matches!(second, Err(ConvertError::Unavailable(_))), "{second:?}");
    assert!(matches!(first.await.unwrap(), Err(ConvertError::Slow)));
    assert!(
        one.convert(docx(&["c"]).into()).await.is_err_and(|error| matches!(error, ConvertError::Slow)),
        "the place is free"
    );
}
