"""`python -m segqa`."""

from segqa.cli import main

main()
