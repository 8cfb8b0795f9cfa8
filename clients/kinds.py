"""The kinds of clients: each is generated, compiled, and run against a service."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic.alias_generators import to_snake

from clients.tools import Command, FailedError, Tools, run

PROGRAMS: Final = Path(__file__).parent / "programs"
CONFIG: Final = PROGRAMS.parent / "openapi-python-client.yaml"
"""Media types of files that the generator does not know."""
ANNOTATIONS: Final = ("Generated", "Nonnull", "Nullable")
"""Stubs of `jakarta.annotation`, because the Java client only names them."""

Kind = Callable[[Tools, Path, Path, str], None]
"""Generates a client from a document in an empty folder, and books with it at a service."""


def openapi_python_client(tools: Tools, document: Path, folder: Path, url: str) -> None:
    """Python, with its own HTTP client."""
    made = folder / "made"
    generate: Command = [tools.py("openapi-python-client"), "generate", "--fail-on-warning"]
    generate = [*generate, "--config", CONFIG]
    # The generator runs a formatter.
    path = {"PATH": f"{tools.python / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    run([*generate, "--path", document, "--output-path", made], env=_with(path))
    _has_all(document, made.rglob("api/*/*.py"), to_snake)
    _run_python(tools, "client.py", made, folder, url)


def datamodel_code_generator(tools: Tools, document: Path, folder: Path, url: str) -> None:
    """Pydantic's models, without a client."""
    made = folder / "made"
    made.mkdir()
    generate: Command = [
        tools.py("datamodel-codegen"),
        "--formatters",
        "builtin",
        "--input",
        document,
    ]
    kind = ["--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel"]
    run([*generate, *kind, "--output", made / "ticketing_models.py"])
    _run_python(tools, "models.py", made, folder, url)


def _run_python(tools: Tools, program: str, made: Path, folder: Path, url: str) -> None:
    shutil.copy(PROGRAMS / program, folder)
    path = {"MYPYPATH": str(made), "PYTHONPATH": str(made)}
    run([tools.py("mypy"), "--strict", program], folder, _with(path))
    run([tools.py("python"), program, url], folder, _with(path))


def openapi_generator_typescript_fetch(
    tools: Tools, document: Path, folder: Path, url: str
) -> None:
    """TypeScript, with `fetch`."""
    options = "--additional-properties=importFileExtension=.js"
    _openapi_generator(tools, "typescript-fetch", document, folder / "generated", options)
    _has_all(document, folder.rglob("apis/*.ts"), "{}Raw".format)
    _run_typescript(tools, "fetch.ts", folder, url)


def openapi_typescript(tools: Tools, document: Path, folder: Path, url: str) -> None:
    """TypeScript's types, with openapi-fetch."""
    # Otherwise a request needs each member that has a default.
    lenient = "--default-non-nullable=false"
    run([tools.js("openapi-typescript"), document, "--output", folder / "generated.d.ts", lenient])
    _has_all(document, folder.rglob("*.ts"), str)
    _run_typescript(tools, "typed.ts", folder, url)


def _run_typescript(tools: Tools, program: str, folder: Path, url: str) -> None:
    # Imports are searched for in the folders above the program.
    here = tools.node / folder.name
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(folder, here)
    shutil.copy(PROGRAMS / program, here)
    strict = ["--strict", "--skipLibCheck", "--types", "node"]
    plan = ["--target", "es2022", "--module", "nodenext", "--outDir", "out"]
    run([tools.js("tsc"), *strict, *plan, program], here)
    run(["node", (here / "out" / program).with_suffix(".js"), url], here)


def openapi_generator_go(tools: Tools, document: Path, folder: Path, url: str) -> None:
    """Go."""
    _openapi_generator(
        *(tools, "go", document, folder / "ticketing"),
        *("--additional-properties=packageName=ticketing", "--git-repo-id=ticketing"),
    )
    _has_all(document, folder.rglob("api_*.go"), lambda each: f"{each[0].upper()}{each[1:]}Execute")
    module = folder / "ticketing/go.mod"
    _, _, rest = module.read_text().partition("\n")
    module.write_text("module ticketing\n" + rest)
    shutil.copy(PROGRAMS / "main.go", folder)
    needs = "require ticketing v0.0.0\nreplace ticketing => ./ticketing\n"
    (folder / "go.mod").write_text(f"module clients\n\ngo 1.23\n\n{needs}")
    alone = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-mod=mod"}
    run([tools.py("go"), "vet", "ticketing"], folder, _with(alone))
    run([tools.py("go"), "run", ".", url], folder, _with(alone))


def openapi_generator_java(tools: Tools, document: Path, folder: Path, url: str) -> None:
    """Java, with the HTTP client of the JDK."""
    _openapi_generator(
        *(tools, "java", document, folder / "made", "--library", "native"),
        # Otherwise it sends each list that the program leaves out as an empty one.
        "--additional-properties=containerDefaultToNull=true",
        "--additional-properties=openApiNullable=false,useJakartaEe=true",
    )
    _has_all(document, folder.rglob("api/*.java"), "{}WithHttpInfo".format)
    for name in ANNOTATIONS:
        said = (
            'String[] value() default {}; String date() default ""; String comments() default "";'
        )
        source = folder / f"made/src/main/java/jakarta/annotation/{name}.java"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f"package jakarta.annotation;\npublic @interface {name} {{ {said} }}\n")
    shutil.copy(PROGRAMS / "Book.java", folder)
    sources = folder / "sources.txt"
    made = (folder / "made/src/main").rglob("*.java")
    sources.write_text("\n".join(f'"{source}"' for source in (*made, folder / "Book.java")))
    run(["javac", "-nowarn", "-cp", tools.jar, "-d", folder / "out", f"@{sources}"])
    run(["java", "-cp", f"{tools.jar}:{folder / 'out'}", "Book", url])


def _openapi_generator(
    tools: Tools, kind: str, document: Path, folder: Path, *options: str
) -> None:
    generate: Command = [tools.py("openapi-generator-cli"), "generate", "-g", kind]
    run([*generate, "-i", document, "-o", folder, *options])


def _has_all(document: Path, made: Iterable[Path], named: Callable[[str], str]) -> None:
    """Raise FailedError unless the files have each operation, `named` by its id."""
    words = {word for file in made for word in re.findall(r"\w+", f"{file} {file.read_text()}")}
    paths = json.loads(document.read_bytes())["paths"]
    ids = [operation["operationId"] for item in paths.values() for operation in item.values()]
    if lost := [each for each in ids if named(each) not in words]:
        raise FailedError(f"the client has no {', '.join(lost)}")


def _with(more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **more}


KINDS: Final[tuple[Kind, ...]] = (
    *(openapi_python_client, datamodel_code_generator),
    *(openapi_generator_typescript_fetch, openapi_typescript),
    *(openapi_generator_go, openapi_generator_java),
)
