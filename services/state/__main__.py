"""`python -m services.state` runs the state process."""

import sys

from services.common.server import main
from services.state.server import build

if __name__ == "__main__":
    sys.exit(main("state", build))
