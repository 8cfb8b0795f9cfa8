"""The arguments of `python -m clients`, which are looked at before anything is installed."""

import pytest
from clients import __main__ as clients
from clients.tools import Tools


@pytest.fixture(autouse=True)
def _nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("it began to install")

    monkeypatch.setattr(Tools, "_install", refuse)


def test_help_is_shown_instead_of_installing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        clients.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: python -m clients" in shown
    assert "openapi_generator_go" in shown


def test_an_unknown_step_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        clients.main(["redocly", "rust"])
    assert ended.value.code == 2
    assert "there is no step rust: use one of spectral, " in capsys.readouterr().err
