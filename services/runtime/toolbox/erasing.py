"""Removes a folder and all in it: however deep it is, and whatever becomes of it meanwhile."""

from __future__ import annotations

import contextlib
import os
import secrets

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ERASED = ".erased-"
"""How names of what is being removed begin; no tenant is called so."""
_ROUNDS_MAX = 1000
"""How often a folder that is never empty, because someone fills it, is looked at again."""


def erase(parent: int, name: str) -> int:
    """Remove the folder `name` of the folder with this descriptor; tells how many entries went.

    Inner folders are lifted into `parent` under names that nobody can guess and emptied there, so
    that neither recursion nor open descriptors grow with the depth.

    Raises:
        OSError: what the kernel says; what is left can be removed by another call.
    """
    count, rounds = 0, 0
    queue = [name]
    while queue:
        current = queue.pop()
        descriptor = _open(parent, current)
        try:
            lifted, removed = _empty(parent, descriptor)
        finally:
            os.close(descriptor)
        queue += lifted
        count += removed
        try:
            os.rmdir(current, dir_fd=parent)
            count += 1
        except OSError:
            rounds += 1
            if rounds > _ROUNDS_MAX:
                raise
            queue.append(current)
    return count


def _open(parent: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        # Its owner took its own rights away; they can be given back.
        path = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        with contextlib.suppress(OSError):
            os.chmod(f"/proc/self/fd/{path}", 0o700)  # noqa: PTH101 - a descriptor
        os.close(path)
        return os.open(name, _FOLDER, dir_fd=parent)


def _empty(parent: int, descriptor: int) -> tuple[list[str], int]:
    """Folders that were lifted out of one, and how many files were removed."""
    lifted: list[str] = []
    removed = 0
    with os.scandir(descriptor) as entries:
        for entry in entries:
            # What goes by itself meanwhile is gone as well.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    name = f"{ERASED}{secrets.token_hex(16)}"
                    os.rename(entry.name, name, src_dir_fd=descriptor, dst_dir_fd=parent)
                    lifted.append(name)
                else:
                    os.unlink(entry.name, dir_fd=descriptor)
                    removed += 1
    return lifted, removed
