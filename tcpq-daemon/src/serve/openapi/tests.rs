use std::collections::BTreeSet;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{
    model::{
        incident::{
            filter::Filter,
            record::{IncidentRecord, Summary},
        },
        self_test::SelfTest,
    },
    serve::{api::ListenersDto, incidents::IncidentsDto, router},
};

/// What is said of every path.
struct Told {
    path: &'static str,
    summary: &'static str,
    parameters: Value,
    responses: Value,
}

fn content(media_type: &str, schema: &Value) -> Value {
    json!({ "description": "What was asked for.", "content": { media_type: { "schema": schema } } })
}

fn text(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "text/plain": { "schema": { "type": "string" } } },
    })
}

fn not_now() -> Value {
    text(
        "Not now: the daemon starts, or cannot read the kernel side or the store. The text says why.",
    )
}

/// Each field of the filter is a parameter.
fn parameters(generator: &mut SchemaGenerator) -> Value {
    let schema = Filter::json_schema(generator).to_value();
    let fields = schema["properties"].as_object().unwrap();
    let of = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().unwrap().remove("description");
        json!({
            "name": name, "in": "query", "required": false,
            "description": description, "schema": schema,
        })
    };
    fields.iter().map(of).collect()
}

fn paths(generator: &mut SchemaGenerator) -> Vec<Told> {
    let json = "application/json";
    let listeners = generator.subschema_for::<ListenersDto>().to_value();
    let self_test = generator.subschema_for::<SelfTest>().to_value();
    let incidents = generator.subschema_for::<IncidentsDto>().to_value();
    let incident = generator.subschema_for::<IncidentRecord>().to_value();
    // The data of an event: in the stream it is text.
    generator.subschema_for::<Summary>();
    let filter = parameters(generator);
    let id = json!([{
        "name": "id", "in": "path", "required": true,
        "description": "An incident's id, or `last` for the newest.",
        "schema": { "type": "string" },
    }]);
    vec![
        Told {
            path: "/api/v1/listeners",
            summary: "The listeners with their figures, read now.",
            parameters: json!([]),
            responses: json!({ "200": content(json, &listeners), "503": not_now() }),
        },
        Told {
            path: "/api/v1/self-test",
            summary: "What became of the test of the hooks at the start.",
            parameters: json!([]),
            responses: json!({ "200": content(json, &self_test), "503": not_now() }),
        },
        Told {
            path: "/api/v1/incidents",
            summary: "Incidents, the newest first.",
            parameters: filter,
            responses: json!({
                "200": content(json, &incidents),
                "400": text("A parameter is not understood. The text says which."),
                "503": not_now(),
            }),
        },
        Told {
            path: "/api/v1/incidents/{id}",
            summary: "All of one incident.",
            parameters: id,
            responses: json!({
                "200": content(json, &incident),
                "404": text("There is none, or the id is no id."),
                "503": not_now(),
            }),
        },
        Told {
            path: "/api/v1/events",
            summary: "Incidents as they happen: server-sent events `incident_opened`, \
                      `incident_updated` and `incident_closed`, whose data is a Summary.",
            parameters: json!([]),
            responses: json!({ "200": content("text/event-stream", &json!({ "type": "string" })) }),
        },
        Told {
            path: "/api/v1/openapi.json",
            summary: "This document.",
            parameters: json!([]),
            responses: json!({ "200": content(json, &json!({ "type": "object" })) }),
        },
    ]
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|it| it.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let paths: serde_json::Map<String, Value> = paths(&mut generator)
        .into_iter()
        .map(|Told { path, summary, parameters, responses }| {
            let get =
                json!({ "summary": summary, "parameters": parameters, "responses": responses });
            (path.to_owned(), json!({ "get": get }))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tcpq",
            "version": "1",
            "license": { "name": "MIT OR Apache-2.0" },
            "description": "Served on the unix socket and on loopback addresses, and on others \
                            only with authentication. Fields are \
                            added without notice; one that changes its meaning or goes is of \
                            another version of the path. A figure that is not known is absent. \
                            Moments are milliseconds since 1970.",
        },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

#[test]
fn the_document_is_what_the_types_say() {
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    if std::env::var_os("TCPQ_BLESS").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    let known: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(known == document(), "docs/openapi.json is not of these types: TCPQ_BLESS=1 makes it");
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let document = document();
    let told: BTreeSet<_> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let routes = router::api(&router::tests::quiet());
    assert_eq!(told, routes.iter().map(|(path, _)| *path).collect());
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}
