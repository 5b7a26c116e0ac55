"""The key that signs short-lived tokens: set, or a file of this machine's own."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from models.errors import BadSetting, SetupFailed
from models.tokens import KEY_CHARACTERS_MIN

VARIABLE = "DARKROOM_TOKEN_KEY"
FILE = "token.key"


def signing_key(setting: str, home: Path) -> str:
    """The key that is set, else the one in `home`, made when first asked for, which only its owner may read.

    Gateways on several machines need the same one, so there it must be set.
    Raises BadSetting: the file holds no key. SetupFailed: it cannot be read or made.
    """
    if setting:
        return setting
    path = home / FILE
    try:
        key = _read(path) if path.exists() else _make(path)
    except OSError as error:
        raise SetupFailed(f"the key in {path} cannot be had ({error}); set {VARIABLE}") from None
    if len(key) < KEY_CHARACTERS_MIN:
        raise BadSetting(VARIABLE, f"is not set, and {path} holds no key; remove that file")
    return key


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


def _make(path: Path) -> str:
    """Written aside and then linked: whoever comes second, or reads meanwhile, gets the first one's, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
    finally:
        aside.unlink()
    return _read(path)
