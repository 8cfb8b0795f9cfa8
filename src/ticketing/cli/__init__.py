"""The `ticketing` command, with one module per subcommand."""
