"""Entity tags: conditional requests (RFC 9110, section 13)."""

import re
from collections.abc import Mapping
from typing import Final

NOT_MODIFIED: Final = 304
TAG: Final = re.compile(r'(W/)?"([!#-~\x80-\xff]*)"')
ANY: Final = "*"


def is_known(headers: Mapping[bytes, bytes], method: str, etag: str) -> bool:
    """Whether If-None-Match says that the client already has the version with this ETag."""
    said = headers.get(b"if-none-match")
    if said is None or method not in {"GET", "HEAD"}:
        return False
    given = said.decode("latin-1")
    return given.strip() == ANY or any(f'"{tag}"' == etag for _, tag in TAG.findall(given))
