//! Documents on their way out: who gets which version when, in what form, and what happens on the way.

mod access;
mod bundles;
pub mod data;
mod parts;
pub mod stores;

use countersign::v1::document_part::Part;
use countersign::v1::document_source::Source;
use countersign::v1::{
    CreateEnvelopeRequest, DocumentInfo, DocumentSource, DocumentVersion, DownloadDocumentRequest, Envelope, Routing,
};
use countersign_test_support::Caller;
use countersign_test_support::client::{pdf, request};
use sha2::{Digest as _, Sha256};
use tonic::Status;

/// A download as it came: what it announced, what came, and how it ended.
pub struct Download {
    pub info: DocumentInfo,
    pub bytes: Vec<u8>,
    pub ended: Result<(), Status>,
}

/// Downloads to the end, whatever that is.
pub async fn download(caller: &Caller, request: DownloadDocumentRequest) -> Result<Download, Status> {
    let mut stream = caller.envelopes().download_document(request).await?.into_inner();
    let first = stream.message().await?.unwrap().part.unwrap().part;
    let Some(Part::Info(info)) = first else { panic!("{first:?} comes first") };
    let (mut bytes, mut ended) = (Vec::new(), Ok(()));
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                let Some(Part::Chunk(chunk)) = message.part.unwrap().part else { panic!("info comes once") };
                assert!(!chunk.is_empty() && chunk.len() <= 65_536, "{} bytes", chunk.len());
                bytes.extend_from_slice(&chunk);
            }
            Ok(None) => break,
            Err(status) => {
                ended = Err(status);
                break;
            }
        }
    }
    Ok(Download { info, bytes, ended })
}

/// A whole document, which is what it announced to be.
pub async fn whole(caller: &Caller, request: DownloadDocumentRequest) -> Result<(DocumentInfo, Vec<u8>), Status> {
    let Download { info, bytes, ended } = download(caller, request).await?;
    ended?;
    assert_eq!(info.size_bytes, info.offset_bytes + bytes.len() as u64);
    if !info.sha256.is_empty() && info.offset_bytes == 0 {
        assert_eq!((info.sha256.as_str(), info.etag.as_str()), (hash(&bytes).as_str(), info.sha256.as_str()));
    }
    Ok((info, bytes))
}

pub fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub fn of(envelope: &Envelope, version: DocumentVersion) -> DownloadDocumentRequest {
    DownloadDocumentRequest { envelope_id: envelope.id.clone(), version: version.into(), ..Default::default() }
}

/// A request with documents of these names and contents.
pub fn with_documents(signers: usize, documents: Vec<(&str, Vec<u8>)>) -> CreateEnvelopeRequest {
    let documents = documents.into_iter().map(|(name, bytes)| DocumentSource {
        markers: false,
        name: name.into(),
        source: Some(Source::Content(bytes.into())),
    });
    CreateEnvelopeRequest { documents: documents.collect(), ..request(signers, Routing::Parallel, true) }
}

/// A PDF of one page with a picture of so many bytes that nothing shows.
pub fn large_pdf(size: usize) -> Vec<u8> {
    let (mut file, mut places) = (b"%PDF-1.7\n".to_vec(), Vec::new());
    let noise: Vec<u8> = (0..size as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let length = noise.len();
    let image = "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8";
    let picture = [format!("<< {image} /Length {length} >>\nstream\n").as_bytes(), &noise, b"\nendstream"].concat();
    for (number, object) in [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /XObject << /I 4 0 R >> >> >>".to_vec(),
        picture,
    ]
    .into_iter()
    .enumerate()
    {
        places.push(file.len());
        file.extend_from_slice(format!("{} 0 obj\n", number + 1).as_bytes());
        file.extend_from_slice(&object);
        file.extend_from_slice(b"\nendobj\n");
    }
    let table = file.len();
    file.extend_from_slice(b"xref\n0 5\n0000000000 65535 f \n");
    places.iter().for_each(|place| file.extend_from_slice(format!("{place:010} 00000 n \n").as_bytes()));
    file.extend_from_slice(format!("trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").as_bytes());
    file
}

/// A sent envelope of one signer with a document of that size.
pub async fn large(sender: &Caller, size: usize) -> (Envelope, Vec<u8>) {
    let bytes = large_pdf(size);
    let envelope = sender.create(with_documents(1, vec![("large.pdf", bytes.clone())])).await.unwrap();
    (envelope, bytes)
}

#[test]
fn samples_differ() {
    assert_ne!(pdf(), large_pdf(10));
}
