"""All statements, their plans in PostgreSQL, and the scans of the plans."""

import json
import pkgutil
import re
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


async def unique_indexes(connection: AsyncConnection) -> dict[str, dict[str, set[str]]]:
    """Return the columns of the indexes that find one row at most, by table and index."""
    rows = await connection.exec_driver_sql(
        """
        SELECT indrelid::regclass::text AS of, indexrelid::regclass::text AS index, (
            SELECT array_agg(attname::text) FROM pg_attribute
            WHERE attrelid = indrelid AND attnum = ANY(indkey)
        ) AS columns
        FROM pg_index WHERE indisunique AND indpred IS NULL AND indexprs IS NULL
            AND indrelid >= 16384
        """
    )
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows.mappings():
        found.setdefault(row["of"], {})[row["index"]] = set(row["columns"])
    return found


def past_a_unique_index(
    top: dict[str, Any], unique: dict[str, dict[str, set[str]]]
) -> dict[str, str]:
    """Return the indexes that are read although another would find the one row, and that one."""
    found: dict[str, str] = {}
    for node in nodes(top):
        indexes = unique.get(node.get("Relation Name", ""), {})
        by_index = _compared(node.get("Index Cond", ""))
        known = by_index | _compared(node.get("Filter", ""))
        if "Index Name" in node and not any(each <= by_index for each in indexes.values()):
            better = next((index for index, of in indexes.items() if of <= known), None)
            if better is not None:
                found[node["Index Name"]] = better
    return found


def _compared(condition: str) -> set[str]:
    return set(re.findall(r"[(.](\w+) = ", condition))


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
