"""A command's process: lines for a reader that may have gone, files whole or not at all, Ctrl-C."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TextIO

#: Files that are being written.
_unfinished: set[Path] = set()


def own(interrupted: int) -> None:
    """End with that code at once when interrupted, also amid compiled code; print no warnings."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # who runs the command wants it otherwise
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        while reader.recv(1)[0] != signal.SIGINT:
            pass
        discard_unfinished()
        os._exit(interrupted)

    threading.Thread(target=watch, daemon=True).start()
    signal.set_wakeup_fd(writer.fileno())
    # Python's own would print a traceback; this one keeps the socket open.
    signal.signal(signal.SIGINT, lambda *_: writer.fileno())


def say(text: str) -> None:
    """Print to the standard output; that nobody reads on is no error.

    Raises
    ------
    OSError
        If it can't be written, as on a full disk.
    """
    _write(sys.stdout, f"{text}\n")


def complain(text: str) -> None:
    """Print to the standard error, if there is one."""
    with suppress(OSError):
        _write(sys.stderr, f"{text}\n")


def flush() -> None:
    """Write what argparse has printed to the standard output."""
    _write(sys.stdout, "")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed by who runs the command
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # What is left in its buffer must not fail again when Python ends.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(f"can't write the output: {error.strerror}") from error


def check_target(path: str | Path) -> None:
    """Check that a file can be written there, before anything is computed.

    Raises
    ------
    OSError
        If it is a folder, its folder is missing, or it isn't allowed.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file, or leave what was there.

    Raises
    ------
    OSError
        If it can't be written, as on a full disk.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".patchsim-{os.getpid()}.part")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device or a pipe, which is not to be replaced
            return
        _unfinished.add(part)
        part.write_bytes(data)
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        raise OSError(f"can't write {path}: {error.strerror}") from error
    finally:
        discard_unfinished()


def discard_unfinished() -> None:
    """Remove files that are being written."""
    for part in list(_unfinished):
        with suppress(OSError):
            part.unlink(missing_ok=True)
        _unfinished.discard(part)
