"""All statements, their plans in PostgreSQL, and the scans of the plans."""

import json
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

import ticketing
from ticketing.db.statements import Statement
from ticketing.sale.commit.shape import shapes
from ticketing.sale.commit.write import statement


def statements() -> dict[str, Statement]:
    """Every statement of the service, and a commit of every shape."""
    found = {f"commit {shape}": statement(shape) for shape in shapes()}
    for module in pkgutil.walk_packages(ticketing.__path__, "ticketing."):
        if module.name != "ticketing.__main__":
            for name, value in vars(import_module(module.name)).items():
                if isinstance(value, Statement):
                    found[f"{module.name} {name}"] = value
    return found


async def plan(connection: AsyncConnection, query: Statement) -> dict[str, Any]:
    """Return the generic plan of a prepared statement."""
    nulls = f"({', '.join(['NULL'] * len(query.names))})" if query.names else ""
    await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    await connection.exec_driver_sql(f"PREPARE asked AS {query.sql}")
    explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE asked {nulls}")
    found = explained.scalar_one()
    await connection.exec_driver_sql("DEALLOCATE asked")
    (root,) = json.loads(found) if isinstance(found, str) else found
    top: dict[str, Any] = root["Plan"]
    return top


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def without_index_condition(top: dict[str, Any]) -> list[str]:
    """Return the scans of a table without an index condition."""
    return [
        f"{node['Node Type']} of {node.get('Relation Name') or node.get('Index Name')}"
        for node in nodes(top)
        if (
            node["Node Type"] == "Seq Scan"
            or ("Index" in node["Node Type"] and "Index Cond" not in node)
        )
    ]
