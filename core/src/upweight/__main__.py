"""`python -m upweight`: the command line."""

import sys

from upweight.cli import main

if __name__ == "__main__":
    sys.exit(main())
