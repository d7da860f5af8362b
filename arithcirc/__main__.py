"""`python -m arithcirc`."""

from arithcirc.cli.main import main

main()
