"""`python -m ticketing` is the `ticketing` command."""

from ticketing.cli import main

if __name__ == "__main__":
    main()
