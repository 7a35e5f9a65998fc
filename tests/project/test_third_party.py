"""What a user installs is listed, under licences that are allowed, and in a valid bill."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from email.message import Message
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression
from cyclonedx.validation.json import JsonStrictValidator

from stages import third_party
from tests.project.checkouts import ROOT, lay_out, make

TEXT = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
LOCKED = third_party.locked(LOCK)
THIRD_CLAUSE = re.compile(r"Neither\s+the\s+name|names\s+of\s+[\w\s]+may\s+not\s+be\s+used", re.I)


def listed() -> list[third_party.Package]:
    """Return the packages of the document."""
    rows = re.findall(r"^\| ([\w-]+) \| (\S+) \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
    return [
        third_party.Package(name, version, licence, "" if home == "–" else home.strip("<>"))
        for name, version, licence, home in rows[1:]  # without the heading
    ]


def installed(name: str) -> bool:
    """Say whether the locked version is there; CUDA's libraries are not with every torch."""
    try:
        return importlib.metadata.version(name) == LOCKED[name]
    except importlib.metadata.PackageNotFoundError:
        return False


def test_the_document_lists_what_is_locked_as_it_says_of_itself() -> None:
    assert {each.name: each.version for each in listed()} == LOCKED
    there = [each for each in listed() if installed(each.name)]
    assert len(there) > 50
    assert there == [third_party.look_up(each.name, each.version) for each in there]
    assert third_party.document(listed()) == TEXT, "run: make third-party"


def test_licences_are_allowed_and_in_the_words_of_spdx() -> None:
    by_name = [each for each in listed() if not each.licence.startswith("LicenseRef-")]
    assert [each for each in by_name if not is_expression(each.licence)] == []
    for each in listed():
        third_party.check(each.name, each.licence)


def test_nothing_is_named_or_read_that_is_not_used() -> None:
    assert third_party.NAMED.keys() <= LOCKED.keys()
    assert third_party.READ.keys() <= LOCKED.keys()


@pytest.mark.parametrize(
    "name", [name for name, what in third_party.READ.items() if what == "BSD-3-Clause"]
)
def test_what_was_read_is_in_the_package(name: str) -> None:
    """Of the BSD licences, those of three clauses have one that the others lack."""
    if not installed(name):
        pytest.skip(f"{name} {LOCKED[name]} is not installed")
    files = importlib.metadata.files(name) or []
    texts = [
        Path(str(each.locate())).read_text(encoding="utf-8")
        for each in files
        if re.search(r"dist-info/.*(LICEN|COPYING)", str(each), re.I)
    ]
    assert texts
    assert any(THIRD_CLAUSE.search(text) for text in texts)


@pytest.mark.parametrize(
    ("name", "licence", "said"),
    [
        ("someone", "", "someone names no licence"),
        ("someone", "GPL-3.0-only", "not allowed: 'GPL-3.0-only'"),
        ("someone", "MIT AND (Apache-2.0 OR AGPL-3.0-or-later)", "not allowed: 'AGPL"),
        ("someone", "BSD", "not allowed: 'BSD'"),
        ("someone", "LicenseRef-NVIDIA-Proprietary", "not allowed: 'LicenseRef"),
    ],
)
def test_other_licences_are_refused(name: str, licence: str, said: str) -> None:
    with pytest.raises(third_party.LicenceError, match=re.escape(said)):
        third_party.check(name, licence)


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ({"License-Expression": "MIT", "License": "other"}, "MIT"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"Classifier": "Topic :: Software Development"}, ""),
        ({}, ""),
    ],
)
def test_a_licence_is_what_metadata_say(headers: dict[str, str], licence: str) -> None:
    says = Message()
    for key, value in headers.items():
        says[key] = value
    assert third_party.licence_of("someone", says) == licence


def test_another_version_than_the_locked_one_is_refused() -> None:
    for name, version, said in (("numpy", "0.1", "is installed"), ("no-such", "1", "not inst")):
        with pytest.raises(third_party.LicenceError, match=said):
            third_party.look_up(name, version)


def hashes(component: object) -> set[str]:
    """Return the digests in a component of a bill, wherever they stand in it."""
    return set(re.findall(r'"content": "([0-9a-f]{64})"', json.dumps(component)))


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_holds_what_is_locked(tmp_path: Path) -> None:
    lay_out(tmp_path)
    shutil.copy(ROOT / "README.md", tmp_path)
    done = make(tmp_path, "sbom")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"dist/concordance.cdx.json lists {len(LOCKED)} packages\n"
    text = (tmp_path / "dist" / "concordance.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "concordance"
    assert {each["name"]: each["version"] for each in bill["components"]} == LOCKED
    blocks = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]
    wanted = {text.split("==")[0]: set(re.findall("[0-9a-f]{64}", text)) for text in blocks}
    assert {each["name"]: hashes(each["externalReferences"]) for each in bill["components"]} == (
        wanted
    )
