"""The verifiers of docs/ticket-code.md, against codes of the service, and against each other."""

import base64
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ticketing.door import base45, codes

PAGE = (Path(__file__).parents[3] / "docs" / "ticket-code.md").read_text()
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
SAID = {
    "event": 2**53 - 1,
    "ticket": "019938a5-9d21-7f01-a3b4-5c6d7e8f9a0b",
    "generation": 3,
    "from": 0,
    "until": 2**32 - 1,
}
CODE = codes.write(codes.Claims(7, 2**53 - 1, UUID(str(SAID["ticket"])), 3, 0, 2**32 - 1), KEY)
MAIN = """
const [keySet, given] = process.argv.slice(2).map((name) => JSON.parse(readFileSync(name)));
console.log(JSON.stringify(await Promise.all(given.map((code) => verify(code, keySet)))));
"""


def example(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert len(found.splitlines()) <= 40
    return str(found)


def wrong() -> list[str]:
    seed = random.Random(3)
    data = base45.decode(CODE.removeprefix(codes.PREFIX))
    flipped = [bytearray(data) for _ in range(60)]
    for each in flipped:
        each[seed.randrange(len(data))] ^= 1 << seed.randrange(8)
    other = codes.write(codes.Claims(7, 1, UUID(int=1), 1), Ed25519PrivateKey.generate())
    return [
        *(codes.PREFIX + base45.encode(bytes(each)) for each in flipped),
        *("".join(seed.choices(base45.ALPHABET, k=160)) for _ in range(20)),
        *("", "TKT1:", CODE[:-1], f"{CODE}0", f"{CODE[:-1]}a", CODE.lower(), "TKT1:" + ":" * 155),
        *(other, codes.write(codes.Claims(8, 1, UUID(int=1), 1), KEY)),
    ]


NODE = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=NODE)])
def test_a_verifier_of_the_page_accepts_our_codes_and_nothing_else(
    language: str, tmp_path: Path
) -> None:
    x = base64.urlsafe_b64encode(codes.raw(KEY.public_key())).rstrip(b"=").decode()
    key_set = {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "7", "x": x}]}
    given = [CODE, *wrong()]
    (tmp_path / "keys.json").write_text(json.dumps(key_set))
    (tmp_path / "codes.json").write_text(json.dumps(given))
    if language == "python":
        program = tmp_path / "verify.py"
        program.write_text(example(language))
        command = [sys.executable, str(program), "keys.json", *given]
    else:
        program = tmp_path / "verify.mjs"
        head = 'import { readFileSync } from "node:fs";\n'
        program.write_text(head + example(language) + MAIN)
        command = ["node", str(program), "keys.json", "codes.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    assert found == [SAID] + [None] * (len(given) - 1)
