"""Where Slurm cannot be had, the reason is one sentence."""

import os
import shutil
import subprocess

import slurm as cluster


def test_only_root_can_install(monkeypatch):
    monkeypatch.setattr(cluster, "missing_programs", lambda: ["slurmd"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cluster.install() == "slurmd are not here, and only root can install slurm-wlm munge"


def test_slurmd_wants_root(monkeypatch):
    monkeypatch.setattr(cluster, "missing_programs", lambda: [])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cluster.install() == "slurmd wants root"


def test_no_apt(monkeypatch):
    monkeypatch.setattr(cluster, "missing_programs", lambda: ["slurmd"])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert cluster.install() == "slurmd are not here, and there is no apt-get to install them with"


def test_no_network(monkeypatch):
    said = "E: Unable to fetch some archives\n"
    monkeypatch.setattr(cluster, "missing_programs", lambda: ["slurmd"])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "apt-get")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 100, "", said))
    assert cluster.install() == "apt-get could not install slurm-wlm munge: E: Unable to fetch some archives"
