"""The files around the library say the same as the library."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import flexlib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def lock() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


def pins() -> list[tuple[str, Version, str]]:
    """Return name, version and marker of every locked package."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?: ; ([^\\\n]+?))?\s*\\?$", lock(), re.M)
    return [(canonicalize_name(n), Version(v), m.strip()) for n, v, m in found]


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(r) for r in (*project["dependencies"], *(r for e in extras for r in e))]


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_lock_has_every_dependency_within_its_bounds(requirement: Requirement) -> None:
    locked = [v for name, v, _ in pins() if name == canonicalize_name(requirement.name)]
    assert locked, "not in the lock: run make lock"
    assert [v for v in locked if not requirement.specifier.contains(v)] == []


def test_lock_has_a_hash_for_each_pin_and_no_address() -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", lock())
    assert [b.split()[0] for b in blocks if "==" in b and "--hash=sha256:" not in b] == []
    assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links", lock())


def test_installed_packages_are_the_locked_ones() -> None:
    environment: dict[str, Any] = dict(default_environment())
    wrong = []
    for name, locked, marker in pins():
        if marker and not Marker(marker).evaluate(environment):
            continue
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # an extra that is not installed here
        if Version(installed) != locked:
            wrong.append(f"{name} {installed}, locked {locked}")
    assert wrong == []


def test_conda_environment_is_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["project"]["name"]
    assert environment["channels"] == ["conda-forge"]
    *plain, by_pip = environment["dependencies"]
    assert by_pip == {"pip": ["-r requirements.lock"]}
    asked = {r.name: str(r.specifier) for r in map(Requirement, plain)}
    assert asked["python"] == PROJECT["project"]["requires-python"]
    assert "pip" in asked


def test_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == flexlib.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert [a["name"] for a in citation["authors"]] == [
        a["name"] for a in PROJECT["project"]["authors"]
    ]
    assert {"message", "title", "type", "date-released"} <= citation.keys()


def test_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.MULTILINE)
    assert entries[0][0] == "Unreleased"
    assert entries[1][0] == flexlib.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert entries[1][1] == citation["date-released"]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_wheel_carries_the_library_and_the_data(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *offline, "-w", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"flexlib-{flexlib.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = [p.relative_to(ROOT).as_posix() for p in tracked()]
    modules = {n for n in ours if n.startswith("flexlib/")}
    data = {f"flexlib/{n}" for n in ours if n.startswith("data/")}
    assert modules | data <= names
    assert not [n for n in names if not n.startswith(("flexlib/", "flexlib-"))]


# A path of one machine; written in pieces, so that this file is not found by its own test.
LOCAL = re.compile(
    r"(?<![\w./:~-])/(?:" + "|".join(["home", "Users", "work", "root", "tmp", "private"]) + r")/\w"
    r"|[A-Z]:\\\\?Users"
    r"|file:/" + "/"
)


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        if "mathjax" in path.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if LOCAL.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_readme_fits_one_screen() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 70
    for target in ("make book", "make test", "make bench", "CITATION.cff", "LICENSE-TEXT"):
        assert target in "\n".join(lines)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", "\n".join(lines))
    assert [link for link in links if not (ROOT / link).exists()] == []
