"""Addresses that libpq accepts are accepted, and others are refused with a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ticketing.database_address import (
    ENVIRONMENT,
    LACKING,
    LACKING_ENVIRONMENT,
    NUMBERS,
    Address,
    Host,
)

H1, H2, H3 = (Host(f"h{number}", 5432) for number in (1, 2, 3))
FOLDER = Host("/run/postgresql", 5432)
Setenv = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def setenv(monkeypatch: pytest.MonkeyPatch) -> Setenv:
    for name in (*ENVIRONMENT.values(), *LACKING_ENVIRONMENT.values()):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def refusal(text: str) -> str:
    with pytest.raises(ValueError, match=r"^(must|has|names) ") as refused:
        Address.parse(text)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("spelt", "hosts"),
    [
        ("u:p@h1:5432,h2:5432,h3:5432/db", [H1, H2, H3]),
        ("u:p@h1,h2,h3/db", [H1, H2, H3]),
        ("h1:6000,h2/db", [Host("h1", 6000), H2]),
        ("/db?host=h1,h2,h3", [H1, H2, H3]),
        ("/db?host=h1&host=h2", [H1, H2]),
        ("/db?host=h1&host=h2&port=1&port=2", [Host("h1", 1), Host("h2", 2)]),
        ("/db?host=h1,h2&port=1,2", [Host("h1", 1), Host("h2", 2)]),
        ("/db?host=h1,h2&port=1,", [Host("h1", 1), H2]),
        ("/db?host=h1,h2&port=6000", [Host("h1", 6000), Host("h2", 6000)]),
        ("/db?host=h1:6000&host=h2", [Host("h1", 6000), H2]),
        ("/db?host=h1%2Ch2", [H1, H2]),
        ("h1,h2/db?port=6000", [Host("h1", 6000), Host("h2", 6000)]),
        ("h1/db?host=h2", [H2]),
        ("[::1]/db", [Host("::1", 5432)]),
        ("[::1]:6000,[fe80::2]/db", [Host("::1", 6000), Host("fe80::2", 5432)]),
        ("/db?host=::1", [Host("::1", 5432)]),
        ("/db?host=[::1]:6000,h2", [Host("::1", 6000), H2]),
        ("%2Frun%2Fpostgresql/db", [FOLDER]),
        ("%2Frun%2Fpostgresql:6000,h2/db", [Host(FOLDER.name, 6000), H2]),
        ("/db?host=/run/postgresql", [FOLDER]),
        ("/db?host=%2Frun%2Fpostgresql,h2", [FOLDER, H2]),
        ("", [Host("", 5432)]),
        ("/db", [Host("", 5432)]),
        (":6000/db", [Host("", 6000)]),
        ("/db?port=6000", [Host("", 6000)]),
        ("u@/db?host=", [Host("", 5432)]),
        ("h1/db\n", [H1]),
        ("h1/db?port=6000& ", [Host("h1", 6000)]),
    ],
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_hosts_are_read_in_every_spelling(scheme: str, spelt: str, hosts: list[Host]) -> None:
    assert list(Address.parse(f"{scheme}://{spelt}").hosts) == hosts


@pytest.mark.parametrize(
    "spelt",
    [
        "ada:sword%2Ff%40sh@h1/tickets",
        "ada:sword%2Ff%40sh@/tickets",
        "/?user=ada&password=sword%2Ff@sh&dbname=tickets",
        "bob:no@h1/other?user=ada&password=sword/f@sh&database=tickets",
    ],
)
def test_user_password_and_database_are_read_from_every_place(spelt: str) -> None:
    address = Address.parse(f"postgresql://{spelt}")
    assert (address.user, address.password, address.database) == ("ada", "sword/f@sh", "tickets")


def test_the_driver_gets_the_other_parameters() -> None:
    address = Address.parse(
        "postgresql://a%3A:b+%25@h/t%2Fx?sslmode=require&options=-c%20geqo%3Doff"
    )
    assert address.dsn == "postgresql://a%3A:b%2B%25@/t%2Fx?sslmode=require&options=-c%20geqo%3Doff"
    assert Address.parse("postgresql://h").dsn == "postgresql://@"
    assert Address.parse("postgresql://h/db?ssl=true").dsn == "postgresql://@/db?sslmode=require"


def test_parameters_that_the_service_sets_and_values_without_effect_are_left_out() -> None:
    said = "application_name=me&fallback_application_name=me&client_encoding=auto"
    harmless = "&".join(f"{name}={value}" for name, some in LACKING.items() for value in some)
    assert Address.parse(f"postgresql://h/db?{said}").options == {}
    for pair in harmless.split("&"):
        assert Address.parse(f"postgresql://h/db?{pair}").options == {}


@pytest.mark.parametrize("name", sorted(LACKING))
def test_parameters_that_the_driver_does_not_support_are_refused_by_name(name: str) -> None:
    assert refusal(f"postgresql://h/db?{name}=xyzzy").startswith(f"has {name}, which")


@pytest.mark.parametrize("name", sorted(LACKING_ENVIRONMENT))
def test_what_the_driver_lacks_is_refused_where_the_environment_demands_it(
    setenv: Setenv, name: str
) -> None:
    variable = LACKING_ENVIRONMENT[name]
    setenv(variable, "xyzzy")
    assert refusal("postgresql://h/db").startswith(f"has {name} by {variable}, which")
    for harmless in LACKING[name]:
        assert Address.parse(f"postgresql://h/db?{name}={harmless}").options == {}
        setenv(variable, harmless)
        assert Address.parse("postgresql://h/db").options == {}


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_numbers_are_numbers(name: str) -> None:
    assert Address.parse(f"postgresql://h/db?{name}=7").numbers[name] == 7
    assert Address.parse("postgresql://h/db").numbers == NUMBERS
    assert refusal(f"postgresql://h/db?{name}=xyzzy") == f"has {name}, which must be a number"


@pytest.mark.parametrize(
    "spelt",
    [
        *("ada:xyzzy/plugh@host/db", "ada:12/plugh@host/db", "ada:xyzzy@plugh@host/db"),
        *("ada@host:xyzzy/db", "ada@[xyzzy/db", "ada@host:0/db", "ada@host:99999/db"),
        *("ada@host:1:2/db", "ada@host/db?xyzzy", "ada@host/db?=xyzzy", "ada@host/db?xy-zzy=1"),
        *(
            "ada:%00xyzzy@host/db",
            "ada:%ffxyzzy@host/db",
            "/db?host=ho[st",
            "ada@host/db?port=xyzzy",
        ),
        *("h1,h2/db?port=1,2,3", "h1,,h2/db", "/db?host=h1,", "h1,h2/db?port=1,xyzzy"),
        *(f"{'xyzzy' * 13}/db", "xyzzy..example/db", "h1,.xyzzy/db"),
        *("host/db?target_session_attrs=xyzzy", "%40xyzzy/db", "h/db?xyzzy=1&xyzzy=2"),
    ],
)
def test_a_wrong_address_is_refused_and_not_repeated(spelt: str) -> None:
    said = refusal(f"postgresql://{spelt}")
    assert not any(word in said for word in ("xyzzy", "plugh", "ada"))


@pytest.mark.parametrize("text", ["mysql://ada@host/db", "postgresql:db", "host=h dbname=db", ""])
def test_a_text_that_is_no_url_is_refused(text: str) -> None:
    assert refusal(text).startswith("must look like postgresql://")


@pytest.mark.parametrize(
    ("spelt", "shown"),
    [
        ("ada:swordfish@h1:6000,h2/db", "ada:***@h1:6000,h2/db"),
        ("ada@[::1]:6000/db?password=swordfish&sslpassword=swordfish", "ada:***@[::1]:6000/db"),
        ("/db?host=/run/pg,h2", "/db?host=/run/pg,h2"),
        ("/db?host=/run/pg,h2&port=1,5432", "/db?host=/run/pg,h2&port=1,5432"),
        ("ada:swordfish@/db", "ada:***@/db"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password(spelt: str, shown: str) -> None:
    address = Address.parse(f"postgresql://{spelt}")
    assert str(address) == f"postgresql://{shown}"
    assert "swordfish" not in repr(address)


def test_environment_variables_replace_missing_parameters(setenv: Setenv) -> None:
    setenv("PGHOST", "h1,h2")
    setenv("PGPORT", "6000")
    setenv("PGTARGETSESSIONATTRS", "any")
    setenv("PGCONNECT_TIMEOUT", "7")
    setenv("PGOPTIONS", "-c geqo=off")
    address = Address.parse("postgresql:///db")
    assert list(address.hosts) == [Host("h1", 6000), Host("h2", 6000)]
    assert (address.role, address.numbers["connect_timeout"]) == ("any", 7)
    assert address.options == {"options": "-c geqo=off"}
    said = "target_session_attrs=standby&connect_timeout=3&port=1"
    address = Address.parse(f"postgresql://h3/db?{said}")
    assert list(address.hosts) == [Host("h3", 1)]
    assert (address.role, address.numbers["connect_timeout"]) == ("standby", 3)


@pytest.mark.parametrize("way", ["the address", "the environment"])
def test_a_service_file_replaces_missing_parameters(
    tmp_path: Path, setenv: Setenv, way: str
) -> None:
    file = tmp_path / "services"
    file.write_text("# ours\n[tickets]\nhost=h1,h2\nport=6000\nuser=ada\npassword=sword%fish\n")
    setenv("PGHOST", "h3")
    if way == "the environment":
        setenv("PGSERVICE", "tickets")
        setenv("PGSERVICEFILE", str(file))
        address = Address.parse("postgresql:///db?user=bob")
    else:
        address = Address.parse(f"postgresql:///db?user=bob&service=tickets&servicefile={file}")
    assert list(address.hosts) == [Host("h1", 6000), Host("h2", 6000)]
    assert (address.user, address.password, address.role) == ("bob", "sword%fish", "primary")
    assert address.options == {}


def test_a_service_that_is_missing_or_unreadable_is_named(tmp_path: Path, setenv: Setenv) -> None:
    file = tmp_path / "services"
    setenv("PGSERVICEFILE", str(file))
    assert refusal("postgresql:///?service=xyzzy") == f"names a service that is not in {file}"
    for broken in ("host", "ldap://h1/plugh", "service=plugh", "ho-st=plugh"):
        file.write_text(f"[xyzzy]\n{broken}\n")
        said = f"names a service, and {file} can't be read"
        assert refusal("postgresql:///?service=xyzzy") == said


def test_a_service_is_read_whatever_the_file_says_of_others(tmp_path: Path) -> None:
    file = tmp_path / "services"
    other = "ldap://h9/x\nhost=h8\nhost=h9\n"
    ours = "\n  # ours\nhost = h1\nhost=h2\npassword=a;b#c=[d]\ndbname=\n"
    file.write_text(f"host=h9\n[other]\n{other}[tickets]\n{ours}[tickets]\nport=1\n[last]\n{other}")
    address = Address.parse(f"postgresql://?service=tickets&servicefile={file}")
    assert list(address.hosts) == [H1]
    assert (address.password, address.database) == ("a;b#c=[d]", "")
