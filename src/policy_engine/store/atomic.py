"""Write a file so that a reader, or a crash, sees the old content or the new one and nothing between."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the content of a file; a symbolic link keeps pointing where it points.

    The content has reached the disk when this returns.

    Raises:
        OSError: It could not be written; the file is as it was.
    """
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as draft:
        name = Path(draft.name)
        try:
            draft.write(content)
            draft.flush()
            name.chmod(mode)
            os.fsync(draft.fileno())
            name.replace(target)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
    _sync_directory(target.parent)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
