"""`python -m relevance`: the same as the command `relevance`."""

from relevance.cli import main

main()
