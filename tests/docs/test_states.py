"""The table of what each state of a sale allows is that of the code."""

from pathlib import Path

from ticketing.sale.inventory.terms import ALLOWED

API = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_the_table_of_states_is_that_of_the_code() -> None:
    _, table = API.read_text().split("| `sale.state` | when |")
    rows = [line.strip("|").split("|") for line in table.split("\n\n")[0].splitlines()[2:]]
    shown = {row[0].strip(" `"): [cell.strip() == "yes" for cell in row[2:]] for row in rows}
    assert shown == {str(state): list(allowed) for state, allowed in ALLOWED.items()}
