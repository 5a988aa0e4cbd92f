"""What a run records of the software that made it."""

import importlib.metadata
import os
import subprocess

import pytest

import bireal_keras
from bireal_keras.training import provenance


def test_versions_are_those_of_the_installed_packages():
    versions = provenance.versions()
    assert versions["bireal_keras"] == bireal_keras.__version__
    for key, package in (("larq", "larq"), ("numpy", "numpy"), ("tf_keras", "tf_keras")):
        assert versions[key] == importlib.metadata.version(package)


def test_the_git_state_is_this_packages(repository):
    if not (repository / ".git").exists():
        pytest.skip("needs a git checkout")
    state = provenance.git_state()
    git = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    assert state["revision"] == subprocess.check_output(git, text=True).strip()


def test_without_git_there_is_no_git_state(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    assert provenance.git_state() is None
