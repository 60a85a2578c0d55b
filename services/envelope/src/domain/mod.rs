//! The rules of an envelope. No I/O, no clock, no protobuf, no SQL, no async: values in, values out.
//!
//! [`decide::decide`] says what a command does to an envelope; [`apply::apply`] does it; [`record::seal`] writes it down.

pub mod apply;
pub mod command;
pub mod decide;
pub mod envelope;
pub mod event;
pub mod field;
pub mod id;
pub mod limits;
pub mod personal;
pub mod record;
pub mod refusal;
pub mod routing;
pub mod status;
