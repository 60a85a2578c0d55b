//! The outside programs that judge seals: pyHanko, poppler's `pdfsig`, `mutool sign -v`, and `qpdf --check`.
//!
//! It must never let a missing program pass for a passed check in continuous integration.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::Write;

use std::process::Command;
use std::sync::OnceLock;

use super::pki::Pki;

const PYHANKO: &str = r#"
import sys, json, logging
logging.disable(logging.CRITICAL)
from pyhanko.keys import load_cert_from_pemder
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext
root = load_cert_from_pemder(sys.argv[1])
for path in sys.argv[2:]:
    said = []
    try:
        with open(path, 'rb') as file:
            reader = PdfFileReader(file)
            for signature in reader.embedded_signatures:
                context = lambda: ValidationContext(trust_roots=[root], allow_fetching=False)
                try:
                    status = validate_pdf_signature(signature, context(), ts_validation_context=context())
                    stamp = status.timestamp_validity
                    said.append(' '.join([
                        'valid' if status.bottom_line else 'INVALID',
                        'trusted' if status.trusted else 'untrusted',
                        status.coverage.name,
                        status.modification_level.name if status.modification_level is not None else '-',
                        'stamped' if stamp is not None and stamp.valid and stamp.trusted else 'unstamped']))
                except Exception as error:
                    said.append('INVALID ' + type(error).__name__ + ' ' + str(error))
    except Exception as error:
        said = ['UNREADABLE ' + type(error).__name__ + ' ' + str(error)]
    print(json.dumps(said))
"#;

const PYHANKO_SIGN: &str = r#"
import sys
from pyhanko.sign import signers, fields
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
folder, key, kind, source, target = sys.argv[1:]
key = folder + '/' + key
signer = signers.SimpleSigner.load(key + '.key', key + '.pem', ca_chain_files=(folder + '/issuer.pem',))
subfilter = getattr(fields.SigSeedSubFilter, kind)
metadata = signers.PdfSignatureMetadata(field_name='Other', md_algorithm='sha256', subfilter=subfilter)
with open(source, 'rb') as file, open(target, 'wb') as signed:
    signers.sign_pdf(IncrementalPdfFileWriter(file), metadata, signer=signer, output=signed)
"#;

/// Judges with nothing but the root and what the file brings along: no network, and revocation data for each certificate. Now,
/// as of the time of the timestamp, and by the rules of ETSI EN 319 102-1 for signatures with time.
const PYHANKO_LONG_TERM: &str = r#"
import sys, json, logging, asyncio
logging.disable(logging.CRITICAL)
from asn1crypto import crl, ocsp
from pyhanko.keys import load_cert_from_pemder
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import DocumentSecurityStore, PdfSignatureStatus, validate_pdf_signature
from pyhanko.sign.validation.ades import ades_with_time_validation
from pyhanko.sign.validation.policy_decl import (
    LocalKnowledge, RevinfoOnlineFetchingRule, RevocationInfoGatheringSpec, SignatureValidationSpec)
from pyhanko_certvalidator.context import CertValidationPolicySpec
from pyhanko_certvalidator.policy_decl import CertRevTrustPolicy, REQUIRE_REVINFO
from pyhanko_certvalidator.registry import SimpleTrustManager
from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer
root = load_cert_from_pemder(sys.argv[1])
def judge(said, verdict):
    try:
        said.append(verdict())
    except Exception as error:
        said.append('INVALID ' + type(error).__name__ + ' ' + str(error).replace('"', ''))
for path in sys.argv[2:]:
    said = []
    with open(path, 'rb') as file:
        reader = PdfFileReader(file)
        signature = reader.embedded_signatures[-1]
        store = DocumentSecurityStore.read_dss(reader)
        offline = {'trust_roots': [root], 'allow_fetching': False, 'revocation_mode': 'require'}
        context = lambda **more: store.as_validation_context({**offline, **more})
        def plain(**more):
            status = validate_pdf_signature(signature, context(**more), ts_validation_context=context())
            good = status.bottom_line and status.timestamp_validity.trusted
            return status.coverage.name if good else 'INVALID'
        def then():
            return plain(moment=validate_pdf_signature(signature, context(), context()).timestamp_validity.timestamp)
        def with_time():
            known = LocalKnowledge(
                known_ocsps=[part for ref in store.ocsps for part in OCSPContainer.load_multi(
                    ocsp.OCSPResponse.load(ref.get_object().data))],
                known_crls=[CRLContainer(crl.CertificateList.load(ref.get_object().data)) for ref in store.crls],
                known_certs=list(store.load_certs()))
            spec = SignatureValidationSpec(
                CertValidationPolicySpec(SimpleTrustManager.build([root]), CertRevTrustPolicy(REQUIRE_REVINFO)),
                RevocationInfoGatheringSpec(RevinfoOnlineFetchingRule.LOCAL_ONLY), local_knowledge=known)
            result = asyncio.run(ades_with_time_validation(
                signature.signed_data, spec, raw_digest=signature.compute_digest(), status_cls=PdfSignatureStatus,
                extra_status_kwargs=signature.summarise_integrity_info()))
            return str(result.ades_subindic)
        for verdict in (plain, then, with_time):
            judge(said, verdict)
    print(json.dumps(said))
"#;

/// How that program says that a seal is for the long term.
pub const LONG_TERM: [&str; 3] = ["ENTIRE_FILE", "ENTIRE_FILE", "AdESPassed.OK"];

/// What pyHanko says of each file's last seal by the root and the file alone. `None` if it is missing.
pub fn pyhanko_long_term(files: &[Vec<u8>], root: &std::path::Path) -> Option<Vec<Vec<String>>> {
    asked(PYHANKO_LONG_TERM, files, root)
}

/// The file with a signature that pyHanko makes by that key, `PADES` or `ADOBE_PKCS7_DETACHED`. `None` if it is missing.
///
/// Of two signatures by one certificate pdfsig 22.12 trusts the first alone, whoever made them.
pub fn signed_by_pyhanko(file: &[u8], key: &str, kind: &str) -> Option<Vec<u8>> {
    if !works("python3", &["-c", "import pyhanko.sign.validation"], "install it with `pip install pyhanko`") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.pdf"), folder.path().join("target.pdf"));
    std::fs::write(&source, file).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", PYHANKO_SIGN]).arg(Pki::get().path()).args([key, kind]).arg(source).arg(&target);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read(target).unwrap())
}

/// Whether `command` succeeds; says loudly what to install if not, and fails where `CI=true`.
pub fn works(command: &str, arguments: &[&str], advice: &str) -> bool {
    let works = Command::new(command).args(arguments).output().is_ok_and(|output| output.status.success());
    if !works {
        let advice = format!("SKIPPED: {command} is missing; {advice}");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{advice}");
        std::io::stderr().write_all(format!("\n=== {advice} ===\n\n").as_bytes()).unwrap();
    }
    works
}

/// What pyHanko says of each file's signatures, trusting the root. `None` if it is missing.
pub fn pyhanko(files: &[Vec<u8>]) -> Option<Vec<Vec<String>>> {
    asked(PYHANKO, files, &Pki::get().path().join("root.pem"))
}

fn asked(script: &str, files: &[Vec<u8>], root: &std::path::Path) -> Option<Vec<Vec<String>>> {
    if !works("python3", &["-c", "import pyhanko.sign.validation"], "install it with `pip install pyhanko`") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(root);
    for (index, file) in files.iter().enumerate() {
        let path = folder.path().join(format!("{index}.pdf"));
        std::fs::write(&path, file).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<Vec<String>> = String::from_utf8(output.stdout).unwrap().lines().map(list).collect();
    assert_eq!(said.len(), files.len());
    Some(said)
}

/// A list of strings without quotes or backslashes in them, as JSON.
fn list(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What pdfsig says of a file, trusting the root. `None` if it is missing.
pub fn pdfsig(file: &[u8]) -> Option<String> {
    let found = works("pdfsig", &["-v"], "install it with `apt-get install poppler-utils`")
        && works("sh", &["-c", "command -v certutil"], "certutil: install it with `apt-get install libnss3-tools`");
    found.then(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pdf");
        std::fs::write(&path, file).unwrap();
        let output = Command::new("pdfsig").arg("-nssdir").arg(trust()).arg(&path).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

/// Whether pdfsig finds one signature that is valid, of a certificate below the root, and over the whole file. `None` if it is
/// missing.
pub fn pdfsig_holds(file: &[u8]) -> Option<bool> {
    let said = pdfsig(file)?;
    let holds = |one: &str| {
        ["Signature is Valid.", "Certificate is Trusted.", "Total document signed"]
            .iter()
            .all(|line| one.contains(line))
    };
    Some(said.split("Signature #").skip(1).any(holds))
}

/// Where the program's library finds the root.
fn trust() -> &'static str {
    static TRUST: OnceLock<String> = OnceLock::new();
    TRUST.get_or_init(|| {
        let folder = Pki::get().path().join("nss");
        std::fs::create_dir(&folder).unwrap();
        let database = format!("sql:{}", folder.to_str().unwrap());
        let certutil = |arguments: &[&str]| {
            let done = Command::new("certutil").args(arguments).current_dir(Pki::get().path()).status().unwrap();
            assert!(done.success(), "certutil {arguments:?}");
        };
        certutil(&["-N", "-d", &database, "--empty-password"]);
        certutil(&["-A", "-d", &database, "-n", "root", "-t", "CT,CT,CT", "-i", "root.pem"]);
        database
    })
}

/// What `qpdf --check` complains of, or nothing.
pub fn qpdf(file: &[u8]) -> Option<String> {
    let found = works("qpdf", &["--version"], "install it with `apt-get install qpdf`");
    found.then(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pdf");
        std::fs::write(&path, file).unwrap();
        let output = Command::new("qpdf").arg("--check").arg(&path).output().unwrap();
        if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
    })
}

/// Whether mutool finds that nothing changed since the last signature. Whom it trusts cannot be set.
pub fn mutool(file: &[u8]) -> Option<bool> {
    let found = works("mutool", &["-v"], "install it with `apt-get install mupdf-tools`");
    found.then(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pdf");
        std::fs::write(&path, file).unwrap();
        let output = Command::new("mutool").args(["sign", "-v"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("unchanged since signing") && !said.contains("has changed")
    })
}

/// Whether `openssl cms` finds the signature good that is cut out of the file by its byte range; the attributes' names.
pub fn openssl_cms(file: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let [opens, closes, more] = byte_range(file);
    let digits = std::str::from_utf8(&file[opens + 1..closes - 1]).unwrap();
    let cms: Vec<u8> =
        (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect();
    let content = [&file[..opens], &file[closes..closes + more]].concat();
    std::fs::write(folder.path().join("cms"), cms).unwrap();
    std::fs::write(folder.path().join("content"), content).unwrap();
    let root = Pki::get().path().join("root.pem");
    let verify = ["cms", "-verify", "-binary", "-inform", "DER", "-in", "cms", "-content", "content", "-CAfile"];
    let rest = [root.to_str().unwrap(), "-purpose", "any", "-out", "out"];
    super::pki::openssl(folder.path(), &[&verify[..], &rest].concat());
    let printed = super::pki::openssl(folder.path(), &["cms", "-cmsout", "-print", "-inform", "DER", "-in", "cms"]);
    String::from_utf8(printed).unwrap()
}

/// The three numbers of the last byte range behind its zero.
pub fn byte_range(file: &[u8]) -> [usize; 3] {
    let key = b"/ByteRange[0";
    let at = file.windows(key.len()).rposition(|window| window == key).unwrap() + key.len();
    let end = at + file[at..].iter().position(|byte| *byte == b']').unwrap();
    let numbers = std::str::from_utf8(&file[at..end]).unwrap().split_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect::<Vec<usize>>().try_into().unwrap()
}

/// The file with a signature of `openssl` by that key in the place of its last one.
pub fn signed_by_openssl(file: &[u8], key: &str, options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let [opens, closes, more] = byte_range(file);
    let content = [&file[..opens], &file[closes..closes + more]].concat();
    std::fs::write(folder.path().join("content"), content).unwrap();
    let at = |name: String| Pki::get().path().join(name).display().to_string();
    let (certificate, issuer, key) = (at(format!("{key}.pem")), at("issuer.pem".into()), at(format!("{key}.key")));
    let sign = ["cms", "-sign", "-binary", "-md", "sha256", "-in", "content", "-outform", "DER"];
    let by = ["-signer", &certificate, "-inkey", &key, "-certfile", &issuer];
    let cms = super::pki::openssl(folder.path(), &[&sign[..], &by, options].concat());
    let digits: String = cms.iter().map(|byte| format!("{byte:02x}")).collect();
    let room = closes - opens - 2;
    [&file[..=opens], format!("{digits:0<room$}").as_bytes(), &file[closes - 1..]].concat()
}

/// Whether the program that makes the keys is there.
pub fn can_make_keys() -> bool {
    works("openssl", &["version"], "install it with `apt-get install openssl`")
}
