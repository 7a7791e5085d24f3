//! The JSON schema of scenario files, for editors, and the part of the guide derived from it.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::File;
use crate::faults::{self, Entry};
use crate::params::{Ms, NodeRef, When};

/// Returns the JSON schema of scenario files, which is the same in every build.
pub fn schema() -> String {
    let mut generator = SchemaGenerator::default();
    let schema = File::<crate::faults::Step>::json_schema(&mut generator);
    let mut schema = schema.to_value();
    if let Some(all) = schema.as_object_mut() {
        all.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        all.insert(
            "title".to_owned(),
            json!("A scenario of the Alys simulator"),
        );
        all.insert(
            "$defs".to_owned(),
            Value::Object(generator.take_definitions(true)),
        );
    }
    let text = serde_json::to_string_pretty(&sorted(schema)).expect("a schema is JSON");
    text + "\n"
}

/// Returns the words of an enum of scenario files, in the order of its variants.
pub fn words<T: JsonSchema>() -> Vec<String> {
    let schema = T::json_schema(&mut SchemaGenerator::default()).to_value();
    let variants = schema["oneOf"].as_array().cloned().unwrap_or_default();
    let word = |variant: Value| variant["const"].as_str().map(ToOwned::to_owned);
    let words: Option<Vec<String>> = variants.into_iter().map(word).collect();
    words
        .filter(|words| !words.is_empty())
        .expect("each variant of an enum of the format has a word and a comment")
}

/// Sorts the keys of every object, because their order depends on the features that other crates
/// enable in `serde_json`.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: std::collections::BTreeMap<String, Value> = map
                .into_iter()
                .map(|(word, value)| (word, sorted(value)))
                .collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Returns the schema of a fault's values.
fn values(kind: &Entry, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = (kind.schema)(generator).to_value();
    schema.as_object().cloned().unwrap_or_default()
}

/// Returns the schema of a step: `at`, `for`, `nodes` and `fault`, with that fault's values beside
/// them.
pub(super) fn of_step(generator: &mut SchemaGenerator) -> Schema {
    let at = generator.subschema_for::<When>();
    let lasts = generator.subschema_for::<Ms>();
    let nodes = generator.subschema_for::<Vec<NodeRef>>();
    let variants: Vec<Value> = faults::kinds()
        .map(|kind| {
            let fault = values(kind, generator);
            let mut properties = fault
                .get("properties")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            properties.insert("at".to_owned(), at.clone().to_value());
            properties.insert("for".to_owned(), lasts.clone().to_value());
            properties.insert("nodes".to_owned(), nodes.clone().to_value());
            properties.insert(
                "fault".to_owned(),
                json!({ "const": kind.name, "description": kind.sentence }),
            );
            let mut required = vec![json!("at"), json!("nodes"), json!("fault")];
            required.extend(
                fault
                    .get("required")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default(),
            );
            json!({
                "type": "object",
                "title": kind.name,
                "description": kind.sentence,
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            })
        })
        .collect();
    let words: Vec<&str> = faults::kinds().map(|kind| kind.name).collect();
    schemars::json_schema!({
        "description": "A fault with its time.",
        "type": "object",
        "properties": { "fault": { "enum": words } },
        "oneOf": variants,
    })
}

/// Returns the guide to the kinds of faults: for each a line with its name and description, and a
/// line with its values, required ones first.
pub fn guide_of_faults() -> String {
    let mut generator = SchemaGenerator::default();
    let mut lines = Vec::new();
    for kind in faults::kinds() {
        let fault = values(kind, &mut generator);
        lines.push(format!("    {:<20} {}", kind.name, kind.sentence));
        let names = |key: &str| fault.get(key).cloned().unwrap_or_default();
        let required: Vec<String> = serde_json::from_value(names("required")).unwrap_or_default();
        let all = names("properties").as_object().cloned().unwrap_or_default();
        let mut words: Vec<String> = required.clone();
        words.extend(
            all.keys()
                .filter(|word| !required.contains(word))
                .map(|word| format!("[{word}]")),
        );
        if !words.is_empty() {
            lines.push(format!("    {:<20} {}", "", words.join(" ")));
        }
    }
    lines.join("\n")
}
