"""`python -m services.runtime` runs the runtime process."""

import sys

from services.common.server import main
from services.runtime.server import build

if __name__ == "__main__":
    sys.exit(main("runtime", build))
