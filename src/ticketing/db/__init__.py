"""The database: connections, statements, tables, migrations, the combiner and the clock."""
