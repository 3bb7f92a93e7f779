"""`python -m bridge.cli`: how `up` starts its children."""

import sys

from bridge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
