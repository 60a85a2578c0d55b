//! What a process is taken to want to know, once it tells.
#![allow(clippy::unwrap_used, missing_docs)]

use countersign_chassis::config::TelemetryConfig;
use countersign_chassis::telemetry::Telemetry;
use tracing::level_filters::LevelFilter;

/// What libraries say at their finest is not even put together: a call would cost several times its own spans.
#[test]
fn nothing_finer_than_the_settings_ask_for_is_made() {
    let _telemetry = Telemetry::start("a test", &TelemetryConfig::only_logs("warn,countersign=info")).unwrap();
    assert_eq!(LevelFilter::current(), LevelFilter::INFO);
}
