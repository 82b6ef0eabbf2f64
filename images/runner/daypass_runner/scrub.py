"""Takes secret values out of everything that leaves the run: streams, logs, the message."""

import base64
import collections
import html
import json
import os
import re
import threading
import urllib.parse
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, AnyStr, Generic

MARK = "[secret]"
# Shorter values stand in texts by chance; to replace them would destroy results and hide nothing.
_SHORTEST = 4
_SHORTEST_PART = 8
# Texts are cut by those who pass them on: the beginning of a value counts as much as the whole.
_HEAD = 12
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?$", re.IGNORECASE)
_CHUNK = 65536


def values_in(environment: dict[str, str], names: Iterable[str]) -> list[str]:
    """Values of the variables that are said to be secret, and of those whose name says so (`MAX_TOKENS=1024` aside)."""
    told = [environment[name] for name in names if environment.get(name)]
    guessed = [value for name, value in sorted(environment.items()) if _SECRET_NAME.search(name)]
    return told + [value for value in guessed if len(value) >= _SHORTEST_PART]


def _parts(value: str) -> Iterator[str]:
    """What may show up alone: lines of a PEM file, members of a JSON document."""
    yield value
    yield value.strip()
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_PART)
    try:
        document = json.loads(value)
    except ValueError:
        return
    queue = [document] if isinstance(document, dict | list) else []
    while queue:
        item = queue.pop()
        if isinstance(item, str) and len(item) >= _SHORTEST_PART:
            yield item
            yield from (line.strip() for line in item.splitlines() if len(line.strip()) >= _SHORTEST_PART)
        elif isinstance(item, dict | list):
            queue.extend(item.values() if isinstance(item, dict) else item)


def _forms(part: str) -> Iterator[str]:
    """How a value may be written."""
    data = part.encode("utf-8", "surrogateescape")
    yield part
    for ascii_only in (True, False):
        once = json.dumps(part, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield once.replace("/", "\\/")
        # JSON within JSON: logs hold requests and answers as texts.
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
    yield repr(part)[1:-1]
    yield html.escape(part)
    yield urllib.parse.quote(data)
    yield from (quote(data, safe="") for quote in (urllib.parse.quote, urllib.parse.quote_plus))
    yield data.hex()
    yield data.hex().upper()
    for ahead in range(3):
        # In a longer text that was encoded as a whole, as in `user:key`, the value begins at any of three places; what
        # its neighbours have a share in is left out.
        encoded = base64.b64encode(b"\0" * ahead + data).decode().rstrip("=")
        cut = encoded[-(-ahead * 8 // 6) :]
        if (ahead + len(data)) % 3:
            cut = cut[:-1]
        yield cut
        yield cut.replace("+", "-").replace("/", "_")


class _Forms(Generic[AnyStr]):
    """All that is looked for, as texts or as bytes."""

    def __init__(self, forms: Iterable[AnyStr], mark: AnyStr):
        self._mark = mark
        self._by_head: dict[AnyStr, list[AnyStr]] = collections.defaultdict(list)
        for form in forms:
            self._by_head[form[:_HEAD]].append(form)
        # The longest first: of two values, one may begin with the other.
        heads = sorted(self._by_head, key=len, reverse=True)
        bar = "|" if isinstance(mark, str) else b"|"
        self.pattern = re.compile(bar.join(map(re.escape, heads))) if heads else None

    def sub(self, text: AnyStr) -> AnyStr:
        """The text with a mark in place of each form, and of what a cut has left of one."""
        if not self.pattern:
            return text
        kept: list[AnyStr] = []
        at = 0
        while found := self.pattern.search(text, at):
            kept += [text[at : found.start()], self._mark]
            at = max(found.start() + _common(form, text, found.start()) for form in self._by_head[found[0]])
        return self._mark[:0].join([*kept, text[at:]]) if kept else text


def _common(form: AnyStr, text: AnyStr, at: int) -> int:
    """How many characters of the form stand at that place."""
    if text.startswith(form, at):
        return len(form)
    return next((i for i in range(len(form)) if text[at + i : at + i + 1] != form[i : i + 1]), len(form))


class Scrubber:
    """Replaces values in texts, in bytes, and in whole documents."""

    def __init__(self, values: Iterable[str]):
        forms = {form for value in values for part in _parts(value) for form in _forms(part)}
        kept = sorted(form for form in forms if len(form) >= _SHORTEST)
        encoded = [form.encode("utf-8", "surrogateescape") for form in kept]
        self._text = _Forms(kept, MARK)
        self._bytes = _Forms(encoded, MARK.encode())
        self.longest = max(map(len, encoded), default=0)

    def text(self, text: str) -> str:
        """The text without any value."""
        return self._text.sub(text)

    def bytes(self, data: bytes) -> bytes:
        """The same for bytes."""
        return self._bytes.sub(data)

    def has(self, data: bytes) -> bool:
        """Whether a value stands in there."""
        return bool(self._bytes.pattern and self._bytes.pattern.search(data))

    def value(self, value: Any) -> Any:
        """The same for every text in a document, names of members included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(item) for name, item in value.items()}
        return value

    def file(self, data: bytes) -> bytes:
        """The same for a file's content: in a JSON document text by text, so that it stays one."""
        if not self.has(data):
            return data
        try:
            data = json.dumps(self.value(json.loads(data)), ensure_ascii=False).encode("utf-8", "surrogatepass")
        except ValueError:
            pass
        return self.bytes(data)


class Guard:
    """Lets everything that this process and its children write to standard output and error pass a scrubber."""

    def __init__(self, scrubber: Scrubber):
        self._scrubber = scrubber
        self._pumps = [(number, self._start(number)) for number in (1, 2)]

    def _start(self, number: int) -> threading.Thread:
        target = os.dup(number)
        source, sink = os.pipe()
        os.dup2(sink, number)
        os.close(sink)
        thread = threading.Thread(target=self._pump, args=(source, target), daemon=True)
        thread.start()
        return thread

    def _pump(self, source: int, target: int) -> None:
        pending = b""
        while chunk := os.read(source, _CHUNK):
            pending += chunk
            end = max(pending.rfind(b"\n"), pending.rfind(b"\r")) + 1
            if not end and len(pending) > _CHUNK:
                # No line ends here: hold back what may be the beginning of a value.
                pending = self._scrubber.bytes(pending)
                end = max(len(pending) - self._scrubber.longest, 0)
            self._write(target, self._scrubber.bytes(pending[:end]))
            pending = pending[end:]
        self._write(target, self._scrubber.bytes(pending))

    @staticmethod
    def _write(target: int, data: bytes) -> None:
        while data:
            data = data[os.write(target, data) :]

    def finish(self, seconds: float = 2.0) -> None:
        """Writes out what is still on its way. A child that lives on may hold its end open: there is a limit."""
        for number, thread in self._pumps:
            os.close(number)
            thread.join(seconds)


def clean_folder(folder: Path, scrubber: Scrubber) -> int:
    """Rewrites the logs below a folder that hold a value, and returns how many there were."""
    count = 0
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file() and not path.is_symlink():
            try:
                count += _clean_archive(path, scrubber) if path.suffix == ".eval" else _clean_file(path, scrubber)
            except Exception as error:
                # Cut off while it was written, encrypted, or no room for the clean one: it is not known to hold no value,
                # and the score does not depend on it.
                print(f"daypass: a log was taken away, as it could not be cleaned: {type(error).__name__}", flush=True)
                _aside(path).unlink(missing_ok=True)
                path.unlink()
                count += 1
    return count


def _clean_file(path: Path, scrubber: Scrubber) -> bool:
    data = path.read_bytes()
    clean = scrubber.file(data)
    if clean != data:
        _replace(path, clean)
    return clean != data


def _clean_archive(path: Path, scrubber: Scrubber) -> bool:
    # Teaches zipfile the compression of these logs; without it they can neither be read nor cleaned.
    import inspect_ai.log  # noqa: F401

    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
    cleaned = [scrubber.file(data) for _, data in members]
    if all(clean == data for clean, (_, data) in zip(cleaned, members, strict=True)):
        return False
    aside = _aside(path)
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
        for (member, _), clean in zip(members, cleaned, strict=True):
            archive.writestr(scrubber.text(member.filename), clean)
    aside.replace(path)
    return True


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _replace(path: Path, data: bytes) -> None:
    aside = _aside(path)
    aside.write_bytes(data)
    aside.replace(path)
