"""Tell the config files that this user's `hwr` wrote from files that came from elsewhere.

The last line of such a file is a comment with a keyed hash (HMAC-SHA256) of the rest. The key is a file of this user, in
$XDG_STATE_HOME/hwr or ~/.local/state/hwr. It never leaves the machine, so nobody else can make a file that names paths here.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import uuid
from pathlib import Path

from hwr import Error
from hwr.system import files

_SIZE = 32
_MARK = "# written by hwr for this user: "


def _key_file() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home, "hwr", "key")


def _key(create: bool) -> bytes | None:
    """The user's key; None if there is none, or it can't be made."""
    path = _key_file()
    with contextlib.suppress(Error):
        if len(found := files.read_bytes(path, _SIZE)) == _SIZE:
            return found
    if not create:
        return None
    temporary = path.with_name(f".key.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(_SIZE))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(temporary, path)  # fails if another process was faster: its key counts
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        pass
    except OSError:  # no home, or one that can't be written to: then nothing is signed
        return None
    return _key(create=False)


def signed(text: str) -> str:
    """The text with its signature as the last line; without one where this user has no place for a key."""
    key = _key(create=True)
    return text if key is None else f"{text}{_MARK}{_digest(key, text)}\n"


def is_signed(path: Path) -> bool:
    """Whether `signed` made the content of a file, for this user, and nobody has changed it since."""
    try:
        content, mark, found = files.read_text(path).rpartition(_MARK)
    except Error:
        return False
    key = _key(create=False) if mark else None
    return key is not None and hmac.compare_digest(_digest(key, content).encode(), found.rstrip("\n").encode())


def _digest(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
