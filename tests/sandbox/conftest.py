"""A look-alike with a clock of its own, keys made for this run, and servers on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from midas.sandbox.app import SandboxOptions, SandboxServer
from midas.sandbox.ledger import Lookalike
from tests.sandbox.shop import APP_ID, Clock, Shop


@dataclass(frozen=True)
class KeyPair:
    """An RSA key pair in PEM."""

    private: str
    public: str


def make_key_pair() -> KeyPair:
    """A new key pair."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(private.decode(), public.decode())


@pytest.fixture(scope="session")
def merchant_keys() -> KeyPair:
    """The merchant's key pair."""
    return make_key_pair()


@pytest.fixture(scope="session")
def sandbox_keys() -> KeyPair:
    """The look-alike's key pair."""
    return make_key_pair()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def shop(clock: Clock) -> Shop:
    """A merchant with a fresh look-alike."""
    return Shop(Lookalike(APP_ID, now=clock.now, rng_seed=1))


@pytest.fixture
async def server(sandbox_keys: KeyPair) -> AsyncIterator[SandboxServer]:
    """A running sandbox that wants no request signatures."""
    options = SandboxOptions(signing_private_key=sandbox_keys.private, rng_seed=1)
    async with SandboxServer(options) as running:
        yield running


@pytest.fixture
async def http(server: SandboxServer) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client with the right key."""
    headers = {"Authorization": f"Bearer {server.options.key()}"}
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(server.url, headers=headers, timeout=timeout) as session:
        yield session
