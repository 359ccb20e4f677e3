"""No cluster: the manifests that profiles/kubernetes leads to are sent to a stand-in, checked, and their commands executed."""

import re
import subprocess

import kubernetes.client
import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity
from kubernetes_server import KubernetesServer
from small import Tree

pytestmark = pytest.mark.slow

STAND_IN = """
import pathlib, sys
def papermill():
    pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text())
"""
TARGET = "results/crossfusion/luad/notebooks/2-embed.ipynb"


@pytest.fixture(scope="module")
def jobs(small_tree, tmp_path_factory) -> list[dict]:
    """The jobs of the first two stages, the second in two shards, each executed as its container would."""
    tree = small_tree(tmp_path_factory.mktemp("kubernetes"))
    (tree.folder / "papermill").mkdir()
    (tree.folder / "papermill/__init__.py").touch()
    (tree.folder / "papermill/__main__.py").write_text(STAND_IN)
    place = tmp_path_factory.mktemp("containers")

    def executed(job: dict) -> None:
        container = job["spec"]["template"]["spec"]["containers"][0]
        subprocess.run([*container["command"], *container["args"]], cwd=place, check=True, timeout=120)

    with KubernetesServer(executed) as server:
        server.write_config(place / "kubeconfig")
        code, said = Tree(tree.folder).run(
            *("--profile", "profiles/kubernetes", "--config", "shards=2", "--latency-wait", "1"),
            *("--seconds-between-status-checks", "1", "--retries", "0", "--", TARGET),
            KUBECONFIG=str(place / "kubeconfig"),
            PYTHONPATH="profiles/kubernetes",
        )
    assert code == 0, said[-6000:]
    assert (tree.folder / TARGET).exists()
    assert list(place.iterdir()) == [place / "kubeconfig"], "a job left something outside of the volume"
    return server.jobs


def run_of(job: dict) -> str:
    """The stage or shard that a job runs."""
    return re.search(r"run=([\w.-]+)'", job["spec"]["template"]["spec"]["containers"][0]["args"][1])[1]


def test_every_stage_and_shard_is_one_job(jobs):
    found = [run_of(job) for job in jobs]
    assert found[0] == "1-preprocess"
    assert sorted(found[1:3]) == ["2-embed.0of2", "2-embed.1of2"]
    assert found[3:] == ["2-embed"]


def test_manifests_are_of_the_schema_that_the_client_knows(jobs):
    """What has no place in the client's model of a Job, or is of another type, would not come back."""
    client = kubernetes.client.ApiClient()
    for job in jobs:
        model = client._ApiClient__deserialize(job, "V1Job")
        assert client.sanitize_for_serialization(model) == job
    odd = {"metadata": {"name": "a"}, "spec": {"template": {}, "nix": 1}}
    assert client.sanitize_for_serialization(client._ApiClient__deserialize(odd, "V1Job")) != odd


def test_names_and_volumes_hold_together(jobs, root):
    profile = yaml.safe_load((root / "profiles" / "kubernetes" / "config.yaml").read_text(encoding="utf-8"))
    claim, place = profile["kubernetes-volume-persistent-volumes"][0].split(":")
    names = [job["metadata"]["name"] for job in jobs]
    assert len(set(names)) == len(names)
    for job in jobs:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"])
        pod = job["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert pod["restartPolicy"] == "Never"
        assert container["image"] == profile["container-image"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(volumes) == set(mounts)
        assert volumes[claim]["persistentVolumeClaim"] == {"claimName": claim}
        assert mounts[claim] == place


def test_resources_are_those_of_the_parameters(jobs, root):
    asked = yaml.safe_load((root / "params" / "resources.yaml").read_text(encoding="utf-8"))
    for job in jobs:
        resources = job["spec"]["template"]["spec"]["containers"][0]["resources"]
        stage = run_of(job).partition(".")[0]
        wanted = asked["*/*"][stage] | asked["crossfusion/*"][stage]
        assert parse_quantity(resources["requests"]["memory"]) == wanted["mem_mb"] * 10**6
        gpus = wanted.get("gpus", 0)
        assert resources["limits"].get("nvidia.com/gpu") == (str(gpus) if gpus else None)
        for name, quantity in resources["requests"].items():
            assert parse_quantity(quantity) <= parse_quantity(resources["limits"][name])
