from pathlib import Path

import pytest

from ticketing.errors import StartupError
from ticketing.settings import RateLimit, Settings

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(**overrides: object) -> str:
    with pytest.raises(StartupError) as refused:
        Settings.load(**overrides)
    return str(refused.value)


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.load()
    assert settings.database_url is None
    assert settings.jwt_secret is None
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 3000, 1)
    assert (settings.data_dir, settings.log_dir) == (Path("data"), Path("logs"))
    assert settings.log_level == "INFO"


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("TICKETING_PORT=1\nTICKETING_WORKERS=2\nTICKETING_HOST=::1\n")
    monkeypatch.setenv("TICKETING_PORT", "3")
    monkeypatch.setenv("TICKETING_WORKERS", "4")
    settings = Settings.load(port=5, workers=None)
    assert (settings.port, settings.workers, settings.host) == (5, 4, "::1")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETING_DATABASE_URL", "")
    monkeypatch.setenv("TICKETING_PORT", "")
    settings = Settings.load()
    assert settings.database_url is None
    assert settings.port == 3000


def test_variables_of_other_programs_in_the_file_are_ignored() -> None:
    Path(".env").write_text("COMPOSE_PROJECT_NAME=x\nTICKETING_PORT=4321\n")
    assert Settings.load().port == 4321


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("LIMIT_BOOKINGS", value) for value in ("60", "60/60", "0/60s", "60/0s", "-1/1s", "x")),
        ("RATE_LIMIT_STORE", "redis"),
        ("RATE_LIMITS", "perhaps"),
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("WORKERS", "two"),
        ("POOL_SIZE", "1"),
        ("TOKEN_LIFETIME", "1e9"),
        ("TOKEN_LIFETIME", "899"),
        ("TOKEN_LIFETIME", "3601"),
        ("REFRESH_LIFETIME", "3599"),
        ("SESSION_LIFETIME", "3599"),
        ("JWT_PREVIOUS_SECRETS", f"{SECRET} xyzzy"),
        ("BCRYPT_ROUNDS", "3"),
        ("LOG_LEVEL", "loud"),
        ("HEADER_TIMEOUT", "0"),
        ("BODY_TIMEOUT", "601"),
        ("KEEP_ALIVE", "0"),
        ("MAX_CONNECTIONS", "0"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "xyzzy.example"),
        ("CORS_ORIGINS", "https://xyzzy.example/"),
        ("CORS_ORIGINS", "https://XYZZY.example"),
        ("CORS_ORIGINS", "https://xyzzy.example:443"),
        ("CORS_ORIGINS", "http://xyzzy.example:80"),
        ("CORS_ORIGINS", "https://ada@xyzzy.example"),
        ("CORS_ORIGINS", "https://*.xyzzy.example"),
        ("CORS_ORIGINS", "https://tickets.example,"),
        ("TRUSTED_PROXIES", "xyzzy"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "10.0.0.1,,"),
        ("ROOT_PATH", "/"),
        ("ROOT_PATH", "xyzzy"),
        ("ROOT_PATH", "//xyzzy"),
        ("ROOT_PATH", "/xyzzy//a"),
        ("ROOT_PATH", "/xyzzy/../a"),
        ("ROOT_PATH", "/xyzzy?a"),
        ("ROOT_PATH", "/xyzzy a"),
        ("ROOT_PATH", "/xyzzy%2fa"),
        ("ROOT_PATH", "https://xyzzy.example/a"),
        ("ROOT_PATH", "/api/xyzzy"),
        ("ROOT_PATH", "/" + "xyzzy" * 40),
        ("JWT_SECRET", "xyzzy"),
        ("JWT_SECRET", SECRET[1:]),
        ("DATABASE_URL", "mysql://ada:xyzzy@host/tickets"),
        ("DATABASE_URL", "postgresql:tickets"),
        ("MIGRATION_DATABASE_URL", "mysql://ada:xyzzy@host/tickets"),
        ("DATABASE_URL", "postgresql://ada:xyzzy/plugh@host/tickets"),
        ("DATABASE_URL", "postgresql://ada:xyzzy@plugh@host/tickets"),
        ("DATABASE_URL", "postgresql://ada@host:xyzzy/tickets"),
        ("DATABASE_URL", "postgresql://ada@[xyzzy/tickets"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line_without_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TICKETING_{name}", value)
    message = refusal()
    assert message.startswith(f"TICKETING_{name}: ")
    assert "\n" not in message
    assert not any(word in message for word in ("xyzzy", "plugh", SECRET[1:], "mysql"))


def test_a_wrong_flag_is_named_as_it_was_given() -> None:
    assert refusal(workers=65).startswith("--workers: ")


@pytest.mark.parametrize("where", ["variable", "file"])
def test_a_misspelt_setting_is_refused(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "file":
        Path(".env").write_text("TICKETING_PROT=1\n")
    else:
        monkeypatch.setenv("TICKETING_PROT", "1")
    assert refusal() == "TICKETING_PROT: there is no such setting"


def test_a_file_that_is_no_text_is_named() -> None:
    Path(".env").write_bytes(b"TICKETING_HOST=\xff\n")
    message = refusal()
    assert message.startswith(".env can't be read: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:sword%2Ffish@host:5433/tickets?sslmode=require",
        "postgres:///tickets?host=/run/postgresql",
        "postgresql+asyncpg://ada@[::1]/tickets",
    ],
)
def test_every_spelling_of_an_address_is_accepted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKETING_DATABASE_URL", url)
    database_url = Settings.load().database_url
    assert database_url is not None
    assert database_url.get_secret_value() == url


def test_settings_never_show_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETING_JWT_SECRET", SECRET)
    monkeypatch.setenv("TICKETING_DATABASE_URL", "postgresql://ada:swordfish@host/tickets")
    settings = Settings.load()
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == SECRET
    assert SECRET not in f"{settings!r} {settings}"
    assert "swordfish" not in f"{settings!r} {settings}"


def test_previous_secrets_are_separated_by_spaces_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.load().jwt_previous_secrets == ()
    monkeypatch.setenv("TICKETING_JWT_PREVIOUS_SECRETS", f" {SECRET}\n{SECRET[::-1]} ")
    settings = Settings.load()
    kept = [secret.get_secret_value() for secret in settings.jwt_previous_secrets]
    assert kept == [SECRET, SECRET[::-1]]
    assert SECRET not in f"{settings!r} {settings}"


def test_a_secret_is_measured_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETING_JWT_SECRET", "ü" * 16)
    assert Settings.load().jwt_secret is not None


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Settings.load().cors_origins, Settings.load().trusted_proxies) == ((), ())
    monkeypatch.setenv("TICKETING_CORS_ORIGINS", "https://a.example, http://[::1]:8080")
    monkeypatch.setenv("TICKETING_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    settings = Settings.load()
    assert settings.cors_origins == ("https://a.example", "http://[::1]:8080")
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]


def test_a_slash_at_the_end_of_a_prefix_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().root_path is None
    for given in ("/shop/tickets", "/shop/tickets/"):
        monkeypatch.setenv("TICKETING_ROOT_PATH", given)
        assert Settings.load().root_path == "/shop/tickets"


def test_limits_have_a_short_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETING_LIMIT_BOOKINGS", " 5/10s ")
    monkeypatch.setenv("TICKETING_RATE_LIMITS", "off")
    settings = Settings.load()
    assert settings.limit_bookings == RateLimit(5, 10)
    assert settings.limit_requests == RateLimit(6000, 60)
    assert settings.rate_limits == "off"


def test_a_line_of_the_file_that_sets_nothing_is_named() -> None:
    Path(".env").write_text("TICKETING_PORT=4000\nthis is no setting\n")
    assert refusal() == ".env: line 2 is not NAME=value"
