"""docs/deploy/kubernetes: what Kubernetes accepts, and what the product has. No cluster has run it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands, load_command_class

from consumers.registry import handler_of
from coupons.api.health import PROBES
from coupons.runtime.process import STOP_TIMEOUT_SEC
from couponsite.env_file import read_env_file
from tests.support.process import ROOT

FOLDER = ROOT / "docs" / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
FILES = [FOLDER / name for name in KUSTOMIZATION["resources"]]
NAMES_READ = set(re.findall(r'"([A-Z]+_[A-Z_]+)"', (ROOT / "couponsite" / "settings.py").read_text()))
LONG_RUNNING = {"web", "consumer", "keeper"}
Document = dict[str, Any]


def documents() -> list[Document]:
    return [document for file in FILES for document in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents() if document["kind"] == kind}


def pods() -> dict[str, Document]:
    """Each program's PodSpec."""
    templates = {name: found["spec"]["template"] for name, found in (of_kind("Deployment") | of_kind("Job")).items()}
    templates |= {name: found["spec"]["jobTemplate"]["spec"]["template"] for name, found in of_kind("CronJob").items()}
    return {name: template["spec"] for name, template in templates.items()}


PODS = pods()
CONTAINERS = {
    f"{name}/{container['name']}": container
    for name, pod in PODS.items()
    for container in [*pod.get("initContainers", []), *pod["containers"]]
}


def given_to(container: Document) -> set[str]:
    """The names of its own variables."""
    return {variable["name"] for variable in container.get("env", [])}


def manage_commands(container: Document) -> Iterator[list[str]]:
    words = container["command"]
    lines = words[-1].split(" && ") if words[0] == "sh" else [" ".join(words)]
    for line in lines:
        if line.startswith("python manage.py "):
            yield line.split()[2:]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_kubernetes_accepts_it(file: Path, tmp_path: Path) -> None:
    """KEDA's kinds are not among Kubernetes' own, so they have no schema here."""
    known = [each for each in yaml.safe_load_all(file.read_text()) if not each["apiVersion"].startswith("keda.sh/")]
    (tmp_path / file.name).write_text(yaml.safe_dump_all(known))
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", str(tmp_path / file.name)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed for resource") == len(known)


def test_every_file_is_named_by_the_kustomization() -> None:
    assert {file.name for file in FOLDER.glob("*.yaml")} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_command_is_the_product_s(name: str) -> None:
    container = CONTAINERS[name]
    commands = list(manage_commands(container))
    assert commands or container["command"] == ["bin/web"]
    assert (ROOT / "bin" / "web").exists()
    for command, *options in commands:
        load_command_class(get_commands()[command], command).create_parser("manage.py", command).parse_args(options)


def test_each_variable_is_a_setting() -> None:
    files = [FOLDER / "settings.env", FOLDER / "secrets.env.example"]
    named = {name for file in files for name in read_env_file(file)}
    named |= {name for container in CONTAINERS.values() for name in given_to(container)}

    assert len(named) > 12
    assert named <= NAMES_READ


def test_a_variable_is_set_in_one_place() -> None:
    names = [name for file in ("settings.env", "secrets.env.example") for name in read_env_file(FOLDER / file)]
    names += given_to(CONTAINERS["web/web"])

    assert len(names) == len(set(names))


def test_what_the_product_requires_is_given() -> None:
    required = {"DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "DJANGO_SECRET_KEY", "DJANGO_ALLOWED_HOSTS"}
    files = [FOLDER / "settings.env", FOLDER / "secrets.env.example"]

    assert required <= {name for file in files for name in read_env_file(file)}


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_container_reads_settings_and_secrets(name: str) -> None:
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    readme = (FOLDER / "README.md").read_text()
    sources = CONTAINERS[name]["envFrom"]

    assert [source["configMapRef"]["name"] for source in sources if "configMapRef" in source] == [generated["name"]]
    (secret,) = [source["secretRef"]["name"] for source in sources if "secretRef" in source]
    assert f"create secret generic {secret} --from-env-file=secrets.env" in readme
    assert generated["envs"] == ["settings.env"]


def test_ports_and_probes_are_the_web_server_s() -> None:
    web = CONTAINERS["web/web"]
    probes = {name: web[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    variables = {variable["name"]: variable["value"] for variable in web["env"]}
    (port,) = web["ports"]
    (service,) = of_kind("Service").values()

    assert {probe["path"] for probe in probes.values()} <= PROBES
    assert probes["livenessProbe"]["path"] == "/healthz", "a server that is down must restart no web process"
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert [each["targetPort"] for each in service["spec"]["ports"]] == [port["name"]]
    assert variables["WEB_PORT"] == str(port["containerPort"])
    assert variables["WEB_HOST"] == "0.0.0.0"  # noqa: S104
    assert web["readinessProbe"]["timeoutSeconds"] > settings.HEALTH_TIMEOUT_MS / 1000


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_may_do_nothing_but_run(name: str) -> None:
    container = CONTAINERS[name]

    assert container["image"] in [image["name"] for image in KUSTOMIZATION["images"]]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}  # noqa: S108
    assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_unprivileged_and_sees_no_foreign_variable(name: str) -> None:
    pod = PODS[name]
    (user,) = re.findall(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text())

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(user),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] in of_kind("ServiceAccount")
    assert pod["enableServiceLinks"] is False, "the Service `web` would set WEB_PORT to tcp://..."


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_a_program_waits_for_its_tables_and_ends_in_peace(name: str) -> None:
    pod = PODS[name]

    assert [container["command"][2:] for container in pod["initContainers"]] == [["migrate", "--check"]]
    assert pod["terminationGracePeriodSeconds"] >= STOP_TIMEOUT_SEC + 10


def test_selectors_select_the_pods() -> None:
    deployments = of_kind("Deployment")
    budgets = of_kind("PodDisruptionBudget")
    assert deployments.keys() == LONG_RUNNING
    assert budgets.keys() == {"web", "consumer"}
    for name, found in deployments.items():
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert found["spec"]["selector"]["matchLabels"] == labels
        for others in (budgets, of_kind("Service")):
            if name in others:
                selector = others[name]["spec"]["selector"]
                assert selector.get("matchLabels", selector) == labels


def test_one_keeper_runs_and_a_budget_leaves_room() -> None:
    deployments, budgets = of_kind("Deployment"), of_kind("PodDisruptionBudget")

    assert deployments["keeper"]["spec"]["replicas"] == 1
    assert budgets["web"]["spec"]["minAvailable"] < deployments["web"]["spec"]["replicas"]


@pytest.mark.parametrize(("job", "name"), [("retry_failed_coupons", "retry"), ("tidy_holds", "tidy")])
def test_a_job_runs_as_by_crontab(job: str, name: str) -> None:
    (schedule,) = [schedule for schedule, _, (command,) in settings.CRONJOBS if command == job]

    assert of_kind("CronJob")[name]["spec"]["schedule"] == schedule
    assert list(manage_commands(CONTAINERS[f"{name}/{name}"])) == [[job]]


def test_each_job_of_crontab_has_its_manifest() -> None:
    assert len(of_kind("CronJob")) == len(settings.CRONJOBS)


def test_keda_looks_at_the_product_s_group() -> None:
    (scaled,) = of_kind("ScaledObject").values()
    (trigger,) = scaled["spec"]["triggers"]
    given = read_env_file(FOLDER / "settings.env")

    assert scaled["spec"]["scaleTargetRef"]["name"] in of_kind("Deployment")
    assert "replicas" not in of_kind("Deployment")["consumer"]["spec"]
    assert trigger["metadata"]["topic"] == settings.TOPIC
    assert trigger["metadata"]["consumerGroup"] == handler_of(settings.TOPIC).group
    assert trigger["metadata"]["bootstrapServers"] == given["KAFKA_BOOTSTRAP_SERVERS"]
    assert scaled["spec"]["maxReplicaCount"] == int(given["COUPON_TOPIC_PARTITIONS"])
    assert trigger["authenticationRef"]["name"] in of_kind("TriggerAuthentication")


def test_the_network_lets_in_and_out_what_is_named() -> None:
    policies = {name: found["spec"] for name, found in of_kind("NetworkPolicy").items()}
    given = (FOLDER / "secrets.env.example").read_text() + (FOLDER / "settings.env").read_text()
    servers = {int(port) for port in re.findall(r"example\.test:(\d+)", given)}
    allowed = {port["port"] for rule in policies["to-servers"]["egress"] for port in rule["ports"]}

    assert policies["closed"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert allowed == servers | {53}
    assert policies["to-web"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "web"}
