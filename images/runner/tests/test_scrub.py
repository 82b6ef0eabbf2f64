"""Values go, in whatever form they are written; everything else stays."""

import base64
import json
import os
import subprocess
import sys
import urllib.parse
import zipfile
from pathlib import Path

import pytest

from conftest import HERE, KEY
from daypass_runner.scrub import MARK, Scrubber, clean_folder, values_in

PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"Incorrect API key provided: {KEY}.",
        json.dumps({"error": KEY}),
        json.dumps({"body": json.dumps({"error": KEY})}),
        repr({"error": KEY}),
        urllib.parse.urlencode({"key": KEY}),
        urllib.parse.quote(KEY),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        base64.b64encode(f"api:{KEY}".encode()).decode(),
        base64.b64encode(f"user:{KEY}:more".encode()).decode(),
        base64.b64encode(f"Bearer {KEY}".encode()).decode(),
        KEY.encode().hex(),
        f"it begins with {KEY[:14]}...",
    ],
)
def test_every_form_is_found(text: str) -> None:
    scrubber = Scrubber([KEY])
    clean = scrubber.text(text)
    assert MARK in clean
    assert KEY[3:11] not in clean
    assert scrubber.bytes(text.encode()) == clean.encode()
    assert scrubber.text("nothing to find here") == "nothing to find here"


def test_of_two_values_the_longer_one_goes_whole() -> None:
    scrubber = Scrubber(["sk-0123456789", "sk-0123456789-and-more"])
    assert scrubber.text("a sk-0123456789-and-more b sk-0123456789 c") == f"a {MARK} b {MARK} c"


def test_parts_of_a_value_are_secret_too() -> None:
    document = json.dumps({"type": "account", "private_key": PEM})
    clean = Scrubber([document]).text("line: AQEFAASCBKcwggSjAgEAAoIB\n" + PEM)
    assert "AQEF" not in clean
    assert "MIIE" not in clean


def test_a_document_stays_one() -> None:
    scrubber = Scrubber(['a"b\\c{}', "truefalse"])
    data = json.dumps({"truefalse": [1, {"x": 'say a"b\\c{} now', "y": None}], "z": 0.5}).encode()
    assert json.loads(scrubber.file(data)) == {MARK: [1, {"x": f"say {MARK} now", "y": None}], "z": 0.5}
    untouched = b'{ "kept": "as it is" }'
    assert scrubber.file(untouched) is untouched


def test_which_variables_are_secret() -> None:
    environment = {"MY_API_KEY": "0123456789", "MAX_TOKENS": "1024", "PLAIN": "abcdefgh", "TOLD": "abcd", "EMPTY": ""}
    assert sorted(values_in(environment, ["TOLD", "EMPTY", "ABSENT"])) == ["0123456789", "abcd"]


def test_files_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/log.txt").write_text(f"a\n{KEY}\n")
    (tmp_path / "other").write_bytes(b"\xff\x00" + KEY.encode())
    (tmp_path / "cut.eval").write_bytes(b"PK\x03\x04" + KEY.encode())
    assert clean_folder(tmp_path, Scrubber([KEY])) == 3
    assert (tmp_path / "inner/log.txt").read_text() == f"a\n{MARK}\n"
    assert (tmp_path / "other").read_bytes() == b"\xff\x00" + MARK.encode()
    # Nobody can read it, so nobody can say what it holds.
    assert not (tmp_path / "cut.eval").exists()
    assert clean_folder(tmp_path, Scrubber([KEY])) == 0


@pytest.mark.parametrize(("field", "value"), [("flags", 1), ("method", 99)])
def test_a_log_that_cannot_be_cleaned_goes(tmp_path: Path, field: str, value: int) -> None:
    """Encrypted, or packed in a way that nobody knows: the library refuses it with errors of its own."""
    log = tmp_path / "log.eval"
    with zipfile.ZipFile(log, "w") as archive:
        archive.writestr("inside", KEY)
    data = bytearray(log.read_bytes())
    for header, places in ((b"PK\x03\x04", {"flags": 6, "method": 8}), (b"PK\x01\x02", {"flags": 8, "method": 10})):
        data[data.index(header) + places[field]] = value
    log.write_bytes(data)
    (tmp_path / "next.txt").write_text(KEY)
    assert clean_folder(tmp_path, Scrubber([KEY])) == 2
    assert not log.exists()
    assert (tmp_path / "next.txt").read_text() == MARK


def test_streams_of_the_process_and_of_its_children() -> None:
    script = """
import os, subprocess, sys
from daypass_runner.scrub import Guard, Scrubber
key = os.environ["KEY"]
guard = Guard(Scrubber([key]))
print("out", key)
sys.stdout.flush()
os.write(2, b"x" * 200000 + key.encode() + b"y" * 200000)  # no line ends in this
subprocess.run(["sh", "-c", 'printf "child %s" "$KEY"'])
guard.finish()
"""
    environment = {**os.environ, "KEY": KEY, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert done.stdout == f"out {MARK}\nchild {MARK}".encode()
    assert done.stderr == b"x" * 200000 + MARK.encode() + b"y" * 200000
