"""User ids at the door: a keyed hash replaces them before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from htcl import storage
from htcl.errors import HTCLError

KEY_VARIABLE = "HTCL_USER_KEY"
KEY_FILE_VARIABLE = "HTCL_USER_KEY_FILE"


def load_user_key(workspace: str) -> bytes:
    """The secret key of the user hash.

    It comes from the environment (HTCL_USER_KEY, or a file named by HTCL_USER_KEY_FILE). A local
    workspace without either gets a random key once, in a file that only its owner can read.

    Raises:
        HTCLError: when there is no key and the workspace is not local.
    """
    if value := os.environ.get(KEY_VARIABLE):
        return value.encode()
    if named := os.environ.get(KEY_FILE_VARIABLE):
        try:
            key = Path(named).read_bytes().strip()
        except OSError as error:
            raise HTCLError(f"{KEY_FILE_VARIABLE} names {named}, which cannot be read: {error.strerror}") from None
        if not key:
            raise HTCLError(f"{KEY_FILE_VARIABLE} names {named}, which is empty; write a random secret into it")
        return key
    if not storage.is_local(workspace):
        raise HTCLError(f"set {KEY_VARIABLE} or {KEY_FILE_VARIABLE}: user ids are hashed with a secret key")
    path = storage.local_path(workspace) / "secrets" / "user.key"
    if path.exists():
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".user.key.{secrets.token_hex(4)}")
    aside.touch(mode=0o600)
    aside.write_text(secrets.token_hex(32))
    try:
        os.link(aside, path)  # the first of two runs wins, and both read its key
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    return path.read_bytes()


def forgotten_users(workspace: str) -> list[int]:
    """Hashes of the users whose events are to be passed over, ascending."""
    uri = _forgotten_uri(workspace)
    return list(json.loads(storage.read_bytes(uri))) if storage.exists(uri) else []


def key_check(key: bytes) -> str:
    """What tells keys of the user hash apart and gives none away."""
    return hashlib.blake2b(b"htcl user key", key=hashlib.sha256(key).digest(), digest_size=8).hexdigest()


def forget_user(workspace: str, user: str) -> None:
    """Put a user on the list of those whose events are passed over from now on, by their keyed hash.

    Raises:
        HTCLError: when the id is empty, or there is no key.
    """
    if not user:
        raise HTCLError("which user? The id is empty")
    (hashed,) = hash_users(pa.array([user]), load_user_key(workspace)).to_pylist()
    users = sorted({*forgotten_users(workspace), hashed})
    storage.write_bytes(_forgotten_uri(workspace), json.dumps(users).encode())


def _forgotten_uri(workspace: str) -> str:
    return storage.join(workspace, "secrets", "forgotten.json")


def hash_users(users: pa.Array, key: bytes) -> pa.Array:
    """Keyed 63-bit hashes of user ids; null stays null.

    Args:
        users: string [n], or words of a dictionary.
        key: the secret of `load_user_key`.

    Returns:
        int64 [n], never negative, so that order as signed and unsigned agree.
    """
    encoded = users if pa.types.is_dictionary(users.type) else users.dictionary_encode()
    short_key = hashlib.sha256(key).digest()
    hashes = np.array([_hash(str(user), short_key) for user in encoded.dictionary.to_pylist()], dtype=np.int64)
    if not len(hashes):
        return pa.nulls(len(users), pa.int64())
    return pa.array(hashes).take(encoded.indices)


@lru_cache(maxsize=1 << 18)
def _hash(user: str, key: bytes) -> int:
    digest = hashlib.blake2b(user.encode(), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
