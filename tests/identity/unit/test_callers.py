import time
from uuid import UUID

import pytest

from ticketing.identity.callers import REVOKED_FOR, AccessList

ADA, PHONE = UUID(int=1), UUID(int=2)


def test_a_revoked_credential_is_forgotten_when_it_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = AccessList()
    access.revoke([PHONE])
    later = time.monotonic() + REVOKED_FOR + 1
    monkeypatch.setattr("ticketing.identity.callers.time.monotonic", lambda: later)
    access.revoke([ADA])
    assert list(access.revoked) == [ADA]
