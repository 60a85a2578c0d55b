//! A services agreement between a customer, a contractor and a guarantor, with two schedules.
//!
//! It must never be taken for legal advice: it is a sample that reads like the real thing.

use super::typeset::{Contract, Signer};
use super::{Sample, StampError};

const TITLE: &str = "Professional Services Agreement";

/// A services agreement with a table of fees: five pages, three signatures between the clauses and the schedules.
///
/// # Errors
///
/// [`StampError`] only if the crate was built from damaged font files.
pub fn services_agreement() -> Result<Sample, StampError> {
    let mut contract = Contract::begin(TITLE, "Contract no. NH-2041 · between the three parties named below")?;
    contract.paragraph("This agreement is made between");
    contract.point("(1)", "Northam Harbour Authority, of The Old Customs House, Northam (the “Customer”);");
    contract.point("(2)", "Tidewell Software Ltd, of 9 Ropewalk Yard, Leith (the “Contractor”); and");
    contract.point("(3)", "Tidewell Group plc, of the same address, the Contractor’s parent (the “Guarantor”).");
    contract.paragraph(
        "The Customer runs the port of Northam and wants a berth planning system to replace its paper schedules. The \
         Contractor has the skill to build it, and the Guarantor is willing to stand behind the Contractor. The parties \
         therefore agree as follows.",
    );
    for (number, (heading, clauses)) in CLAUSES.iter().enumerate() {
        contract.heading(&format!("{}.", number + 1), heading);
        for (part, text) in clauses.iter().enumerate() {
            contract.clause(&format!("{}.{}", number + 1, part + 1), text);
        }
    }
    contract.paragraph("Signed by the parties through their authorised representatives:");
    contract.signatures(&[
        Signer { company: "Northam Harbour Authority", name: "Margaret Oyelaran", role: "Harbour Master" },
        Signer { company: "Tidewell Software Ltd", name: "Callum Drever", role: "Director" },
        Signer { company: "Tidewell Group plc", name: "Ewa Kowalczyk", role: "Company Secretary" },
    ]);
    contract.schedule("Schedule 1", "Deliverables, dates and fees");
    contract.paragraph(
        "The Contractor shall deliver each of the following on or before its date. The fee falls due when the \
         Customer has accepted the deliverable under clause 4. All amounts are in pounds sterling and exclude value \
         added tax.",
    );
    contract.table(&[0.5, 2.6, 1.3, 1.0], &FEES);
    contract.paragraph(
        "Work that the Customer orders beyond these deliverables is charged by the day at the rates below. A day has \
         seven and a half hours; parts of a day are charged in proportion.",
    );
    contract.table(&[3.0, 1.4, 1.0], &RATES);
    contract.schedule("Schedule 2", "Service levels after acceptance");
    contract.paragraph(
        "During the twelve months of support the Contractor shall answer and resolve reports of faults within the \
         following times, counted within the hours from 07:00 to 19:00 on every day of the year.",
    );
    contract.table(&[0.8, 3.0, 1.0, 1.1], &LEVELS);
    contract.paragraph(
        "If in any calendar month the system is available for less than 99.5 percent of those hours, the Customer may \
         deduct five percent of the monthly support fee for each further half percent, up to a quarter of that fee.",
    );
    let (bytes, blocks) = contract.finish()?;
    Ok(Sample { file_name: "services-agreement.pdf", title: TITLE, bytes, blocks })
}

const FEES: [&[&str]; 7] = [
    &["No.", "Deliverable", "Due", "Fee"],
    &["D1", "Report on present berth scheduling, with interviews of pilots and agents", "week 6", "£18,400.00"],
    &["D2", "Functional specification, agreed with the Customer’s operations desk", "week 10", "£22,750.00"],
    &["D3", "Berth planning core with tide and draught rules for all eleven berths", "week 22", "£64,000.00"],
    &["D4", "Screens for the harbour office and read-only access for shipping agents", "week 28", "£41,300.00"],
    &["D5", "Transfer of three years of records, training and acceptance tests", "week 34", "£27,900.00"],
    &["", "Total", "", "£174,350.00"],
];

const RATES: [&[&str]; 5] = [
    &["Role", "Usual place of work", "Rate a day"],
    &["Lead engineer", "Leith or remote", "£780.00"],
    &["Engineer", "Leith or remote", "£615.00"],
    &["Trainer, including preparation", "Northam", "£540.00"],
    &["Project manager", "Northam or remote", "£690.00"],
];

const LEVELS: [&[&str]; 5] = [
    &["Class", "Meaning", "Answer", "Resolution"],
    &["1", "Berths cannot be planned, or plans are shown wrongly", "30 minutes", "4 hours"],
    &["2", "A function fails and there is no acceptable way around it", "2 hours", "1 day"],
    &["3", "A function fails and there is an acceptable way around it", "1 day", "10 days"],
    &["4", "Questions, and wishes for later versions", "3 days", "by agreement"],
];

const CLAUSES: [(&str, &[&str]); 12] = [
    (
        "Definitions",
        &[
            "“Deliverable” means an item of Schedule 1; “System” means all Deliverables together; “Fees” means the \
             amounts in Schedule 1; and “Working Day” means a day on which banks in Edinburgh are open for business.",
            "Headings are for convenience only. If a schedule and a clause disagree, the clause prevails.",
        ],
    ),
    (
        "The services",
        &[
            "The Contractor shall design, build, deliver and support the System with the skill and care to be expected \
             of an experienced supplier of software to ports.",
            "The Contractor shall name a project manager who can decide for it, and shall replace a member of its team \
             within ten Working Days if the Customer asks for it on reasonable grounds.",
            "The Contractor may use subcontractors with the Customer’s prior written consent and answers for them as for \
             itself.",
        ],
    ),
    (
        "What the Customer provides",
        &[
            "The Customer shall give the Contractor access to its premises, records and staff as far as they are needed, \
           and shall decide on questions put to it within five Working Days. Where the Customer is late, the dates in \
           Schedule 1 move by the delay that this causes.",
        ],
    ),
    (
        "Acceptance",
        &[
            "On delivery of a Deliverable the Customer has fifteen Working Days to test it against the specification. It \
             shall accept the Deliverable in writing or list its faults in enough detail to reproduce them.",
            "The Contractor shall correct listed faults at its own cost and deliver again, and the period begins anew. If \
             a Deliverable fails three times, the Customer may reject it and end this agreement under clause 11.",
            "A Deliverable that the Customer uses in its daily work for more than thirty days counts as accepted.",
        ],
    ),
    (
        "Fees and payment",
        &[
            "The Customer shall pay the Fee for each Deliverable within thirty days of a proper invoice. The Contractor \
             may invoice a Deliverable once it is accepted.",
            "The Fees include all expenses except travel to Northam beyond four visits a month, which the Customer shall \
             reimburse at cost against receipts.",
            "On late payments interest runs at four percent a year above the base rate of the Bank of England, from the \
             due date until payment.",
        ],
    ),
    (
        "Changes",
        &[
            "Either party may propose a change. The Contractor shall state within five Working Days what the change costs \
           and how it moves the dates. No change binds the parties until both have signed it.",
        ],
    ),
    (
        "Intellectual property",
        &[
            "The rights in everything written for the Customer under this agreement pass to the Customer when the Fee \
             for it is paid. What the Contractor had before, and its general tools, remain its own; the Customer may use \
             them without limit of time as part of the System.",
            "The Contractor shall hold the Customer harmless against claims that the System infringes the rights of \
             others, if it is told of them promptly and may conduct the defence.",
        ],
    ),
    (
        "Confidentiality and personal data",
        &[
            "Each party shall keep secret what it learns of the others’ affairs under this agreement, use it only to \
             perform it, and return or destroy it at its end.",
            "The Contractor shall process personal data only on the Customer’s documented instructions, keep it within \
             the United Kingdom or the European Economic Area, and report a breach of security within twenty-four hours.",
        ],
    ),
    (
        "Warranty and support",
        &["For twelve months from the acceptance of the last Deliverable the Contractor shall correct faults free of \
           charge and keep the service levels of Schedule 2. The warranty does not cover changes made by others."],
    ),
    (
        "Liability",
        &[
            "Nothing in this agreement limits liability for death or personal injury caused by negligence, for fraud, or \
             for anything else for which the law allows no limit.",
            "Subject to that, no party is liable for loss of profit or for indirect loss, and each party’s liability \
             under this agreement is limited to one hundred and fifty percent of the Fees.",
        ],
    ),
    (
        "Term and termination",
        &[
            "This agreement begins when the last party signs it and ends with the support period of clause 9.",
            "A party may end it at once by written notice if another commits a serious breach and does not remedy it \
             within twenty Working Days of being asked to, or becomes unable to pay its debts.",
            "At its end the Contractor shall hand over all work, finished or not, and help for up to twenty days, at the \
             rates of Schedule 1, to move the System to the Customer or to another supplier.",
        ],
    ),
    (
        "Guarantee and general provisions",
        &[
            "The Guarantor guarantees to the Customer that the Contractor will perform this agreement, and shall perform \
             it in the Contractor’s place within ten Working Days of a written demand if the Contractor does not.",
            "Notices are given in writing to the addresses above, marked for the attention of the person who signed.",
            "The schedules that follow the signatures are part of this agreement. This \
             agreement can be changed only in writing signed by all parties, is governed by the law of Scotland, and may be \
             signed electronically.",
        ],
    ),
];
