"""One sweep at a time in a folder: `lock.json` names the process that works there, and shows that it is alive.

The file is made with O_EXCL, so of two sweeps that start together one is refused, by the other's process id and host.
A thread renews its time every few seconds. A lock is stale, and taken over, when its process is gone (on this host:
nothing runs under its id, or something that started at another time) or, on another host, when it was not renewed for
ten minutes; clocks that differ by less than that do no harm.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from arithcirc.errors import EnvironmentFailure, RunConflictError

LOCK = "lock.json"
STALE_SECONDS = 600.0
"""Without a renewal for so long, another host's lock no longer counts."""
RENEWED_EVERY = 15.0


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises RunConflictError when another sweep holds it, EnvironmentFailure for the disk."""
    file, mine = folder / LOCK, _me()
    _take(file, mine)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(file, ended), name="sweep-lock", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        if _read(file) == mine:
            file.unlink(missing_ok=True)


def _me() -> dict[str, Any]:
    """Who holds a lock: this process, since when."""
    process = psutil.Process()
    return {
        "pid": process.pid,
        "host": socket.gethostname(),
        "born": round(process.create_time(), 2),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _take(file: Path, mine: dict[str, Any]) -> None:
    for _ in range(3):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w") as made:
                json.dump(mine, made)
            return
        except FileExistsError:
            if file.parent.is_file():
                raise RunConflictError(f"{file.parent} is a file, not a sweep's folder: choose another --out") from None
            _remove_stale(file)
        except NotADirectoryError:
            raise RunConflictError(f"{file.parent} is inside a file: choose another --out") from None
        except OSError as error:
            raise EnvironmentFailure(
                f"cannot write {file}: {error.strerror}; make room there or choose another --out"
            ) from None
    raise RunConflictError(f"{file.parent} was taken by another sweep at the same moment: try again")


def _remove_stale(file: Path) -> None:
    """Put a dead sweep's lock aside. Raises RunConflictError when it may be alive."""
    held, age = _read(file), _age(file)
    if held is None and age is not None and age < 2:  # it is being written just now
        time.sleep(0.2)
        held, age = _read(file), _age(file)
    if age is None:
        return
    if held is not None and not _dead(held, age):
        raise RunConflictError(
            f"{file.parent} is in use by another sweep (process {held['pid']} on {held['host']}, since "
            f"{held['started']}): wait for it, or choose another --out; if that process is gone, delete {file}"
        )
    aside = file.with_name(f"{LOCK}.{os.getpid()}.stale")
    with contextlib.suppress(FileNotFoundError):
        file.rename(aside)
        if _read(aside) != held and not file.exists():  # somebody was faster and this is theirs
            aside.rename(file)
    aside.unlink(missing_ok=True)


def _dead(held: dict[str, Any], age: float) -> bool:
    """Whether the process that holds a lock no longer runs."""
    if held["host"] != socket.gethostname():
        return age > STALE_SECONDS
    try:
        return bool(abs(psutil.Process(held["pid"]).create_time() - held["born"]) > 1)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _read(file: Path) -> dict[str, Any] | None:
    """What a lock says; None when it is gone or damaged."""
    try:
        held = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) and {"pid", "host", "born", "started"} <= set(held) else None


def _age(file: Path) -> float | None:
    """Seconds since a lock was renewed; None when it is gone."""
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return None


def _renew(file: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEWED_EVERY):
        with contextlib.suppress(OSError):
            os.utime(file)
