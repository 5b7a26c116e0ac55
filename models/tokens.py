"""Tokens as rules: their form, when one is good, and when the list of the good ones must be read again. Pure.

A stored token is `dr_<id>_<secret>`; only the secret's SHA-256 is kept. A slow hash (bcrypt, argon2) makes guessing
dear where secrets are short; these are 32 random bytes, which nobody guesses at any speed, and a slow hash would let
anybody keep a processor busy with made-up tokens.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from models.access import Principal, Scope
from models.errors import WrongUse

SECRET_BYTES = 32
ID_BYTES = 8
# What a token is at most, of any kind: a longer one is refused unread.
TOKEN_CHARACTERS_MAX = 2048
NAME_CHARACTERS_MAX = 100
# Tokens of programs. Each user's own are signed, not stored, and count nowhere.
LIVE_MAX = 1000
# Of the key that signs the others.
KEY_CHARACTERS_MIN = 32

STORED_SCOPES = (Scope.PRODUCER, Scope.DASHBOARD, Scope.OPERATOR)

USER_TTL_S = 900
USER_TTL_S_MAX = 24 * 3600
TICKET_TTL_S = 60

FRESH_S = 2.0
# A token made just now must not wait for FRESH_S: one that nobody knows may have the list read again this early.
UNKNOWN_FRESH_S = 0.5
# Older than this the list is not believed before it has been read again, if Postgres can be asked.
STALE_S = 4.0
GOOD_WITHOUT_POSTGRES_S = 60.0
RETRY_AFTER_FAILURE_S = 2.0

_STORED = re.compile(r"dr_([0-9a-f]{16})_([A-Za-z0-9_-]{43})\Z", re.ASCII)
_NOBODY = bytes(32)


@dataclass(frozen=True)
class StoredToken:
    """A row of `tokens`. `secret_hash` is SHA-256, 32 bytes."""

    token_id: str
    secret_hash: bytes
    scopes: tuple[str, ...]
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether it opens anything at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def token_text(id_bytes: bytes, secret_bytes: bytes) -> tuple[str, str, bytes]:
    """(token, its id, its secret's hash) made from random bytes: ID_BYTES and SECRET_BYTES of them."""
    token_id = id_bytes.hex()
    secret = base64.urlsafe_b64encode(secret_bytes).rstrip(b"=").decode()
    return f"dr_{token_id}_{secret}", token_id, hash_of(secret)


def parts_of(token: str) -> tuple[str, str] | None:
    """(id, secret) of a stored token, None for anything of another form."""
    match = _STORED.match(token)
    return None if match is None else (match[1], match[2])


def hash_of(secret: str) -> bytes:
    """SHA-256 of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def principal_in(live: Mapping[str, StoredToken], token: str, now: datetime) -> Principal | None:
    """Whose stored token this is, None when it opens nothing.

    An unknown id is compared too, with a hash that nothing has, so that the time taken does not tell ids.
    """
    parts = parts_of(token)
    if parts is None:
        return None
    token_id, secret = parts
    stored = live.get(token_id)
    is_same = hmac.compare_digest(hash_of(secret), _NOBODY if stored is None else stored.secret_hash)
    if stored is None or not is_same or not stored.is_live(now):
        return None
    return Principal(token_id, frozenset(Scope(scope) for scope in stored.scopes if scope in STORED_SCOPES))


def checked_scopes(names: Collection[str]) -> tuple[str, ...]:
    """The scopes of a token to be made, each once. Raises WrongUse: none, or one that cannot be given."""
    for name in names:
        if name not in STORED_SCOPES:
            raise WrongUse(f"there is no scope {name!r} to give; there are: {', '.join(STORED_SCOPES)}")
    if not names:
        raise WrongUse(f"name at least one scope of: {', '.join(STORED_SCOPES)}")
    return tuple(scope.value for scope in STORED_SCOPES if scope in names)


def checked_name(name: str) -> str:
    """What a token is called. Raises WrongUse: too long, or not to be shown."""
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise WrongUse(f"name: must be at most {NAME_CHARACTERS_MAX} printable characters")
    return name


def checked_ttl_s(ttl_s: int | None) -> int:
    """How long a user's token lives. Raises WrongUse."""
    if ttl_s is None:
        return USER_TTL_S
    if not 1 <= ttl_s <= USER_TTL_S_MAX:
        raise WrongUse(f"ttl_s: must be 1 to {USER_TTL_S_MAX} seconds")
    return ttl_s


@dataclass(frozen=True)
class Plan:
    """What a check does about the list of live tokens: read it anew or not, wait for that or not, fail or not."""

    read: bool = False
    wait: bool = False
    fail: bool = False


def plan_for(age_s: float | None, *, is_known: bool, since_failure_s: float | None) -> Plan:
    """`age_s`: of the list, None when there is none; `since_failure_s`: None when the last reading went well."""
    is_usable = age_s is not None and age_s <= GOOD_WITHOUT_POSTGRES_S
    if since_failure_s is not None:
        may_read = since_failure_s >= RETRY_AFTER_FAILURE_S
        # Who has a list does not wait for a Postgres that was away a moment ago.
        return Plan(read=may_read, wait=may_read and not is_usable, fail=not may_read and not is_usable)
    if age_s is None or age_s > STALE_S:
        return Plan(read=True, wait=True)
    if not is_known and age_s > UNKNOWN_FRESH_S:
        return Plan(read=True, wait=True)
    return Plan(read=age_s > FRESH_S)
