"""The documents: working links, short pages, figures of the tools, one word per idea."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TypeGuard

import pytest
from benchmarks.chart import chart
from benchmarks.measures import Summary
from fastapi import FastAPI
from typer.main import get_command

import ticketing
from ticketing import errors
from ticketing.cli.main import cli
from ticketing.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "benchmarks" / "README.md",
        ROOT / "chaos" / "README.md",
    ]
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ")

WRONG = {
    r"\b(?:in|of|joins?|leaves?) the line\b|\bnext in line\b|\bthe line's\b": "waiting list",
    r"\banswer(?:s|ed|ing)?\b": "response, return, respond",
    r"\b(?<!numbered )seats?\b": "place",
    r"\bthe books\b": "recount, counters and rows",
    r"\bintentions?\b": "request",
    r"\b(?:carts?|vouchers?)\b": "hold, offer",
    r"\breservations?\b": "booking",
    r"\bguest users?\b": "customer",
    r"\boutbox\b": "feed",
    r"\bwhoever\b": "the client, the user, the person",
    r"\bparted by\b|\bblanks\b": "separated by spaces",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\btold so\b": "returns, responds",
}
"""Words that are not used, and the words of the glossary that replace them."""


def prose(page: Path) -> str:
    """Return the text of a page without code."""
    return re.sub(r"`[^`\n]*`", "`code`", FENCE.sub("", page.read_text()))


def blocks(text: str) -> Iterator[str]:
    """Yield paragraphs, items of lists and cells of tables, each on one line."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            yield from (cell.strip() for cell in line.strip("|").split("|"))
        if not line.strip() or line.startswith(("|", "#")) or ITEM.match(line):
            yield " ".join(block)
            block = []
        if not line.startswith(("|", "#")):
            block.append(ITEM.sub("", line).strip())


def sentences(page: Path) -> list[str]:
    return [
        sentence.strip("*_( ")
        for block in blocks(prose(page))
        for sentence in re.split(r"(?<=[.!?])\*{0,2} (?=[\[*`(A-Z])", block)
        if sentence
    ]


def anchors(page: Path) -> set[str]:
    """Return the fragments that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    page = ROOT / name
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, fragment = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if fragment:
            assert fragment in anchors(linked), target


@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_reached_from_the_readme(name: str) -> None:
    readme = ROOT / "README.md"
    seen: set[Path] = set()
    todo = [readme]
    while todo:
        page = todo.pop()
        seen.add(page)
        links = [each.partition("#")[0] for each in LINK.findall(page.read_text())]
        linked = [(page.parent / each).resolve() for each in links if each.endswith(".md")]
        todo += [each for each in linked if each in PAGES and each not in seen]
    assert ROOT / name in seen


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_the_documents_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^ *(?:\$ )?)make ([a-z][a-z-]*)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    commands = get_command(cli)
    for command in re.findall(r"(?:`|^ *)ticketing ([a-z][a-z-]*)", text, re.MULTILINE):
        assert command in getattr(commands, "commands"), f"ticketing {command}"  # noqa: B009
    for module in re.findall(r"python -m ((?:benchmarks|chaos|tests)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_in_the_documents_is_one(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert set(re.findall(r"\bTICKETING_[A-Z_]+\b", (ROOT / name).read_text())) <= known


@pytest.mark.parametrize("name", NAMES)
def test_every_error_code_in_the_documents_is_one(name: str) -> None:
    known = {(error.status, error.code) for error in vars(errors).values() if is_error(error)}
    text = (ROOT / name).read_text()
    for status, code in re.findall(r"\b([45]\d\d) `([a-z_]+)`", text):
        assert (int(status), code) in known, f"{status} {code}"


def is_error(value: object) -> TypeGuard[type[errors.TicketingError]]:
    return isinstance(value, type) and issubclass(value, errors.TicketingError)


async def test_every_route_in_the_documents_is_one(app: FastAPI) -> None:
    paths = app.openapi()["paths"] | {"/api/users/token": {"post": "for the button of /docs"}}
    named = {
        (name, method, path)
        for name in NAMES
        for method, path in re.findall(
            r"\b(GET|POST|PUT|PATCH|DELETE) (/(?:[\w{}/-]|\.\w)*)", (ROOT / name).read_text()
        )
    }
    assert len(named) > 30
    unknown = [each for each in named if each[1].lower() not in paths.get(each[2], {})]
    assert unknown == []


def test_exactly_the_events_of_the_log_are_documented() -> None:
    told = set(re.findall(r"`([a-z]+\.[a-z_]+)`", "".join(first_cells_of_logs())))
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    logged = set(re.findall(r"\.(?:info|warning|error)\(\s*\"([a-z]+\.[a-z_]+)\"", source))
    assert len(logged) > 20
    assert logged - told == set()
    # Some names are put together, such as f"booking.{...}".
    assert [
        each
        for each in sorted(told)
        if f'"{each}"' not in source and f'"{each.partition(".")[0]}.{{' not in source
    ] == []


def first_cells_of_logs() -> list[str]:
    page = (ROOT / "docs" / "reference" / "logs.md").read_text()
    return re.findall(r"^\| ([^|]*) \|", page, re.MULTILINE)


def test_nothing_suggests_the_package_of_another_project() -> None:
    assert version("ticketing-engine") == ticketing.__version__
    suffixes = {".md", ".py", ".toml", ".yml", ".txt", ""}
    folders = [ROOT / each for each in ("src", "docs", "deploy", "benchmarks", "chaos")]
    files = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    for path in files:
        if path.is_file() and path.suffix in suffixes and path.name != ".coverage":
            text = path.read_text(errors="replace")
            assert not re.search(r"pip install (-\S+ )*[\"'`]?ticketing(?!-engine)\b", text), path


def test_the_changelog_has_this_version_first_with_its_date() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    unreleased, released = headings[:2]
    assert unreleased == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(ticketing.__version__)}\] - \d{{4}}-\d\d-\d\d", released)


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("name", ["performance", "reliability"])
def test_pages_on_measurements_stay_short(name: str) -> None:
    assert len((ROOT / "docs" / f"{name}.md").read_text().split()) <= 1500


@pytest.mark.parametrize("name", [each for each in NAMES if each.startswith("docs/")])
def test_every_page_opens_with_what_its_reader_can_do_after_it(name: str) -> None:
    assert re.match(r"# .+\n\nAfter this page ", (ROOT / name).read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_sentence_names_its_actor_first(name: str) -> None:
    found = [
        each
        for each in sentences(ROOT / name)
        if re.match(r"(?:(?:Who|Whoever|Whose|Of|What)\b|(?:who|whoever|whose|of) )", each)
        and not each.endswith(("?", "?**"))
    ]
    assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_one_word_stands_for_one_idea(name: str) -> None:
    text = " ".join(blocks(prose(ROOT / name)))
    found = {
        f"{match}: say {instead}"
        for pattern, instead in WRONG.items()
        for match in re.findall(pattern, text, re.IGNORECASE)
    }
    assert found == set()


@pytest.mark.parametrize("stem", ["latest", "full"])
def test_every_chart_is_the_one_that_the_tool_draws_of_its_figures(stem: str) -> None:
    data = json.loads((RESULTS / f"{stem}.json").read_text())
    found = {name: Summary(**each) for name, each in data["contests"].items()}
    drawn = chart(found, f"{data['cores']} cores, {data['python']}")
    assert (RESULTS / f"{stem}.svg").read_text() == drawn


@pytest.mark.parametrize(
    ("page", "results"),
    [
        ("performance", sorted(RESULTS.glob("*.md"))),
        ("reliability", [ROOT / "chaos" / "results" / "faults.md"]),
    ],
)
def test_every_figure_of_a_table_is_one_that_a_tool_wrote(page: str, results: list[Path]) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    section = text.split("## Results")[1].split("\n## ")[0]
    # The first cell of a row names the measurement, and is no figure.
    shown = {
        number
        for row in re.findall(r"^\|.*", section, re.MULTILINE)
        for number in re.findall(r"\d[\d,.]*\d", row.split("|", 2)[2])
    }
    measured = " ".join(path.read_text() for path in results)
    assert len(shown) > 20
    assert (
        sorted(each for each in shown if not re.search(rf"(?<![\d.,]){each}(?![\d])", measured))
        == []
    )
