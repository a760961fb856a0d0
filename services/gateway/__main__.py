"""`python -m services.gateway` runs the gateway process."""

import sys

from services.common.server import main
from services.gateway.server import build

if __name__ == "__main__":
    sys.exit(main("gateway", build))
