"""What must hold of the objects."""

import copy
import re
import tomllib

import jsonschema
import pydantic
import yaml

from validation import need
from validation.render import CHART, ROOT, RULES, rule_copies

ONLY_WITH_ATTRIBUTION = {"SYS_PTRACE", "DAC_READ_SEARCH"}


def of_kind(things, kind):
    return next((thing for thing in things if thing["kind"] == kind), None)


def pod_of(things):
    return of_kind(things, "DaemonSet")["spec"]["template"]["spec"]


def unit_capabilities():
    unit = (ROOT / "deploy/systemd/tcpq.service").read_text()
    line = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)[1]
    return {name.removeprefix("CAP_") for name in line.split()}


def check_security(things, attribution=True, names=False):
    pod = pod_of(things)
    (container,) = pod["containers"]
    context = container["securityContext"]
    capabilities = unit_capabilities() - (set() if attribution else ONLY_WITH_ATTRIBUTION)
    need(context["capabilities"].get("drop") == ["ALL"], "not all capabilities are dropped")
    added = context["capabilities"]["add"]
    need(sorted(added) == sorted(capabilities), f"{added} are not the unit's {capabilities}")
    wanted = {"privileged": False, "allowPrivilegeEscalation": False,
              "readOnlyRootFilesystem": True, "seccompProfile": {"type": "RuntimeDefault"},
              "runAsUser": 0,
              "appArmorProfile": {"type": "Unconfined"} if attribution else None}
    for key, value in wanted.items():
        need(context.get(key) == value, f"{key} is {context.get(key)}")
    need(pod["hostPID"] == attribution, f"hostPID is {pod['hostPID']}")
    need(not pod["hostNetwork"] and "hostIPC" not in pod, "it shares more than the pid namespace")
    need(pod["automountServiceAccountToken"] is False, "a token is mounted")
    need((of_kind(things, "ClusterRole") is not None) == names, "a role, or none")
    of_host = {volume["name"] for volume in pod["volumes"] if "hostPath" in volume}
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    need(of_host == {"store", "netns"} | ({"cgroup"} if attribution else set()), f"{of_host}")
    need(writable == {"store", "run"}, f"{writable} are writable")
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    need(mounted == {volume["name"] for volume in pod["volumes"]}, "volumes are not the mounts")


def check_endpoint(things, scheme="HTTP", probes="httpGet"):
    (container,) = pod_of(things)["containers"]
    settings = tomllib.loads(of_kind(things, "ConfigMap")["data"]["tcpq.toml"])
    port = int(settings["web"]["listen-address"][0].removeprefix(":"))
    declared = [{"name": "metrics", "containerPort": port, "protocol": "TCP"}]
    need(container["ports"] == declared, "the port is not the one listened on")
    wanted = {"port": "metrics"}
    if probes == "httpGet":
        wanted |= {"path": "/readyz"} | ({"scheme": scheme} if scheme != "HTTP" else {})
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        need(container[name].get(probes) == wanted, f"{name}: {container[name]}")
    (rule,) = of_kind(things, "NetworkPolicy")["spec"]["ingress"]
    need(rule["ports"] == [{"port": port, "protocol": "TCP"}] and rule["from"], "network policy")
    monitor = of_kind(things, "PodMonitor")
    if monitor:
        need(monitor["spec"]["podMetricsEndpoints"][0]["scheme"].upper() == scheme, "PodMonitor")


def check_settings(things):
    text = (ROOT / "deploy/tcpq.toml").read_text()
    known = set(re.findall(r"^#([a-z.-]+) = ", text, re.MULTILINE))
    settings = tomllib.loads(of_kind(things, "ConfigMap")["data"]["tcpq.toml"])
    used = {f"{table}.{key}" for table, keys in settings.items() for key in keys}
    need(used <= known, f"{used - known} are no settings of tcpq serve")


def check_rules(things):
    wanted = yaml.safe_load(RULES.read_text())
    need(of_kind(things, "PrometheusRule")["spec"] == wanted, "not the rules of deploy/prometheus")


def check_copies():
    for path, text in rule_copies().items():
        need(path.read_text() == text, f"{path.relative_to(ROOT)} is old; run validate.py --write")


def check_versions(kustomized, charted):
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    images = [pod_of(things)["containers"][0]["image"] for things in (kustomized, charted)]
    need(images == [f"ghcr.io/tcpq/tcpq:{version}"] * 2, f"images {images}, workspace {version}")
    need({chart["version"], chart["appVersion"]} == {version}, f"chart, workspace {version}")


# What Helm adds: labels, and a checksum in the place of a hash in a name.
ADDED = re.compile(
    r"app\.kubernetes\.io/(instance|version|managed-by)|helm\.sh/chart|checksum/config")


def normal(thing):
    """Without what Helm or kustomize adds, and volumes in one order."""
    if isinstance(thing, list):
        return [normal(part) for part in thing]
    if isinstance(thing, str):
        return re.sub(r"^tcpq-[0-9a-z]{10}$", "tcpq", thing)
    if not isinstance(thing, dict):
        return thing
    kept = {key: normal(value) for key, value in thing.items() if not ADDED.fullmatch(key)}
    for key in {"volumes", "volumeMounts"} & kept.keys():
        kept[key].sort(key=lambda volume: volume["name"])
    return {key: value for key, value in kept.items() if (key, value) != ("annotations", {})}


def by_name(things):
    """All but the namespace, which Helm does not make."""
    kept = [normal(thing) for thing in things if thing["kind"] != "Namespace"]
    return {(thing["kind"], thing["metadata"]["name"]): thing for thing in kept}


def check_same(one, other):
    one, other = by_name(one), by_name(other)
    need(one.keys() == other.keys(), f"{set(one) ^ set(other)} are in one only")
    different = [kind for (kind, name), thing in one.items() if thing != other[kind, name]]
    need(not different, f"{different} differ")


def check_absent(things, absent):
    kinds = {thing["kind"] for thing in things}
    need(kinds.isdisjoint(absent), f"{kinds & absent} are there")


def check_notices(check, things, kind, change):
    """A check fails once something is broken."""
    broken = copy.deepcopy(things)
    change(of_kind(broken, kind))
    try:
        check(broken)
    except (AssertionError, jsonschema.ValidationError, pydantic.ValidationError):
        return
    raise AssertionError("nothing was noticed")
