#!/usr/bin/env python3
"""Checks what is shipped for Kubernetes: `ok NAME` or `FAILED NAME: reason` for each check.

Rendered by the programs kubectl and helm that a PyPI package carries; no cluster is needed.
With --write it makes the copies of the Prometheus rules anew instead. What to install:
requirements.txt.
"""

import sys
import tempfile

sys.dont_write_bytecode = True

from validation import checks
from validation.render import Renderer, rule_copies
from validation.schemas import VERSIONS, check_schemas

MONITORS = {"PodMonitor", "PrometheusRule"}
MONITORS_OFF = ("podMonitor.enabled=false", "prometheusRule.enabled=false")
TLS = ("tls.webConfigSecret=web", "tls.certificateSecret=certificate",
       "podMonitor.tlsConfig.serverName=tcpq")
# Those that are empty by default.
ALL_VALUES = (
    "fullnameOverride=other", "image.tag=next", "imagePullSecrets[0].name=registry",
    "config=[listener]\nmax = 64", "extraArgs[0]=--log.level=debug", "seLinuxOptions.type=spc_t",
    "podAnnotations.a=b", "podLabels.c=d", "podMonitor.labels.e=f", "podMonitor.interval=1m30s",
    "podMonitor.basicAuth.username.name=web", "podMonitor.basicAuth.username.key=user",
    "prometheusRule.labels.g=h", "port=9999")
# What wrong values must not pass the chart's schema.
WRONG_VALUES = ["attribution.enabled=maybe", "imagee.tag=x", "port=0", "podNames.resource=secrets"]


class Tally:
    """Runs checks, says how each ended, and counts."""

    passed = failed = 0

    def __call__(self, name, check, *args, **settings):
        try:
            result = check(*args, **settings)
        except Exception as error:  # noqa: BLE001 - any is this check's failure
            self.failed += 1
            reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
            print(f"FAILED {name}: {' '.join(reason.split())[:500]}", flush=True)
            return None
        self.passed += 1
        print(f"ok {name}", flush=True)
        return result


def renderings(renderer):
    """Each rendering's name, how to make it, and what holds of it."""
    no_owners, names, tls = {"attribution": False}, {"names": True}, {"scheme": "HTTPS"}
    return [
        ("kustomize", lambda: renderer.kustomize(), {}),
        ("kustomize-attribution-off", lambda: renderer.kustomize("attribution-off"), no_owners),
        ("kustomize-pod-names", lambda: renderer.kustomize("pod-names"), names),
        ("kustomize-without-operator", lambda: renderer.kustomize("without-operator"), {}),
        ("helm", lambda: renderer.chart(), {}),
        ("helm-attribution-off", lambda: renderer.chart("attribution.enabled=false"), no_owners),
        ("helm-pod-names", lambda: renderer.chart("podNames.enabled=true"), names),
        ("helm-monitors-off", lambda: renderer.chart(*MONITORS_OFF), {}),
        ("helm-tls", lambda: renderer.chart(*TLS), tls),
        ("helm-client-certificates", lambda: renderer.chart(*TLS, "tls.clientCertificates=true"),
         {**tls, "probes": "tcpSocket"}),
        ("helm-all-values", lambda: renderer.chart(*ALL_VALUES), {}),
    ]


def check_rendering(tally, name, things, holds):
    endpoint = {key: value for key, value in holds.items() if key in ("scheme", "probes")}
    security = {key: value for key, value in holds.items() if key not in endpoint}
    tally(f"{name}-schemas", check_schemas, things)
    tally(f"{name}-security", checks.check_security, things, **security)
    tally(f"{name}-endpoint", checks.check_endpoint, things, **endpoint)
    tally(f"{name}-settings", checks.check_settings, things)


def check_together(tally, rendered):
    tally("versions-agree", checks.check_versions, rendered["kustomize"], rendered["helm"])
    tally("rules-are-copies", checks.check_copies)
    for way in ("kustomize", "helm"):
        tally(f"{way}-rules", checks.check_rules, rendered[way])
    for one, other in [("kustomize", "helm"),
                       ("kustomize-attribution-off", "helm-attribution-off"),
                       ("kustomize-pod-names", "helm-pod-names"),
                       ("kustomize-without-operator", "helm-monitors-off")]:
        tally(f"{one}-equals-{other}", checks.check_same, rendered[one], rendered[other])
    for name in ("kustomize-without-operator", "helm-monitors-off"):
        tally(f"{name}-absent", checks.check_absent, rendered[name], MONITORS)


def broken():
    """Ways to break the objects: a name, the check that must fail, a kind, the change."""
    def container(thing):
        return thing["spec"]["template"]["spec"]["containers"][0]

    def context(thing):
        return container(thing)["securityContext"]

    def endpoint(thing):
        return thing["spec"]["podMetricsEndpoints"][0]

    def rule(thing):
        return thing["spec"]["groups"][0]["rules"][0]

    return [
        ("a-port-that-is-text", check_schemas, "DaemonSet",
         lambda it: container(it)["ports"][0].update(containerPort="metrics")),
        ("an-unknown-field", check_schemas, "DaemonSet",
         lambda it: container(it).update(volumeMount=[])),
        ("no-selector", check_schemas, "DaemonSet", lambda it: it["spec"].pop("selector")),
        ("a-misspelt-endpoint", check_schemas, "PodMonitor",
         lambda it: endpoint(it).update(ports="x")),
        ("an-unknown-scheme", check_schemas, "PodMonitor",
         lambda it: endpoint(it).update(scheme="gopher")),
        ("a-rule-without-expr", check_schemas, "PrometheusRule", lambda it: rule(it).pop("expr")),
        ("another-rule", checks.check_rules, "PrometheusRule",
         lambda it: rule(it).update(expr="1")),
        ("one-capability-more", checks.check_security, "DaemonSet",
         lambda it: context(it)["capabilities"]["add"].append("SYS_MODULE")),
        ("nothing-dropped", checks.check_security, "DaemonSet",
         lambda it: context(it)["capabilities"].pop("drop")),
        ("privileged", checks.check_security, "DaemonSet",
         lambda it: context(it).update(privileged=True)),
        ("a-writable-mount", checks.check_security, "DaemonSet",
         lambda it: container(it)["volumeMounts"][-1].pop("readOnly")),
        ("another-port", checks.check_endpoint, "NetworkPolicy",
         lambda it: it["spec"]["ingress"][0]["ports"][0].update(port=80)),
        ("an-unknown-setting", checks.check_settings, "ConfigMap",
         lambda it: it["data"].update({"tcpq.toml": "web.no-such = 1"})),
    ]


def every(tally, renderer):
    print(f"note rendered by {renderer.versions()}")
    print(f"note schemas of Kubernetes {', '.join(VERSIONS)}, and of the Prometheus operator 0.80")
    print("note not run: a cluster, the operator, the image")
    tally("helm-lint", renderer.lint)
    rendered = {}
    for name, make, holds in renderings(renderer):
        rendered[name] = tally(f"{name}-renders", make)
        if rendered[name]:
            check_rendering(tally, name, rendered[name], holds)
    check_together(tally, rendered)
    for value in WRONG_VALUES:
        tally(f"refused-value-{value}", renderer.chart, value, fails=True)
    for name, check, kind, change in broken():
        for way in ("kustomize", "helm"):
            tally(f"noticed-{name}-{way}", checks.check_notices, check, rendered[way], kind, change)
    tally("noticed-a-difference", checks.check_notices,
          lambda things: checks.check_same(things, rendered["helm"]), rendered["kustomize"],
          "DaemonSet", lambda it: it["spec"]["template"]["spec"].update(hostNetwork=True))


def main():
    if sys.argv[1:] == ["--write"]:
        for path, text in rule_copies().items():
            path.write_text(text)
        return 0
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        renderer = tally("programs-unpack", Renderer, folder)
        if renderer:
            every(tally, renderer)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
