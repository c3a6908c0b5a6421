"""Refresh sizes, checksums and columns in data/datapackage.json; titles and licences stay.

A file below data/ that the package does not list, or lists and lacks, is an error.
"""

import csv
import hashlib
import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"
PACKAGE = DATA / "datapackage.json"


def files():
    """Paths of all data files, relative to data/."""
    found = (p for p in DATA.rglob("*") if p.is_file() and p != PACKAGE)
    return {p.relative_to(DATA).as_posix() for p in found if "__pycache__" not in p.parts}


def refresh(resource):
    """Bring one resource's size, checksum and columns up to date."""
    raw = (DATA / resource["path"]).read_bytes()
    resource["bytes"] = len(raw)
    resource["hash"] = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if resource.get("format") == "csv":
        lines = [line for line in raw.decode("utf-8").splitlines() if not line.startswith("#")]
        header = next(csv.reader(lines))
        known = {field["name"]: field for field in resource["schema"]["fields"]}
        fields = [known.get(name, {"name": name, "type": "any"}) for name in header]
        resource["schema"]["fields"] = fields
    return resource


def refreshed():
    """Return the package with every resource up to date."""
    package = json.loads(PACKAGE.read_text(encoding="utf-8"))
    package["resources"] = [refresh(resource) for resource in package["resources"]]
    return package


if __name__ == "__main__":
    listed = {r["path"] for r in json.loads(PACKAGE.read_text(encoding="utf-8"))["resources"]}
    if listed != files():
        sys.exit(f"datapackage.json and data/ differ in: {sorted(listed ^ files())}")
    text = json.dumps(refreshed(), indent=1, ensure_ascii=False)
    PACKAGE.write_text(text + "\n", encoding="utf-8")
