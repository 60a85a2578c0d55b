//! A mutual non-disclosure agreement between two companies.
//!
//! It must never be taken for legal advice: it is a sample that reads like the real thing.

use super::typeset::{Contract, Signer};
use super::{Sample, StampError};

const TITLE: &str = "Mutual Non-Disclosure Agreement";

/// A mutual non-disclosure agreement: two pages, two signatures.
///
/// # Errors
///
/// [`StampError`] only if the crate was built from damaged font files.
pub fn nda() -> Result<Sample, StampError> {
    let mut contract = Contract::begin(TITLE, "Reference ALD-NDA-0117")?;
    contract.paragraph(
        "This agreement is made between Aldergate Instruments Ltd, a company registered in England whose registered \
         office is at 14 Quayside Row, Bristol (“Aldergate”), and Fennimore Optics GmbH, a company registered in Germany \
         whose seat is at Lindenallee 42, Jena (“Fennimore”). Each of them is called a “Party”, and it takes effect on \
         the day on which the second Party signs it (the “Effective Date”).",
    );
    for (number, (heading, clauses)) in CLAUSES.iter().enumerate() {
        contract.heading(&format!("{}.", number + 1), heading);
        for (part, text) in clauses.iter().enumerate() {
            contract.clause(&format!("{}.{}", number + 1, part + 1), text);
        }
    }
    contract.paragraph("Signed by the Parties through their authorised representatives:");
    contract.signatures(&[
        Signer { company: "Aldergate Instruments Ltd", name: "Helena Marsh", role: "Managing Director" },
        Signer { company: "Fennimore Optics GmbH", name: "Jürgen Weißkopf", role: "Head of Development" },
    ]);
    let (bytes, blocks) = contract.finish()?;
    Ok(Sample { file_name: "mutual-nda.pdf", title: TITLE, bytes, blocks })
}

const CLAUSES: [(&str, &[&str]); 8] = [
    (
        "Purpose",
        &["The Parties wish to find out whether Fennimore’s lens assemblies can be used in Aldergate’s survey \
           instruments (the “Purpose”). To do so each Party may show the other information that it does not make public."],
    ),
    (
        "Confidential Information",
        &[
            "“Confidential Information” means everything that a Party (the “Discloser”) makes available to the other \
             (the “Recipient”) for the Purpose, in whatever form, and that is marked as confidential or that a \
             reasonable person would understand to be confidential from its nature, in particular drawings, \
             specifications, samples, prices, forecasts and the names of customers.",
            "Information is not Confidential Information if the Recipient can show by its records that it was public \
             when it was disclosed or became so later without a breach of this agreement; that the Recipient held it \
             before; that a third party gave it to the Recipient without any duty of confidence; or that the Recipient \
             developed it without use of anything it received under this agreement.",
        ],
    ),
    (
        "Duties of the Recipient",
        &[
            "The Recipient shall use Confidential Information for the Purpose only, keep it secret with the care it \
             gives to its own secrets of the same kind and at least with reasonable care, and not take samples apart or \
             analyse their composition.",
            "The Recipient may pass Confidential Information on to those employees and advisers who need it for the \
             Purpose and who are bound to secrecy in terms no weaker than these. The Recipient answers for what they do \
             with it as for its own acts.",
            "Where a court or an authority orders the Recipient to disclose Confidential Information, the Recipient \
             shall tell the Discloser beforehand, as far as the law allows, and disclose no more than it has to.",
        ],
    ),
    (
        "Return and destruction",
        &[
            "Within thirty days of a written request the Recipient shall return or destroy all Confidential Information \
           and confirm in writing that it has done so. It may keep one copy for its legal files, and copies in routine \
           backups until they are overwritten; this agreement continues to apply to both.",
        ],
    ),
    (
        "No licence and no warranty",
        &[
            "Confidential Information remains the property of the Discloser. Nothing in this agreement grants a licence \
           or obliges a Party to disclose anything, to enter into a further contract or to buy. Confidential \
           Information is provided as it is, without any warranty that it is complete or correct.",
        ],
    ),
    (
        "Term",
        &["This agreement ends two years after the Effective Date, or earlier when a Party ends it with one month’s \
           written notice. The duties of secrecy continue for five years after its end, and for trade secrets for as \
           long as they remain such."],
    ),
    (
        "Remedies",
        &[
            "The Parties accept that damages alone may be no adequate remedy for a breach and that the Discloser may seek \
           an injunction in addition to any other remedy that the law gives it.",
        ],
    ),
    (
        "General",
        &[
            "This agreement is the whole understanding of the Parties on its subject. It can be changed only in writing \
             signed by both, and neither Party may assign it without the other’s consent. If a provision is invalid, the \
             others remain in force.",
            "This agreement is governed by the law of England and Wales, whose courts have exclusive jurisdiction. It may \
             be signed electronically and in counterparts, each of which is an original and which together are one \
             instrument.",
        ],
    ),
];
