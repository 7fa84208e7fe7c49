"""Keys of the REST service: shown once, stored hashed, revocable.

A key is `evk_ID_SECRET`. The id is no secret: it names the key in lists and logs. The secret is 256
random bits, so that one round of SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pipeline.errors import UsageError
from store.service.database import Row, ServiceDatabase, now_utc

Scope: TypeAlias = Literal["submit", "read", "query", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""`submit` what creates or stops something, `read` what shows something, `query` SQL, `admin` all
of it, also on what other keys have made."""

_FORM = re.compile(r"evk_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")
SECRETS = re.compile(r"evk_[A-Za-z0-9]*_?[A-Za-z0-9_-]*")
"""Whatever looks like a key, or a part of one, for whoever has to leave it out."""
ADMIN = "api.admin_key"
"""The name of the key that is set by the setting of this name."""
_NOBODY = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. Times are UTC."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: str
    revoked_at: str | None

    def allows(self, scope: Scope) -> bool:
        """Whether the holder may do what needs a scope."""
        return scope in self.scopes or "admin" in self.scopes


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Read `submit,read`.

    Raises:
        UsageError: none is named, or one that is unknown.
    """
    named = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in named if name not in SCOPES]
    if unknown or not named:
        what = f"unknown scope {unknown[0]!r}" if unknown else "no scope is named"
        raise UsageError(f"--scope {text}: {what}; the scopes are {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in named)


def create_key(database: ServiceDatabase, scopes: Sequence[Scope], name: str) -> tuple[Key, str]:
    """Make a key; returns it with its text, which is stored nowhere and shown once."""
    key_id = secrets.token_hex(4)
    secret = secrets.token_urlsafe(32)
    key = Key(key_id, name, tuple(scopes), now_utc(), None)
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, NULL)",
            (key_id, name, _hash(secret), ",".join(scopes), key.created_at),
        )
    return key, f"evk_{key_id}_{secret}"


def set_admin_key(database: ServiceDatabase, text: str) -> Key:
    """Have a key of the caller's own that may do everything; it takes the place of the one that was set
    like this before, which is revoked.

    Raises:
        UsageError: it has not the form of a key, was revoked, or has the id of another key.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"setting '{ADMIN}': a key is evk_ID_SECRET, with 8 of a-z and 0-9 and 43 of A-Z, a-z, 0-9, "
            "'-' and '_'; sh scripts/make-secrets.sh makes one. Yours is not shown here"
        )
    key_id, secret = match.groups()
    with database.transaction() as connection:
        # Whoever has the id keeps it; below it is looked at whether that is this key.
        connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?, 'admin', ?, NULL) ON CONFLICT (key_id) DO NOTHING",
            (key_id, ADMIN, _hash(secret), now_utc()),
        )
    key = find_key(database, text.strip())
    if key is None or key.name != ADMIN:
        raise UsageError(f"setting '{ADMIN}': another key has its id, {key_id}; make a new one")
    if key.revoked_at is not None:
        raise UsageError(
            f"setting '{ADMIN}': the key {key_id} was revoked at {key.revoked_at}; make a new one"
        )
    with database.transaction() as connection:
        connection.execute(
            "UPDATE keys SET revoked_at = ? WHERE name = ? AND key_id <> ? AND revoked_at IS NULL",
            (now_utc(), ADMIN, key_id),
        )
    return key


def list_keys(database: ServiceDatabase) -> list[Key]:
    """All keys, revoked ones too, the oldest first."""
    rows = database.rows(
        "SELECT key_id, name, scopes, created_at, revoked_at FROM keys ORDER BY created_at, key_id"
    )
    return [_key(row) for row in rows]


def revoke_key(database: ServiceDatabase, key_id: str) -> Key:
    """Revoke a key from now on; one that is revoked already stays so.

    Raises:
        UsageError: there is no key with this id.
    """
    with database.transaction() as connection:
        connection.execute(
            "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE key_id = ?",
            (now_utc(), key_id),
        )
        row = connection.execute(
            "SELECT key_id, name, scopes, created_at, revoked_at FROM keys WHERE key_id = ?",
            (key_id,),
        ).fetchone()
    if row is None:
        shown = SECRETS.sub("(a whole key)", key_id)
        raise UsageError(
            f"no key has the id {shown!r}; `evoloom keys list` shows them. The id is the part "
            "between the two underscores of evk_ID_SECRET"
        )
    return _key(row)


def find_key(database: ServiceDatabase, text: str) -> Key | None:
    """The key with this text, revoked ones too; None for any other text.

    Takes the same time for a wrong secret, however much of it is right, and for an unknown id.
    """
    match = _FORM.fullmatch(text)
    key_id, secret = match.groups() if match else ("", "")
    rows = database.rows(
        "SELECT key_id, name, scopes, created_at, revoked_at, hash FROM keys WHERE key_id = ?",
        (key_id,),
    )
    stored = rows[0][5] if rows else _NOBODY
    is_same = hmac.compare_digest(_hash(secret), stored)
    return _key(rows[0]) if rows and is_same else None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _key(row: Row) -> Key:
    scopes = tuple(scope for scope in SCOPES if scope in str(row[2]).split(","))
    return Key(row[0], row[1], scopes, row[3], row[4])
