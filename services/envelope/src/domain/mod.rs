//! The rules of an envelope. No I/O, no clock, no protobuf, no SQL, no async: values in, values out.
//!
//! [`decide::decide`] says what a command does to an envelope; [`apply::apply`] does it; [`record::seal`] writes it down.

pub mod account;
pub mod address;
pub mod apply;
pub mod audit;
pub mod command;
pub mod credit;
pub mod decide;
pub mod drawn;
pub mod envelope;
pub mod event;
pub mod field;
pub mod fill;
pub mod id;
pub mod ingest;
pub mod keeping;
pub mod limits;
pub mod locality;
pub mod marker;
pub mod particulars;
pub mod personal;
pub mod recipient;
pub mod record;
pub mod refusal;
pub mod reminder;
pub mod replace;
pub mod routing;
pub mod status;
pub mod terms;
pub mod verify;
