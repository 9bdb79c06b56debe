"""Whether objects are what Kubernetes takes."""

import functools
import json

import jsonschema
import kubernetes_validate

# The oldest that knows all fields that are used, one between, the newest.
VERSIONS = ["1.30", "1.34", "1.37"]


def shape(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required,
            "properties": properties}


def items(of):
    return {"type": "array", "minItems": 1, "items": of}


TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT}
# The part of the custom resources' schemas that is used here, by hand.
SPECS = {
    "PodMonitor": shape(
        ["selector", "podMetricsEndpoints"], jobLabel=TEXT,
        selector=shape(["matchLabels"], matchLabels=TEXTS),
        podMetricsEndpoints=items(shape(
            ["port"], port=TEXT, path=TEXT, scheme={"enum": ["http", "https"]}, interval=TEXT,
            tlsConfig={"type": "object"}, basicAuth={"type": "object"},
            relabelings=items(shape(["action"], action=TEXT, sourceLabels=items(TEXT),
                                    targetLabel=TEXT, regex=TEXT))))),
    "PrometheusRule": shape(["groups"], groups=items(shape(
        ["name", "rules"], name=TEXT,
        rules=items({"oneOf": [
            shape(["record", "expr"], record=TEXT, expr=TEXT, labels=TEXTS),
            shape(["alert", "expr"], alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS,
                  **{"for": TEXT})]})))),
}


@functools.cache
def _check(text):
    """Many objects are the same in several renderings."""
    thing = json.loads(text)
    if thing["apiVersion"] == "monitoring.coreos.com/v1":
        jsonschema.validate(thing["spec"], SPECS[thing["kind"]])
        return
    for version in VERSIONS:
        kubernetes_validate.validate(thing, version, strict=True)


def check_schemas(things):
    for thing in things:
        _check(json.dumps(thing, sort_keys=True))
