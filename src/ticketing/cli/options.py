"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ticketing.errors import StartupError
from ticketing.settings import Settings


def option(field: str, told: str) -> Any:  # noqa: ANN401 - typer's own
    """Return the option for a setting. Its help shows the setting's variable and default."""
    default = Settings.model_fields[field].default
    return typer.Option(help=f"{told} [TICKETING_{field.upper()}, else {default}]")


DataDir = Annotated[Path | None, option("data_dir", "Folder of the embedded PostgreSQL.")]


def load(data_dir: Path | None, **overrides: object) -> Settings:
    """Return the settings. Raises StartupError if one is wrong or contradicts another."""
    settings = Settings.load(data_dir=data_dir, **overrides)
    if data_dir is not None and settings.database_url is not None:
        raise StartupError("--data-dir: can't be used, because TICKETING_DATABASE_URL is set")
    if settings.pooler != "none" and settings.database_url is None:
        raise StartupError("TICKETING_POOLER: needs TICKETING_DATABASE_URL")
    return settings
