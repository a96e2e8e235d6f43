"""python -m uniperceiver"""

import sys

from uniperceiver.cli import main

if __name__ == "__main__":
    sys.exit(main())
