"""Files and what is inside those that are archives."""

import zipfile
from collections.abc import Iterator
from pathlib import Path


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, and what is inside archives."""
    # Teaches zipfile the compression of Inspect's logs, which otherwise nothing is found in.
    import inspect_ai.log  # noqa: F401

    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
        if path.suffix == ".eval":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path}!{name}", archive.read(name)
