//! The schema of the chart's values: closed, and with a word on each.

use serde_json::Value;

use crate::settings::schema_path;

use super::{chart, parsed};

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|it| it.strip_prefix("#/$defs/"));
    reference.map_or(schema, |name| &root["$defs"][name])
}

/// Walks the schema beside the usual values.
fn walk(root: &Value, schema: &Value, values: Option<&Value>, path: &str) {
    let inner = resolved(root, schema);
    let told = schema["description"].as_str().or(inner["description"].as_str());
    assert!(path.is_empty() || told.is_some_and(|told| told.ends_with('.')), "{path} is not described");
    let Some(properties) = inner["properties"].as_object() else {
        return assert!(values.is_some() || path == ".global", "{path} has no usual value in values.yaml");
    };
    assert_eq!(inner["additionalProperties"], false, "{path} takes anything");
    for (name, property) in properties {
        // Settings have the services' own defaults.
        if path.ends_with(".settings") || path.ends_with(".resources") {
            assert!(property["description"].is_string(), "{path}.{name} is not described");
            continue;
        }
        let value = values.map(|it| &it[name]).filter(|it| !it.is_null());
        walk(root, property, value, &format!("{path}.{name}"));
    }
}

#[test]
fn every_value_is_described_and_nothing_else_is_taken() {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema_path()).unwrap()).unwrap();
    let Some(values) = parsed(&std::fs::read(chart().join("values.yaml")).unwrap()) else { return };
    walk(&schema, &schema, Some(&values[0]), "");
}
