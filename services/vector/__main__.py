"""`python -m services.vector` runs the vector process."""

import sys

from services.common.server import main
from services.vector.server import build

if __name__ == "__main__":
    sys.exit(main("vector", build))
