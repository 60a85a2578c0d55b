//! The settings of both services as their clap structs have them: a page of the documentation and a part of the chart's
//! schema are made of them, and nothing is told of a setting in any other words. `UPDATE=1 cargo test` writes both anew.

use std::any::TypeId;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Arg, Command, CommandFactory as _};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::pages::hold;

/// Settings that the chart makes of other values than `settings`, and of which.
const MADE: [(&str, &str); 25] = [
    ("COUNTERSIGN_LISTEN", "`service.port`, `listenAddress`"),
    ("COUNTERSIGN_METRICS_LISTEN", "`metrics.port`, `metrics.enabled`"),
    ("COUNTERSIGN_TLS_CERT", "`tls.certKey`"),
    ("COUNTERSIGN_TLS_KEY", "`tls.keyKey`"),
    ("COUNTERSIGN_TLS_CLIENT_CA", "`tls.clientCaKey`"),
    ("COUNTERSIGN_DATABASE_URL", "`secret.databaseUrlKey`, or `postgres`"),
    ("COUNTERSIGN_DATABASE_CA", "`databaseCa`, or `postgres`"),
    ("COUNTERSIGN_REPLICA_URL", "`secret.replicaUrlKey`"),
    ("COUNTERSIGN_MASTER_KEY", "`secret.masterKeyKey`"),
    ("COUNTERSIGN_MASTER_KEY_FORMER", "`secret.masterKeyFormerKey`"),
    ("COUNTERSIGN_MIGRATE", "`migrate.mode` does it another way"),
    ("COUNTERSIGN_SERVICE_TOKEN", "`serviceToken` of the chart"),
    ("COUNTERSIGN_OPERATOR_KEY", "`secret.operatorKeyKey`"),
    ("COUNTERSIGN_DOCUMENT_KEYS", "`secret.documentKeysKey`"),
    ("COUNTERSIGN_SEAL_PKCS12", "`seal.key`"),
    ("COUNTERSIGN_SEAL_PASSPHRASE", "`seal.passphraseKey` gives it as a file"),
    ("COUNTERSIGN_SEAL_PASSPHRASE_FILE", "`seal.passphraseKey`"),
    ("COUNTERSIGN_SEAL_TRUST", "`seal.trustKey`"),
    ("COUNTERSIGN_SEAL_FORMER", "`seal.formerKey`"),
    ("COUNTERSIGN_ENVELOPE_URL", "made of the release's name"),
    ("COUNTERSIGN_ENVELOPE_CA", "`envelopeTls.caKey`"),
    ("COUNTERSIGN_CLIENT_CERT", "`envelopeTls.certKey`"),
    ("COUNTERSIGN_CLIENT_KEY", "`envelopeTls.keyKey`"),
    ("COUNTERSIGN_SMTP_CA", "`smtpCa`"),
    ("COUNTERSIGN_SMTP_URL", "`secret.smtpUrlKey`"),
];

/// What a setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Takes {
    Switch,
    Number { least: i64, most: Option<i64> },
    Ratio,
    Choice(Vec<String>),
    Network,
    Text,
}

/// One setting of `serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub flag: String,
    pub variable: String,
    help: String,
    default: Option<String>,
    takes: Takes,
    is_list: bool,
    is_secret: bool,
    is_required: bool,
}

impl Setting {
    fn of(arg: &Arg) -> Self {
        let kind = arg.get_value_parser().type_id();
        let choices: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let is_network = kind == TypeId::of::<IpNet>();
        let numbers = [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<i64>()];
        let takes = match () {
            () if kind == TypeId::of::<bool>() => Takes::Switch,
            () if !choices.is_empty() => Takes::Choice(choices),
            () if numbers.iter().any(|number| kind == *number) => bounds(arg),
            () if kind == TypeId::of::<f64>() => Takes::Ratio,
            () if is_network => Takes::Network,
            () => Takes::Text,
        };
        let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
        let defaults = defaults.collect::<Vec<_>>().join(",");
        Self {
            flag: arg.get_long().unwrap().to_owned(),
            variable: arg.get_env().expect("each setting is a variable, too").to_str().unwrap().to_owned(),
            help: arg
                .get_long_help()
                .or(arg.get_help())
                .unwrap()
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            default: Some(defaults).filter(|text| !text.is_empty()),
            takes,
            is_list: arg.get_value_delimiter().is_some(),
            is_secret: arg.is_hide_env_values_set(),
            is_required: arg.is_required_set(),
        }
    }

    /// How the chart calls it.
    pub fn value(&self) -> String {
        let mut words = self.flag.split('-');
        let first = words.next().unwrap().to_owned();
        words.fold(first, |name, word| format!("{name}{}{}", word[..1].to_uppercase(), &word[1..]))
    }

    /// Where the chart makes it of, if not of `settings`.
    pub fn made(&self) -> Option<&'static str> {
        MADE.iter().find(|(variable, _)| *variable == self.variable).map(|(_, value)| *value)
    }

    fn line(&self) -> String {
        let default = match &self.default {
            Some(default) => format!("`{default}`"),
            None if self.is_required => "needed".to_owned(),
            None => "–".to_owned(),
        };
        let takes = match &self.takes {
            Takes::Switch => "`true`, `false`".to_owned(),
            Takes::Choice(choices) => choices.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", "),
            Takes::Number { least, most: Some(most) } => format!("{least} to {most}"),
            Takes::Number { least, most: None } => format!("{least} or more"),
            Takes::Ratio => "0.0 to 1.0".to_owned(),
            Takes::Network => "networks".to_owned(),
            Takes::Text if self.is_secret => "secret text".to_owned(),
            Takes::Text => "text".to_owned(),
        };
        let takes = if self.is_list { format!("{takes}, with commas") } else { takes };
        let value = self.made().map_or_else(|| format!("`settings.{}`", self.value()), str::to_owned);
        let help = self.help.replace('|', "\\|");
        format!("| `--{}`<br>`{}` | {default} | {takes} | {value} | {help} |\n", self.flag, self.variable)
    }

    /// A value that it takes, as the chart is given it and as the service gets it.
    pub fn sample(&self) -> (Value, String) {
        let (one, text): (Value, String) = match &self.takes {
            Takes::Switch => (true.into(), "true".into()),
            Takes::Number { least, most } => {
                let large = most.unwrap_or(100_000_000).max(*least);
                (large.into(), large.to_string())
            }
            Takes::Ratio => (0.05.into(), "0.05".into()),
            Takes::Choice(choices) => (choices[0].clone().into(), choices[0].clone()),
            Takes::Network => ("10.0.0.0/8".into(), "10.0.0.0/8".into()),
            Takes::Text => ("/some/text".into(), "/some/text".into()),
        };
        if self.is_list { (json!([one, one]), format!("{text},{text}")) } else { (one, text) }
    }

    /// As the chart's schema has it.
    fn schema(&self) -> Value {
        let mut item = match &self.takes {
            Takes::Switch => json!({ "type": "boolean" }),
            Takes::Number { least, most: Some(most) } => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Takes::Number { least, most: None } => json!({ "type": "integer", "minimum": least }),
            Takes::Ratio => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            Takes::Choice(choices) => json!({ "enum": choices }),
            Takes::Network => json!({ "type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$" }),
            Takes::Text => json!({ "type": "string" }),
        };
        if self.is_list {
            item = json!({ "type": "array", "items": item });
        }
        let usual = self.default.as_ref().map(|default| format!(" Usually {default}.")).unwrap_or_default();
        item["description"] = format!("{}: {}{usual}", self.variable, self.help).into();
        item
    }
}

/// The least and the most that a number may be, found by trying.
fn bounds(arg: &Arg) -> Takes {
    let command = Command::new("probe").no_binary_name(true).arg(arg.clone().env(Resettable::Reset).required(false));
    let flag = arg.get_long().unwrap();
    let takes = |number: i64| command.clone().try_get_matches_from([format!("--{flag}={number}")]).is_ok();
    let default = arg.get_default_values().first().map_or("1", |value| value.to_str().unwrap());
    let good: i64 = default.parse().unwrap();
    assert!(takes(good), "{flag} takes its default");
    // The last that is taken on the way from one that is to one that is not.
    let edge = |mut good: i64, mut bad: i64| {
        while good.abs_diff(bad) > 1 {
            let middle = i64::midpoint(good, bad);
            if takes(middle) { good = middle } else { bad = middle }
        }
        good
    };
    let most = i64::MAX;
    Takes::Number { least: edge(good, -1), most: (!takes(most)).then(|| edge(good, most)) }
}

/// The settings of `serve` of a service.
pub fn of(command: &Command) -> Vec<Setting> {
    let serve = command.find_subcommand("serve").unwrap();
    serve.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help")).map(Setting::of).collect()
}

pub fn envelope() -> Vec<Setting> {
    of(&countersign_envelope::config::Cli::command())
}

pub fn notifier() -> Vec<Setting> {
    of(&countersign_notifier::config::Cli::command())
}

/// Every setting of both services stands on a page, with its default, its bounds and the value of the chart that sets it.
#[test]
fn the_page_of_settings_is_what_the_services_take() {
    let (envelope_settings, notifier_settings) = (envelope(), notifier());
    let mut page = String::from(
        "# Settings\n\nOf `serve`: each is a flag and an environment variable, and a value of the chart under `envelope` or `notifier`. A flag wins over \
         its variable. A\nvalue that is wrong ends the process with status 2 and the name of the setting. Secrets belong into variables or files: arguments \
         can be seen by others.\n",
    );
    let shared: Vec<_> = envelope_settings.iter().filter(|it| notifier_settings.contains(it)).cloned().collect();
    let own = |settings: &[Setting]| settings.iter().filter(|it| !shared.contains(it)).cloned().collect::<Vec<_>>();
    let parts = [
        ("Of both services", shared.clone()),
        ("Of the envelope service", own(&envelope_settings)),
        ("Of the notifier", own(&notifier_settings)),
    ];
    for (title, settings) in parts {
        write!(page, "\n## {title}\n\n| setting | usually | takes | in the chart | meaning |\n|---|---|---|---|---|\n")
            .unwrap();
        settings.iter().for_each(|setting| page.push_str(&setting.line()));
    }
    page.push_str("\n## Other commands\n\n| command | what it does |\n|---|---|\n");
    for command in [countersign_envelope::config::Cli::command(), countersign_notifier::config::Cli::command()] {
        for task in command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "serve") {
            let about = task.get_about().unwrap();
            writeln!(page, "| `{} {}` | {about} |", command.get_name(), task.get_name()).unwrap();
        }
    }
    page.push_str(
        "\nThose that open the database take `--database-url` (COUNTERSIGN_DATABASE_URL) and, where keys are derived, `--master-key` \
         (COUNTERSIGN_MASTER_KEY) and `--master-key-former`;\n`--help` of each says the rest.\n",
    );
    hold("settings.md", &page);
}

pub fn schema_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helm/values.schema.json")
}

/// The chart takes every setting that it does not make of something else, by its own name, within its bounds.
#[test]
fn the_chart_takes_every_setting_by_its_name() {
    let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(schema_path()).unwrap()).unwrap();
    let kept = schema["$defs"].clone();
    for (name, settings) in [("envelopeSettings", envelope()), ("notifierSettings", notifier())] {
        let properties: serde_json::Map<_, _> = settings
            .iter()
            .filter(|setting| setting.made().is_none())
            .map(|setting| {
                assert!(!setting.is_secret, "{}: a secret comes out of a Secret", setting.variable);
                (setting.value(), setting.schema())
            })
            .collect();
        schema["$defs"][name] = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(schema_path(), format!("{}\n", serde_json::to_string_pretty(&schema).unwrap())).unwrap();
        return;
    }
    assert!(kept == schema["$defs"], "helm/values.schema.json is not what the services take; UPDATE=1 writes it anew");
}
