"""Whether objects are what Kubernetes and the Prometheus operator take."""

import functools
import json

import kubernetes_validate
from cloudcoil.models.prometheus_operator import v1 as operator

from validation import need

# The oldest that knows all fields that are used, one between, the newest.
VERSIONS = ["1.30", "1.34", "1.37"]


def check_schemas(things):
    for thing in things:
        _check(json.dumps(thing, sort_keys=True))


@functools.cache
def _check(text):
    """Many objects are the same in several renderings."""
    thing = json.loads(text)
    if thing["apiVersion"] == "monitoring.coreos.com/v1":
        _check_custom(thing)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(thing, version, strict=True)


def _check_custom(thing):
    """By models made from the operator's own definitions. They take unknown fields, and lose
    them."""
    model = getattr(operator, thing["kind"]).model_validate(thing)
    known = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    need(known["spec"] == thing["spec"], f"{thing['kind']} has fields that the operator lacks")
