import pytest

from ticketing.errors import PasswordTooCommon
from ticketing.identity.passwords import Passwords


async def test_a_common_password_is_refused_in_another_encoding_too() -> None:
    passwords = Passwords(4)
    passwords.require_uncommon("e\u0301e\u0301e\u0301e\u0301", "ada")  # however short it becomes
    for common in ("Password", "pASSWORD1", "ADApassword"):
        with pytest.raises(PasswordTooCommon):
            passwords.require_uncommon(common, "Ada")
    await passwords.close()
