"""The manifests for Kubernetes are valid, and fit how the service starts, drains and stops."""

import re
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from ticketing.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
VERSIONS: Final = ("1.30", "1.37")
"""The oldest and the newest version that the manifests are for."""
STOPPING: Final = 50
"""Seconds that a stop may take besides the drain."""


def documents() -> list[dict[str, Any]]:
    return [
        document
        for path in sorted(FOLDER.iterdir())
        for document in yaml.safe_load_all(path.read_text())
    ]


def named(kind: str, name: str = "ticketing") -> dict[str, Any]:
    (found,) = (
        each for each in documents() if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def pods() -> list[dict[str, Any]]:
    """Return the specs of the pods that serve, and of those that migrate."""
    makers = (named("Deployment"), named("Job", "ticketing-migrate"))
    return [maker["spec"]["template"]["spec"] for maker in makers]


def container() -> dict[str, Any]:
    (found,) = pods()[0]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(version: str) -> None:
    for document in documents():
        kubernetes_validate.validate(document, version, strict=True)


def test_the_check_sees_what_is_wrong() -> None:
    wrong = named("Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_examples_are_not_applied_with_the_folder() -> None:
    # `kubectl apply -f FOLDER` reads files with these endings.
    kinds = {
        document["kind"]
        for path in FOLDER.iterdir()
        if path.suffix in {".yaml", ".yml", ".json"}
        for document in yaml.safe_load_all(path.read_text())
    }
    assert kinds == {"ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "Job"}


def test_the_probes_use_the_documented_routes() -> None:
    page = " ".join((ROOT / "docs" / "operate.md").read_text().split())
    for path, name in (("/readyz", "readinessProbe"), ("/livez", "livenessProbe")):
        probe = container()[name]
        assert probe["httpGet"] == {"path": path, "port": "http"}
        told = re.search(
            rf"Probe `{path}` every (\d+) seconds with a timeout of (\d+) seconds?"
            r"[^`]*? (\d+) failures",
            page,
        )
        assert told, f"the page says no numbers for {path}"
        fields = ("periodSeconds", "timeoutSeconds", "failureThreshold")
        assert [probe[each] for each in fields] == list(map(int, told.groups()))


def test_a_pod_has_enough_time_to_stop() -> None:
    drain = int(named("ConfigMap")["data"]["TICKETING_DRAIN"])
    sleep = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pods()[0]["terminationGracePeriodSeconds"] >= sleep + drain + STOPPING
    assert drain > 2 * container()["readinessProbe"]["periodSeconds"]


def test_pods_run_as_nobody_in_particular_and_write_where_they_may() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    for pod in pods():
        rights = pod["securityContext"]
        assert rights["runAsNonRoot"] is True
        assert (rights["runAsUser"], rights["runAsGroup"]) == tuple(map(int, user.groups()))
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for each in pod["containers"]:
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "/tmp" in {mount["mountPath"] for mount in each["volumeMounts"]}  # noqa: S108
    # Other folders are not written to: the image has no log file.
    assert "TICKETING_LOG_FILE=off" in (ROOT / "Dockerfile").read_text()


def test_kubernetes_sets_no_variable_that_looks_like_a_setting() -> None:
    # For a Service named `ticketing` it would set TICKETING_PORT=tcp://...
    assert [pod["enableServiceLinks"] for pod in pods()] == [False, False]


def test_every_variable_of_a_pod_is_a_setting_and_has_its_source() -> None:
    given = {
        (each["kind"], each["metadata"]["name"]): each.get("data") or each["stringData"]
        for each in documents()
        if each["kind"] in {"ConfigMap", "Secret"}
    }
    for names in given.values():
        assert {name.removeprefix(PREFIX).lower() for name in names} <= set(Settings.model_fields)
    used = {
        (kind, reference["name"])
        for pod in pods()
        for each in pod["containers"]
        for source in each["envFrom"]
        for kind, reference in (
            ("ConfigMap", source.get("configMapRef")),
            ("Secret", source.get("secretRef")),
        )
        if reference is not None
    }
    assert used == set(given)


def test_the_settings_of_the_pods_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in named("ConfigMap")["data"].items():
        monkeypatch.setenv(name, value)
    assert Settings.load().workers == 2


def test_selectors_match_the_pods_that_serve() -> None:
    deployment = named("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert named("Service")["spec"]["selector"] == labels
    assert named("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    migrating = named("Job", "ticketing-migrate")["spec"]["template"]["metadata"]["labels"]
    assert migrating != labels
