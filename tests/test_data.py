"""Every data file is listed with licence, source, units and the right checksum."""

import json

import pytest
from make_datapackage import PACKAGE, files, refreshed

RESOURCES = json.loads(PACKAGE.read_text(encoding="utf-8"))["resources"]


def test_every_file_is_listed_once():
    paths = [resource["path"] for resource in RESOURCES]
    assert len(paths) == len(set(paths))
    assert set(paths) == files()


def test_checksums_and_columns_are_up_to_date():
    assert refreshed()["resources"] == RESOURCES


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r["path"])
def test_resource_says_licence_source_and_units(resource):
    assert resource["title"]
    assert resource["licenses"][0]["name"]
    assert resource["sources"][0]["title"]
    for field in resource.get("schema", {}).get("fields", []):
        ending = field["name"].rpartition("_")[2].lower()
        if ending in {"kw", "kvar", "kva", "kv", "a", "pu", "ohm", "us", "pct"}:
            assert field.get("unit"), field["name"]
