"""deploy/, built and judged with the tools that will read it: kustomize, Kubernetes' schemas, CEL, promtool.

What is asserted of a cluster or a machine is asserted of built output, and each rule is shown to say no.
"""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import kubernetes_validate
import pytest
import yaml
from celpy import Environment, json_to_cel
from proxy import DEPLOY, needs
from repository import ROOT

from perennial.serving import metrics

OVERLAYS = ("staging", "production", "canary")
DIGEST = "sha256:" + "5e" * 32
Object = dict[str, Any]


# Kubernetes


def kustomize(folder: Path) -> list[Object]:
    done = subprocess.run(["kustomize", "build", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def _overlay(name: str) -> list[Object]:
    return kustomize(DEPLOY / "kubernetes/overlays" / name)


def overlay(name: str) -> list[Object]:
    return deepcopy(_overlay(name))


def read(name: str) -> list[Object]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def one(objects: list[Object], kind: str) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def containers(pod: Object) -> list[Object]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def faults(objects: list[Object]) -> list[str]:
    """Everything that is wrong with an environment, as `<where>: <what>`."""
    found = []

    def rule(holds: Any, fault: str) -> None:
        if not holds:
            found.append(fault)

    template = one(objects, "Deployment")["spec"]["template"]
    pod, labels = template["spec"], template["metadata"]["labels"]
    settings, space = one(objects, "ConfigMap"), one(objects, "Namespace")["metadata"]
    (service,) = [each for each in pod["containers"] if each["name"] == "service"]
    ports = {port["name"]: port["containerPort"] for port in service["ports"]}

    def selects(selector: Object) -> bool:
        return bool(selector) and selector.items() <= labels.items()

    # Who it is
    security = pod.get("securityContext", {})
    user = re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    rule(security.get("runAsNonRoot") is True, "pod: may run as root")
    rule(user and security.get("runAsUser") == int(user[1]), "pod: not the image's user")
    rule(security.get("seccompProfile", {}).get("type") == "RuntimeDefault", "pod: no seccomp profile")
    rule(pod.get("automountServiceAccountToken") is False, "pod: token mounted")
    account = one(objects, "ServiceAccount")
    rule(account.get("automountServiceAccountToken") is False, "account: token mounted")
    rule(pod.get("serviceAccountName") == account["metadata"]["name"], "pod: not its account")
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        rule(not pod.get(field), f"pod: {field}")
    rule(not any("hostPath" in volume for volume in pod["volumes"]), "pod: hostPath")
    rule(space["labels"].get("pod-security.kubernetes.io/enforce") == "restricted", "namespace: not restricted")
    for each in objects:
        own = each["metadata"].get("namespace")
        rule(own == (None if each["kind"] == "Namespace" else space["name"]), f"{each['kind']}: not in the namespace")

    # What runs
    images = {container["image"] for container in containers(pod)}
    rule(len(images) == 1, "pod: two images")
    for container in containers(pod):
        name, context = container["name"], container.get("securityContext", {})
        rule(re.fullmatch(r"[^@:]+@sha256:[0-9a-f]{64}", container["image"]), f"{name}: image not by digest alone")
        rule(context.get("readOnlyRootFilesystem") is True, f"{name}: writable root")
        rule(context.get("allowPrivilegeEscalation") is False, f"{name}: may gain privileges")
        rule(context.get("capabilities") == {"drop": ["ALL"]}, f"{name}: capabilities")
        rule(not context.get("privileged"), f"{name}: privileged")
        rule(not {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(context), f"{name}: overrides the pod")
        for what in ("requests", "limits"):
            given = set(container.get("resources", {}).get(what, {}))
            rule({"cpu", "memory"} <= given, f"{name}: no {what}")
        for source in container["envFrom"]:
            if "configMapRef" in source:
                rule(source["configMapRef"]["name"] == settings["metadata"]["name"], f"{name}: no such settings")
            else:
                rule(source["secretRef"]["optional"], f"{name}: asks for a secret nobody made")
    environment = {each["name"]: each["value"] for each in service["env"]}
    rule(environment.get("IMAGE_DIGEST") == service["image"].partition("@")[2], "service: another digest in /version")
    written = template["metadata"].get("annotations", {})
    rule({"perennial.dev/version", "perennial.dev/commit"} <= set(written), "pod: no lineage")
    cores = service.get("resources", {}).get("limits", {}).get("cpu")
    rule(settings["data"]["WEB_CONCURRENCY"] == cores, "service: workers and CPU differ")
    rule("://" in settings["data"].get("PREDICTION_STORE", ""), "settings: predictions go with the pod")
    for container in containers(pod):
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        rule(settings["data"]["LOG_DIR"] in mounts, f"{container['name']}: no place for the log")
    shared = [volume for volume in pod["volumes"] if volume["name"] == mounts_of(service).get("/dev/shm")]
    rule(shared and shared[0]["emptyDir"].get("medium") == "Memory", "service: /dev/shm is not memory")
    rule(all("sizeLimit" in volume.get("emptyDir", {}) for volume in pod["volumes"]), "pod: a volume without end")

    # How it starts and ends
    for probe, path in {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}.items():
        asked = service.get(probe, {}).get("httpGet", {})
        rule(asked.get("path") == path, f"service: {probe} does not ask {path}")
        rule(asked.get("port") in ports, f"service: {probe} asks no port of it")
    rule(ports.get("http") == 8080, "service: not the image's port")
    config = (ROOT / "src/perennial/serving/gunicorn_conf.py").read_text()
    drain = int(re.search(r"graceful_timeout = \d+, (\d+)", config)[1])  # type: ignore[index]
    wait = service.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    rule(wait >= 5, "service: ends while requests still come")
    rule(pod["terminationGracePeriodSeconds"] >= wait + drain + 30, "pod: killed before it has answered and shipped")
    update = one(objects, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    rule(update["maxUnavailable"] == 0, "deployment: fewer pods while it rolls")

    # Who finds it
    door = one(objects, "Service")
    rule(selects(door["spec"]["selector"]), "Service: selects no pod")
    rule(all(port["targetPort"] in ports for port in door["spec"]["ports"]), "Service: no such port")
    monitor = one(objects, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"]
    rule(wanted and wanted.items() <= door["metadata"]["labels"].items(), "ServiceMonitor: selects no Service")
    offered = {port["name"] for port in door["spec"]["ports"]}
    rule(all(end["port"] in offered for end in monitor["endpoints"]), "ServiceMonitor: no such port")
    rule([end["path"] for end in monitor["endpoints"]] == ["/metrics"], "ServiceMonitor: not /metrics")
    budget = one(objects, "PodDisruptionBudget")["spec"]
    rule(selects(budget["selector"]["matchLabels"]), "PodDisruptionBudget: selects no pod")
    scaler = one(objects, "HorizontalPodAutoscaler")["spec"]
    target = (scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    rolled = "Rollout" if any(each["kind"] == "Rollout" for each in objects) else "Deployment"
    rule(target == (rolled, one(objects, rolled)["metadata"]["name"]), "HorizontalPodAutoscaler: scales nothing")
    rule("replicas" not in one(objects, rolled)["spec"], f"{rolled}: replicas fight with the autoscaler")
    rule(scaler["minReplicas"] >= 2, "HorizontalPodAutoscaler: a single pod")
    rule(scaler["metrics"][0]["containerResource"]["container"] == "service", "HorizontalPodAutoscaler: no container")
    network = one(objects, "NetworkPolicy")["spec"]
    rule(selects(network["podSelector"]["matchLabels"]), "NetworkPolicy: selects no pod")
    rule(set(network["policyTypes"]) == {"Ingress", "Egress"}, "NetworkPolicy: one way only")
    came = [port for way in network["ingress"] for port in way["ports"]]
    rule([ports.get(p["port"], p["port"]) for p in came] == list(ports.values()), "NetworkPolicy: not the port it has")
    rule(all(way.get("from") for way in network["ingress"]), "NetworkPolicy: anyone may ask")
    goes = {port["port"] for way in network["egress"] for port in way.get("ports", [{"port": "any"}])}
    rule(goes == {53, 443}, "NetworkPolicy: it may ask more than names and the store")
    return found


def mounts_of(container: Object) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


CUSTOM = {"ServiceMonitor", "Rollout", "AnalysisTemplate", "ClusterImagePolicy"}  # no schema in Kubernetes itself


@needs("kustomize")
@pytest.mark.parametrize("folder", [*(f"kubernetes/overlays/{name}" for name in OVERLAYS), "policy"])
def test_kubernetes_knows_every_field(folder: str) -> None:
    for each in kustomize(DEPLOY / folder):
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@needs("kustomize")
def test_a_field_it_does_not_know_is_found() -> None:
    pod = one(overlay("staging"), "Deployment")
    pod["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@needs("kustomize")
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_environment_has_no_fault(name: str) -> None:
    assert faults(overlay(name)) == []


SPOILT = {
    "pod: may run as root": "pod.securityContext.runAsNonRoot = false",
    "pod: not the image's user": "pod.securityContext.runAsUser = 1000",
    "pod: no seccomp profile": "pod.securityContext.seccompProfile.type = Unconfined",
    "pod: token mounted": "pod.automountServiceAccountToken = true",
    "account: token mounted": "ServiceAccount.automountServiceAccountToken = true",
    "pod: not its account": "pod.serviceAccountName = default",
    "pod: hostNetwork": "pod.hostNetwork = true",
    "pod: hostPath": "pod.volumes.0.hostPath = {path: /}",
    "namespace: not restricted": "Namespace.metadata.labels = {}",
    "Service: not in the namespace": "Service.metadata.namespace = default",
    "pod: two images": f"shipper.image = other@{DIGEST}",
    "service: image not by digest alone": "service.image = 'ghcr.io/a/b:v1'",
    "shipper: image not by digest alone": "shipper.image = 'ghcr.io/a/b:v1'",
    "service: writable root": "service.securityContext.readOnlyRootFilesystem = false",
    "shipper: may gain privileges": "shipper.securityContext = {}",
    "service: capabilities": "service.securityContext.capabilities.add = [NET_RAW]",
    "service: privileged": "service.securityContext.privileged = true",
    "service: overrides the pod": "service.securityContext.runAsUser = 0",
    "service: no limits": "service.resources.limits = {cpu: '1'}",
    "service: no requests": "service.resources.requests = {memory: 1Gi}",
    "service: no such settings": "ConfigMap.metadata.name = settings-old",
    "service: another digest in /version": "service.env.0.value = none",
    "pod: no lineage": "Deployment.spec.template.metadata.annotations = {}",
    "service: workers and CPU differ": "ConfigMap.data.WEB_CONCURRENCY = '8'",
    "settings: predictions go with the pod": "ConfigMap.data.PREDICTION_STORE = /logs/store",
    "service: no place for the log": "ConfigMap.data.LOG_DIR = /app/logs",
    "service: /dev/shm is not memory": "pod.volumes.1.emptyDir.medium = ''",
    "pod: a volume without end": "pod.volumes.0.emptyDir = {}",
    "service: readinessProbe does not ask /readyz": "service.readinessProbe = {}",
    "service: livenessProbe asks no port of it": "service.livenessProbe.httpGet.port = web",
    "service: ends while requests still come": "service.lifecycle = {}",
    "pod: killed before it has answered and shipped": "pod.terminationGracePeriodSeconds = 30",
    "deployment: fewer pods while it rolls": "Deployment.spec.strategy.rollingUpdate.maxUnavailable = 1",
    "Service: selects no pod": "Service.spec.selector.tier = web",
    "Service: no such port": "Service.spec.ports.0.targetPort = web",
    "ServiceMonitor: selects no Service": "ServiceMonitor.spec.selector.matchLabels = {app: other}",
    "ServiceMonitor: no such port": "ServiceMonitor.spec.endpoints.0.port = metrics",
    "PodDisruptionBudget: selects no pod": "PodDisruptionBudget.spec.selector.matchLabels = {app: other}",
    "HorizontalPodAutoscaler: scales nothing": "HorizontalPodAutoscaler.spec.scaleTargetRef.name = other",
    "HorizontalPodAutoscaler: a single pod": "HorizontalPodAutoscaler.spec.minReplicas = 1",
    "Deployment: replicas fight with the autoscaler": "Deployment.spec.replicas = 3",
    "NetworkPolicy: selects no pod": "NetworkPolicy.spec.podSelector.matchLabels = {app: other}",
    "NetworkPolicy: one way only": "NetworkPolicy.spec.policyTypes = [Ingress]",
    "NetworkPolicy: not the port it has": "NetworkPolicy.spec.ingress.0.ports.0.port = 9090",
    "NetworkPolicy: anyone may ask": "NetworkPolicy.spec.ingress.0.from = []",
    "NetworkPolicy: it may ask more than names and the store": "NetworkPolicy.spec.egress.1 = {}",
}


@needs("kustomize")
@pytest.mark.parametrize("fault", SPOILT)
def test_a_fault_is_found(fault: str) -> None:
    where, _, value = SPOILT[fault].partition(" = ")
    first, *path, last = where.split(".")
    objects = overlay("staging")
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    short = {"pod": pod, "service": pod["containers"][0], "shipper": pod["initContainers"][0]}
    place: Any = short.get(first) or one(objects, first)
    for step in path:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = yaml.safe_load(value)
    assert fault in faults(objects)


@needs("kustomize")
def test_a_release_changes_one_environment_in_one_place(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    for name in ("staging", "production"):
        written = yaml.safe_load((DEPLOY / f"kubernetes/overlays/{name}/kustomization.yaml").read_text())
        (image,) = written["images"]
        assert set(image) == {"name", "newName", "digest"}
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"])
        assert set(written["commonAnnotations"]) == {"perennial.dev/version", "perennial.dev/commit"}
    overlays = tmp_path / "deploy/kubernetes/overlays"
    path = overlays / "staging/kustomization.yaml"
    text = re.sub(r"sha256:\w+", DIGEST, path.read_text())
    text = re.sub(r"(newName: ).*", r"\1ghcr.io/ada/churn", text)
    path.write_text(re.sub(r"(dev/commit: ).*", r"\g<1>'0123456'", re.sub(r"(dev/version: ).*", r"\1v1.2.0", text)))
    objects = kustomize(overlays / "staging")
    assert faults(objects) == []
    template = one(objects, "Deployment")["spec"]["template"]
    assert {container["image"] for container in containers(template["spec"])} == {f"ghcr.io/ada/churn@{DIGEST}"}
    assert template["metadata"]["annotations"]["perennial.dev/commit"] == "0123456"
    assert kustomize(overlays / "production") == overlay("production")
    path.write_text(path.read_text().replace(f"digest: {DIGEST}", "newTag: v1"))
    done = subprocess.run(["kustomize", "build", path.parent], capture_output=True, text=True)
    assert done.returncode != 0  # a tag has no digest to tell by /version


@needs("kustomize")
def test_production_is_staging_but_for_its_size_and_names() -> None:
    def plain(name: str) -> list[Object]:
        objects = overlay(name)
        for each in objects:
            each["metadata"].pop("annotations")
            each["metadata"].pop("namespace", None)
            each.pop("data", None)
        pod = one(objects, "Deployment")["spec"]["template"]
        pod["metadata"].pop("annotations")
        for container in containers(pod["spec"]):
            for what in ("image", "env", "resources", "envFrom"):
                container.pop(what, None)
        one(objects, "ConfigMap")["metadata"].pop("name")
        one(objects, "Namespace")["metadata"].pop("name")
        scaler = one(objects, "HorizontalPodAutoscaler")["spec"]
        del scaler["minReplicas"], scaler["maxReplicas"]
        return objects

    assert plain("staging") == plain("production")


def test_the_shipper_takes_the_log_away_when_the_pod_ends(tmp_path: Path) -> None:
    (base,) = read("kubernetes/base/deployment.yaml")
    (shipper,) = base["spec"]["template"]["spec"]["initContainers"]
    assert shipper["restartPolicy"] == "Always"  # a sidecar: ends after the service
    tools, log = tmp_path / "bin", tmp_path / "logs"
    tools.mkdir()
    log.mkdir()
    (tools / "python").symlink_to(sys.executable)
    (log / "predictions-20260102T030405-aa.open").write_text('{"left": "open"}\n')
    (log / "feedback-20260102T030405-bb.jsonl").write_text('{"left": "closed"}\n')
    environment = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
        "LOG_DIR": str(log),
        "PREDICTION_STORE": f"file://{tmp_path}/store",
    }
    process = subprocess.Popen(shipper["command"], env=environment, start_new_session=True)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    process.wait(20)
    os.killpg(process.pid, signal.SIGKILL)  # its sleep: in a pod it ends with its container
    shipped = {path.relative_to(tmp_path / "store").parent.as_posix() for path in (tmp_path / "store").rglob("*.jsonl")}
    assert shipped == {"predictions/dt=2026-01-02", "feedback/dt=2026-01-02"}
    assert not [*log.glob("*.open"), *log.glob("*.jsonl")]


# Canary


QUERIES = {each["name"]: each for each in read("kubernetes/overlays/canary/analysis.yaml")[0]["spec"]["metrics"]}


@needs("kustomize")
def test_the_canary_is_rolled_out_by_analysis() -> None:
    objects = overlay("canary")
    rollout = one(objects, "Rollout")["spec"]
    reference = rollout["workloadRef"]
    assert (reference["apiVersion"], reference["kind"]) == ("apps/v1", "Deployment")
    assert reference["name"] == one(objects, "Deployment")["metadata"]["name"]
    steps = rollout["strategy"]["canary"]["steps"]
    weights = [step["setWeight"] for step in steps if "setWeight" in step]
    assert weights == sorted(set(weights))
    assert weights[-1] < 100
    template = one(objects, "AnalysisTemplate")
    open_arguments = {each["name"] for each in template["spec"]["args"] if "value" not in each}
    analyses = [step["analysis"] for step in steps if "analysis" in step]
    assert len(analyses) == len(weights)
    for analysis in analyses:
        assert analysis["templates"] == [{"templateName": template["metadata"]["name"]}]
        given = {each["name"]: each["valueFrom"]["podTemplateHashValue"] for each in analysis["args"]}
        assert given == {"canary": "Latest", "stable": "Stable"}
        assert set(given) == open_arguments
    # Prometheus writes the label of the pods with underscores.
    assert one(objects, "ServiceMonitor")["spec"]["podTargetLabels"] == ["rollouts-pod-template-hash"]


def test_its_queries_ask_for_metrics_that_the_service_has() -> None:
    exported = {"model_requests_total": metrics.REQUESTS, "model_request_seconds_bucket": metrics.SECONDS}
    own = {"rollouts_pod_template_hash", "le"}
    asked = set()
    for each in QUERIES.values():
        query = each["provider"]["prometheus"]["query"]
        for name, labels in re.findall(r"(model_\w+)\{(.*?\}{0,2}\")\}", query):
            metric = exported[name]
            assert name in {metric._name + "_total", metric._name + "_bucket"}
            assert set(re.findall(r"(\w+)=~?\"", labels)) <= {*metric._labelnames, *own}
            asked.add(name)
    assert asked == set(exported)
    assert '("predict", service.predict)' in (ROOT / "src/perennial/serving/app.py").read_text()


def series(track: str, requests: float, errors: float = 0, seconds: float = 0.002) -> dict[str, float]:
    """Counters of one version, as increase a minute."""
    hashed = f'route="predict", rollouts_pod_template_hash="{track}"'
    given = {f'model_requests_total{{code="200", {hashed}}}': requests - errors}
    if errors:
        given[f'model_requests_total{{code="500", {hashed}}}'] = errors
    for edge in (*metrics.LATENCY, math.inf):
        given[f'model_request_seconds_bucket{{le="{"+Inf" if edge == math.inf else edge}", {hashed}}}'] = (
            requests if seconds <= edge else 0
        )
    return given


BUSY = series("old", 6000, errors=6)
CASES: dict[str, tuple[dict[str, float], dict[str, str]]] = {
    "as good": (
        BUSY | series("new", 2000, errors=2),
        {"requests": "success", "errors": "success", "p99": "success"},
    ),
    "no error, ever": (series("old", 6000) | series("new", 2000), {"errors": "success"}),
    "two percent fail": (BUSY | series("new", 2000, errors=40), {"errors": "failure", "p99": "success"}),
    "both fail alike": (series("old", 6000, errors=600) | series("new", 2000, errors=200), {"errors": "success"}),
    "ten times slower": (BUSY | series("new", 2000, seconds=0.2), {"errors": "success", "p99": "failure"}),
    "slower, but nobody minds": (BUSY | series("new", 2000, seconds=0.02), {"p99": "success"}),
    "both slow": (series("old", 6000, seconds=0.4) | series("new", 2000, seconds=0.4), {"p99": "success"}),
    "nobody asked": (BUSY | series("new", 0), {"requests": "neither", "errors": "neither", "p99": "neither"}),
    "not there": (BUSY, {"requests": "neither", "errors": "neither", "p99": "neither"}),
    "hardly asked": (BUSY | series("new", 10), {"requests": "neither", "errors": "success"}),
    "nothing to compare with": (series("new", 2000, errors=40), {"errors": "failure", "p99": "success"}),
}


@needs("promtool")
@pytest.mark.parametrize("case", CASES)
def test_prometheus_tells_a_good_canary_from_a_bad_one(case: str, tmp_path: Path) -> None:
    """Each condition, asked of Prometheus itself as 1 or 0. Where neither holds, the rollout waits for a person."""
    counters, expected = CASES[case]
    checks = []
    for name, verdict in expected.items():
        query = QUERIES[name]["provider"]["prometheus"]["query"]
        query = query.replace("{{args.canary}}", "new").replace("{{args.stable}}", "old")
        for which in ("success", "failure"):
            condition = QUERIES[name][f"{which}Condition"]
            if not (parts := re.fullmatch(r"len\(result\) > 0 && result\[0\] (\S+) (\S+)", condition)):
                assert (condition, verdict == "failure") == ("false", False)
                continue
            holds = f"sum(({query}) {parts[1]} bool {parts[2]}) or vector(0)"
            samples = [{"labels": "{}", "value": int(verdict == which)}]
            checks.append({"expr": holds, "eval_time": "20m", "exp_samples": samples})
    inputs = [{"series": name, "values": f"0+{step}x30"} for name, step in counters.items()]
    test = {"tests": [{"interval": "1m", "input_series": inputs, "promql_expr_test": checks}]}
    (tmp_path / "canary.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "canary.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Who pulls, and what is admitted


@needs("kustomize")
def test_argo_and_flux_pull_what_is_there() -> None:
    argo, flux = read("argocd/application.yaml"), read("flux/kustomization.yaml")
    source, *kustomizations = flux
    pulled = [(each["spec"]["source"]["path"], each["spec"]["source"]["targetRevision"]) for each in argo]
    for application in argo:
        assert (application["apiVersion"], application["kind"]) == ("argoproj.io/v1alpha1", "Application")
        assert application["spec"]["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
        assert application["spec"]["project"]
        assert application["spec"]["destination"]["server"]
    assert (source["apiVersion"], source["kind"]) == ("source.toolkit.fluxcd.io/v1", "GitRepository")
    assert source["spec"]["ref"] == {"branch": "main"}
    names = {each["metadata"]["name"] for each in kustomizations}
    for each in kustomizations:
        assert (each["apiVersion"], each["kind"]) == ("kustomize.toolkit.fluxcd.io/v1", "Kustomization")
        assert each["spec"]["sourceRef"] == {"kind": "GitRepository", "name": source["metadata"]["name"]}
        assert each["spec"]["prune"] is True
        assert {other["name"] for other in each["spec"].get("dependsOn", [])} <= names
    assert [(each["spec"]["path"].removeprefix("./"), "main") for each in kustomizations] == pulled
    for path, _ in pulled:
        assert kustomize(ROOT / path)


def test_one_repository_is_named_throughout() -> None:
    """What to replace in a fork: `owner/repo`, wherever it stands."""
    sources = [each["spec"]["source"]["repoURL"] for each in read("argocd/application.yaml")]
    sources.append(read("flux/kustomization.yaml")[0]["spec"]["url"])
    (policy,) = read("policy/provenance.yaml")
    authority = policy["spec"]["authorities"][0]
    identity = authority["keyless"]["identities"][0]
    repository = sources[0].removeprefix("https://github.com/").removesuffix(".git")
    assert {source.removesuffix(".git") for source in sources} == {f"https://github.com/{repository}"}
    assert policy["spec"]["images"] == [{"glob": f"ghcr.io/{repository.lower()}@*"}]
    assert identity == {
        "issuer": "https://token.actions.githubusercontent.com",
        "subject": f"https://github.com/{repository}/.github/workflows/release.yml@refs/heads/main",
    }
    assert [each["predicateType"] for each in authority["attestations"]] == ["https://slsa.dev/provenance/v1"]
    assert policy["spec"]["mode"] == "enforce"


def refusals(pod: Object) -> list[str]:
    """What the admission policy answers to a pod, by its own expressions."""
    policy = read("policy/digest.yaml")[0]["spec"]
    environment, scope = Environment(), {"object": json_to_cel({"spec": pod})}

    def value(expression: str) -> Any:
        return environment.program(environment.compile(expression.replace("variables.", ""))).evaluate(scope)

    for variable in policy["variables"]:
        scope[variable["name"]] = value(variable["expression"])
    return [each["message"] for each in policy["validations"] if not value(each["expression"])]


@needs("kustomize")
def test_the_cluster_admits_digests_and_refuses_tags() -> None:
    pod = one(overlay("staging"), "Deployment")["spec"]["template"]["spec"]

    def with_image(image: str, of: str = "containers") -> Object:
        return pod_of(good := deepcopy(pod), f"ghcr.io/a/b@{DIGEST}") | {of: [*good.get(of, []), {"image": image}]}

    def pod_of(spec: Object, image: str) -> Object:
        for container in containers(spec):
            container["image"] = image
        return spec

    assert refusals(pod_of(deepcopy(pod), f"ghcr.io/a/b@{DIGEST}")) == []
    assert refusals({"containers": [{"image": f"ghcr.io/a/b:v1@{DIGEST}"}]}) == []
    tag, nothing = (each["message"] for each in read("policy/digest.yaml")[0]["spec"]["validations"])
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for image in ("ghcr.io/a/b", "ghcr.io/a/b:v1", f"ghcr.io/a/b@{DIGEST[:-1]}", f"ghcr.io/a/b@{DIGEST}0"):
            assert refusals(with_image(image, kind)) == [tag], (kind, image)
    assert refusals(with_image(f"ghcr.io/a/b@sha256:{'0' * 64}")) == [nothing]
    _, binding = read("policy/digest.yaml")
    asked = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
    assert asked.items() <= one(overlay("staging"), "Namespace")["metadata"]["labels"].items()
    assert "Deny" in binding["spec"]["validationActions"]


# One machine


def compose() -> Object:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def machine_faults(machine: Object) -> list[str]:
    """Everything that is wrong with compose.yaml, as `<service>: <what>`."""
    known = dict(line.split("=", 1) for line in (DEPLOY / "compose.env").read_text().splitlines() if "=" in line)
    found = []
    for name, service in machine["services"].items():
        image, own = service["image"], name in ("champion", "challenger")
        filled = re.sub(r"\$\{(\w+)\}", lambda match: known.get(match[1], ""), image)
        pinned = r"[\w./-]+@sha256:[0-9a-f]{64}" if own else r"[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?(@sha256:[0-9a-f]{64})?"
        rules = {
            "image not pinned": re.fullmatch(pinned, filled),
            "writable root": service.get("read_only") is True,
            "capabilities": service.get("cap_drop") == ["ALL"] and not service.get("cap_add"),
            "may gain privileges": "no-new-privileges:true" in service.get("security_opt", []),
            "root": re.fullmatch(r"[1-9]\d*:\d+", service.get("user", "")),
            "no limits": {"mem_limit", "cpus", "pids_limit"} <= set(service),
            "no healthcheck": service.get("healthcheck", {}).get("test"),
            "privileged": not service.get("privileged"),
            "open to the network": name == "proxy"
            or all(port.startswith("127.0.0.1:") for port in service.get("ports", [])),
            "mounts what is not there": all(
                (DEPLOY / source).exists() if source.startswith(".") else source in machine["volumes"]
                for source in (volume.split(":")[0] for volume in service.get("volumes", []))
            ),
        }
        if own:
            environment = service["environment"]
            filled_digest = re.sub(r"\$\{(\w+)\}", lambda match: known.get(match[1], ""), environment["IMAGE_DIGEST"])
            log = [volume for volume in service.get("volumes", []) if volume.endswith(f":{environment['LOG_DIR']}")]
            rules |= {
                "another digest in /version": filled.endswith(f"@{filled_digest}"),
                "workers and CPU differ": environment["WEB_CONCURRENCY"] == service["cpus"],
                "a log that is not its own": log == [f"{name}-logs:{environment['LOG_DIR']}"],
                "open to callers": "ports" not in service,
            }
        found += [f"{name}: {fault}" for fault, holds in rules.items() if not holds]
    return found


def test_compose_knows_every_field() -> None:
    schemas = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validate(compose(), schema)
    spoilt = compose()
    spoilt["services"]["champion"]["read_onyl"] = True
    with pytest.raises(jsonschema.ValidationError, match="read_onyl"):
        jsonschema.validate(spoilt, schema)


def test_the_machine_has_no_fault() -> None:
    machine = compose()
    assert machine_faults(machine) == []
    assert machine["services"]["challenger"]["profiles"] == ["canary"]


@pytest.mark.parametrize(
    ("fault", "service", "change"),
    [
        ("image not pinned", "champion", {"image": "${IMAGE}:latest"}),
        ("image not pinned", "champion", {"image": "${IMAGE}@${FORGOTTEN_DIGEST}"}),
        ("image not pinned", "grafana", {"image": "docker.io/grafana/grafana:latest"}),
        ("writable root", "proxy", {"read_only": False}),
        ("capabilities", "proxy", {"cap_add": ["NET_ADMIN"]}),
        ("may gain privileges", "prometheus", {"security_opt": []}),
        ("root", "proxy", {"user": "0:0"}),
        ("no healthcheck", "grafana", {"healthcheck": {}}),
        ("open to the network", "prometheus", {"ports": ["9090:9090"]}),
        ("mounts what is not there", "proxy", {"volumes": ["./nginks:/etc/perennial"]}),
        ("a log that is not its own", "challenger", {"volumes": ["champion-logs:/logs"]}),
        ("workers and CPU differ", "champion", {"cpus": 8}),
        ("open to callers", "challenger", {"ports": ["127.0.0.1:1:8080"]}),
    ],
)
def test_a_fault_of_the_machine_is_found(fault: str, service: str, change: Object) -> None:
    machine = compose()
    machine["services"][service].update(change)
    assert f"{service}: {fault}" in machine_faults(machine)


@needs("promtool")
def test_prometheus_and_grafana_find_what_they_ask() -> None:
    command = ["promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (scraped,) = read("prometheus/prometheus.yml")[0]["scrape_configs"][0]["dns_sd_configs"]
    assert (scraped["names"], scraped["port"]) == (["champion", "challenger"], 8080)
    upstreams = (DEPLOY / "nginx/upstreams.conf").read_text()
    assert re.findall(r"server (\S+) resolve", upstreams) == ["champion:8080", "challenger:8080"]
    (source,) = read("grafana/provisioning/datasources/prometheus.yaml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = read("grafana/provisioning/dashboards/perennial.yaml")[0]["providers"]
    mounted = [volume.split(":")[1] for volume in compose()["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
