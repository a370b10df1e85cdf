"""The manifests give each process what it needs, and no more.

The rules hold for every workload that is in the files: a new one without them fails.
"""

import copy
import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.manifests import FOLDER, UNITS, Pod, compose, is_exact, kubernetes, pods, unit
from support.paths import ROOT

OBJECTS = kubernetes()
PODS = pods(OBJECTS)
POLICIES = [each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy"]
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text()

each_pod = pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod.name)
each_service = pytest.mark.parametrize("name", SERVICES)
each_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)


def part(pod: Pod) -> str:
    """Return what a pod is for; the policies of the network select it by this label."""
    return pod.labels["part"]


# --- Kubernetes -------------------------------------------------------------------------------

SECRETS = {
    "http": {"enrollment-http", "enrollment-tokens"},
    "migrate": {"enrollment-owner"},
    "prune": {"enrollment-worker"},
    "worker": {"enrollment-worker"},
}
"""The Secrets of each kind of pod. Only the migration gets the owner's URL."""

REACHES = {
    "http": {"dns", "redis"},
    "migrate": {"dns", "postgresql"},
    "prune": {"dns", "redis", "postgresql"},
    "worker": {"dns", "redis", "postgresql"},
}
REACHED_FROM = {
    "http": {("ingress-nginx", "http")},
    "migrate": set(),
    "prune": set(),
    "worker": {("monitoring", "metrics")},
}
"""The namespaces from which each kind of pod can be reached, and at which port."""

PORTS = {53: "dns", 6379: "redis", 5432: "postgresql"}


def weaknesses(pod: Pod) -> list[str]:
    """Return the rules that a pod breaks."""
    spec, context = pod.spec, pod.spec.get("securityContext", {})
    kept = {
        "no token of a service account": spec.get("automountServiceAccountToken") is False,
        "not root": context.get("runAsNonRoot") is True,
        "a user of its own": context.get("runAsUser", 0) >= 10_000,
        "a group of its own": context.get("runAsGroup", 0) >= 10_000,
        "a filter of system calls": context.get("seccompProfile") == {"type": "RuntimeDefault"},
        "a temporary folder": {"name": "tmp", "emptyDir": {}} in spec.get("volumes", ()),
        "no namespace of the host": not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(),
        "no folder of the host": all("hostPath" not in each for each in spec.get("volumes", ())),
    }
    for container in pod.containers():
        name, own = container["name"], container.get("securityContext", {})
        resources = container.get("resources", {})
        mounts = {each["mountPath"]: each for each in container.get("volumeMounts", ())}
        kept |= {
            f"{name}: an exact image": is_exact(container["image"]),
            f"{name}: no new privileges": own.get("allowPrivilegeEscalation") is False,
            f"{name}: no capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            f"{name}: its files are read-only": own.get("readOnlyRootFilesystem") is True,
            f"{name}: nothing weaker of its own": own.keys()
            <= {"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"},
            f"{name}: a temporary folder": mounts.get("/tmp", {}).get("name") == "tmp",  # noqa: S108
            f"{name}: requests": resources.get("requests", {}).keys() == {"cpu", "memory"},
            f"{name}: a limit": "memory" in resources.get("limits", {}),
            f"{name}: secrets by reference": all(
                "valueFrom" in each or not re.search("URL|PASSWORD|TOKEN|SECRET", each["name"])
                for each in container.get("env", ())
            ),
        }
    return [rule for rule, is_kept in kept.items() if not is_kept]


def test_every_kind_of_workload_is_looked_at() -> None:
    assert {part(pod) for pod in PODS} == SECRETS.keys()
    assert len(PODS) == 5
    kinds = {pod.name.split()[0] for pod in PODS}
    assert kinds == {"CronJob", "Deployment", "Job", "StatefulSet"}


@each_pod
def test_a_pod_has_least_privilege(pod: Pod) -> None:
    assert weaknesses(pod) == []


@each_pod
def test_a_rule_that_a_pod_breaks_is_found(pod: Pod) -> None:
    """Whatever is left out of a pod or its containers, one of the rules is broken."""
    for section in ("automountServiceAccountToken", "securityContext", "volumes"):
        weaker = copy.deepcopy(pod)
        del weaker.spec[section]
        assert weaknesses(weaker)
    for key in pod.spec["securityContext"].keys() - {"fsGroup", "fsGroupChangePolicy"}:
        weaker = copy.deepcopy(pod)
        del weaker.spec["securityContext"][key]
        assert weaknesses(weaker)
    for index, container in enumerate(pod.containers()):
        for section in ("securityContext", "resources", "volumeMounts"):
            weaker = copy.deepcopy(pod)
            del weaker.containers()[index][section]
            assert weaknesses(weaker)
        for key in container["securityContext"]:
            weaker = copy.deepcopy(pod)
            del weaker.containers()[index]["securityContext"][key]
            assert weaknesses(weaker)
    rooted = copy.deepcopy(pod)
    rooted.containers()[-1]["securityContext"]["runAsUser"] = 0
    assert weaknesses(rooted)
    literal = copy.deepcopy(pod)
    literal.containers()[-1]["env"] = [{"name": "ENROLL_DATABASE_URL", "value": "sqlite://"}]
    assert weaknesses(literal)


@each_pod
def test_a_pod_gets_only_the_secrets_that_it_needs(pod: Pod) -> None:
    assert pod.secrets() == SECRETS[part(pod)]
    for container in pod.containers():
        assert "envFrom" not in container, "a key that is added to a Secret later would come along"
        keys = {
            each["valueFrom"]["secretKeyRef"]["key"]
            for each in container.get("env", ())
            if "valueFrom" in each
        }
        if part(pod) == "http":
            assert "ENROLL_DATABASE_URL" not in keys
        if part(pod) == "migrate":
            assert keys == {"ENROLL_DATABASE_URL"}


def test_the_files_hold_no_secret() -> None:
    assert "Secret" not in {each["kind"] for each in OBJECTS}
    for path in (*FOLDER.glob("*.yaml"), *UNITS, FOLDER / "Dockerfile", FOLDER / "roles.sql"):
        assert not re.findall(r"://[\w-]*:(?!\$\{|[A-Z…]+@)[^@\s]+@", path.read_text()), path


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return whether a selector of Kubernetes selects a pod with these labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def test_the_network_is_closed_except_where_a_policy_opens_it() -> None:
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in POLICIES
    for policy in POLICIES:
        for peers, rule in (("to", "egress"), ("from", "ingress")):
            for opened in policy.get(rule, ()):
                assert opened[peers], "an empty list opens the network to everything"
                assert opened["ports"]
                for peer in opened[peers]:
                    if "ipBlock" in peer:
                        assert ipaddress.ip_network(peer["ipBlock"]["cidr"]).num_addresses == 1
                    else:
                        assert peer["namespaceSelector"]["matchLabels"]
                        assert peer["podSelector"]["matchLabels"]


@each_pod
def test_a_pod_reaches_and_is_reached_only_where_it_must(pod: Pod) -> None:
    mine = [policy for policy in POLICIES if selects(policy["podSelector"], pod.labels)]
    ports = {
        each["port"]
        for policy in mine
        for rule in policy.get("egress", ())
        for each in rule["ports"]
    }
    assert {PORTS[port] for port in ports} == REACHES[part(pod)]
    callers = {
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], each["port"])
        for policy in mine
        for rule in policy.get("ingress", ())
        for peer in rule["from"]
        for each in rule["ports"]
    }
    assert callers == REACHED_FROM[part(pod)]
    named = {port["name"] for each in pod.containers() for port in each.get("ports", ())}
    assert {port for _, port in callers} == named


def test_every_object_is_in_the_namespace_that_the_cluster_guards() -> None:
    (namespace,) = (each for each in OBJECTS if each["kind"] == "Namespace")
    level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == "restricted"
    name = namespace["metadata"]["name"]
    others = [each["metadata"] for each in OBJECTS if each is not namespace]
    assert all(metadata.get("namespace") == name for metadata in others)


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
def test_a_selector_selects_pods(kind: str) -> None:
    selectors = [each["spec"]["selector"] for each in OBJECTS if each["kind"] == kind]
    assert selectors
    for selector in selectors:
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= pod.labels.items() for pod in PODS)


def test_the_http_front_ends_calls_and_keeps_its_audit_log() -> None:
    (front,) = (each for each in OBJECTS if each["kind"] == "StatefulSet")
    spec = front["spec"]["template"]["spec"]
    (container,), (folder,) = spec["containers"], spec["initContainers"]
    assert spec["terminationGracePeriodSeconds"] == 30
    seconds = container["lifecycle"]["preStop"]["exec"]["command"][1]
    assert int(seconds) + 20 < spec["terminationGracePeriodSeconds"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    audit = Path(variables["ENROLL_HTTP_AUDIT"])
    assert folder["command"] == ["install", "--directory", "--mode=0700", str(audit)]
    (claim,) = front["spec"]["volumeClaimTemplates"]
    mount = {"name": claim["metadata"]["name"], "mountPath": str(audit.parent)}
    assert mount in container["volumeMounts"]
    assert mount in folder["volumeMounts"]
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    retention = front["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert set(retention.values()) == {"Retain"}
    assert ipaddress.ip_network(variables["ENROLL_HTTP_PROXIES"]).is_private


# --- Compose ----------------------------------------------------------------------------------

NETWORKS = {
    "broker": {"queue"},
    "database": {"storage"},
    "http": {"entry", "queue"},
    "migrate": {"storage"},
    "prune": {"queue", "storage"},
    "worker": {"queue", "storage"},
}
ROLES = {
    "broker": set(),
    "database": set(),
    "http": {"redis://producer"},
    "migrate": {"postgresql://enrollment_owner"},
    "prune": {"redis://worker", "postgresql://enrollment_worker"},
    "worker": {"redis://worker", "postgresql://enrollment_worker"},
}
"""The users with which each service logs in to Redis and PostgreSQL."""


@each_service
def test_a_service_has_least_privilege(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert is_exact(service["image"])
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert "/tmp" in service["tmpfs"]  # noqa: S108
    widening = {"cap_add", "devices", "ipc", "network_mode", "pid", "privileged", "userns_mode"}
    assert not widening & service.keys()
    assert all("docker.sock" not in volume for volume in service.get("volumes", ()))
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@each_service
def test_a_service_logs_in_as_the_role_that_it_needs(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    roles = {url.rpartition(":")[0] for url in map(before_password, environment.values()) if url}
    assert roles == ROLES[name]
    for variable, value in environment.items():
        if re.search("URL|PASSWORD|AUTH", variable):
            assert re.fullmatch(r"(\w+://\w+:)?\$\{[A-Z_]+(:\?[^}]+)?\}(@[\w.:/]+)?", value), (
                variable
            )


def before_password(value: str) -> str:
    return value.partition("${")[0] if "://" in value else ""


def test_only_the_migration_knows_the_owners_password() -> None:
    """The database is told it once, to create the role."""
    knowing = {
        n for n, each in SERVICES.items() if "OWNER_PASSWORD" in str(each.get("environment"))
    }
    assert knowing == {"database", "migrate"}
    knowing = {n for n, s in SERVICES.items() if "POSTGRES_PASSWORD" in str(s.get("environment"))}
    assert knowing == {"database"}


def test_the_networks_keep_the_front_from_the_database() -> None:
    assert {name: set(each["networks"]) for name, each in SERVICES.items()} == NETWORKS
    networks = compose()["networks"]
    outward = {name for name, each in networks.items() if not each.get("internal")}
    assert outward == {"entry"}
    assert not set(SERVICES["http"]["networks"]) & set(SERVICES["database"]["networks"])
    assert {name for name, each in SERVICES.items() if "ports" in each} == {"http"}


def test_the_http_service_ends_calls_and_keeps_its_audit_log() -> None:
    service = SERVICES["http"]
    assert service["stop_grace_period"] == "30s"
    audit = service["environment"]["ENROLL_HTTP_AUDIT"]
    assert service["volumes"] == [f"audit:{audit}"]
    assert "audit" in compose()["volumes"]
    # A new volume gets owner and mode from the image.
    assert re.search(
        rf"install --directory --owner=10001 --group=10001 --mode=0700 .*{audit}$",
        DOCKERFILE,
        flags=re.MULTILINE,
    )
    (address,) = compose()["networks"]["entry"]["ipam"]["config"]
    assert service["environment"]["ENROLL_HTTP_PROXIES"] == address["gateway"]
    assert service["secrets"] == ["tokens"]


# --- Images -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "exact"),
    [
        ("valkey/valkey:8-alpine", False),
        ("valkey/valkey:8.1-alpine", False),
        ("valkey/valkey:8.1.4-alpine", True),
        ("postgres:18-alpine", False),
        ("postgres:18.1-alpine3.22", True),
        ("postgres", False),
        ("postgres:latest", False),
        ("postgres:alpine", False),
        ("registry.example/enrollment-worker:0.1.0", True),
        (f"registry.example/enrollment-worker:0.1.0@sha256:{'0' * 64}", True),
    ],
)
def test_what_an_exact_version_is(image: str, exact: bool) -> None:
    assert is_exact(image) is exact


def test_the_image_is_built_from_an_exact_version_and_runs_without_root() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert is_exact(bases[0])
    assert re.findall(r"^USER (.+)$", DOCKERFILE, flags=re.MULTILINE) == ["10001:10001"]
    assert "useradd --system --uid 10001 --gid 10001" in DOCKERFILE
    last_run = DOCKERFILE.rindex("\nRUN ")
    assert last_run < DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nCMD ")


def test_the_manifests_name_the_image_of_this_version() -> None:
    ours = {container["image"] for pod in PODS for container in pod.containers()}
    ours |= {each["image"] for each in SERVICES.values() if "build" in each}
    assert ours == {f"enrollment-worker:{VERSION}"}
    assert f"-t enrollment-worker:{VERSION} ." in DOCKERFILE
    users = {pod.spec["securityContext"]["runAsUser"] for pod in PODS}
    users |= {int(s["user"].partition(":")[0]) for s in SERVICES.values() if "build" in s}
    assert users == {10001}


# --- systemd ----------------------------------------------------------------------------------

HARDENED = {
    "AmbientCapabilities": [""],
    "CapabilityBoundingSet": [""],
    "LockPersonality": ["yes"],
    "NoNewPrivileges": ["yes"],
    "PrivateDevices": ["yes"],
    "PrivateTmp": ["yes"],
    "ProtectClock": ["yes"],
    "ProtectControlGroups": ["yes"],
    "ProtectHome": ["yes"],
    "ProtectHostname": ["yes"],
    "ProtectKernelLogs": ["yes"],
    "ProtectKernelModules": ["yes"],
    "ProtectKernelTunables": ["yes"],
    "ProtectProc": ["invisible"],
    "ProtectSystem": ["strict"],
    "RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX"],
    "RestrictNamespaces": ["yes"],
    "RestrictRealtime": ["yes"],
    "RestrictSUIDSGID": ["yes"],
    "SystemCallArchitectures": ["native"],
    "SystemCallFilter": ["@system-service"],
    "UMask": ["0077"],
}
USERS = {"enrollment-http.service": "enrollment-http"}
"""The front has a user of its own: processes of one user can read each other's environment."""

FILES = {"enrollment-http.service": "/etc/enrollment/http.env"}


@each_unit
def test_a_unit_has_least_privilege(path: Path) -> None:
    settings = unit(path.read_text())
    assert {key: settings[key] for key in HARDENED} == HARDENED
    user = USERS.get(path.name, "enrollment")
    assert (settings["User"], settings["Group"]) == ([user], [user])
    assert settings["MemoryMax"]
    assert not {"ReadWritePaths", "SupplementaryGroups", "BindPaths"} & settings.keys()


@each_unit
def test_a_unit_reads_only_the_variables_of_its_role(path: Path) -> None:
    settings = unit(path.read_text())
    assert settings["EnvironmentFile"] == [FILES.get(path.name, "/etc/enrollment/worker.env")]
    assert "URL" not in "".join(settings["Environment"])


def test_the_unit_of_the_http_front_ends_calls_and_keeps_its_audit_log() -> None:
    settings = unit((FOLDER / "enrollment-http.service").read_text())
    assert settings["TimeoutStopSec"] == ["30"]
    assert settings["StateDirectory"] == ["enrollment-http"]
    assert settings["StateDirectoryMode"] == ["0700"]
    assert "ENROLL_HTTP_AUDIT=%S/enrollment-http" in settings["Environment"][0].split()
    assert "ENROLL_HTTP_PROXIES=127.0.0.1,::1" in settings["Environment"][0].split()
