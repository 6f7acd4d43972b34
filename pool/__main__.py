"""`python -m pool COMMAND`."""

import sys

from pool.cli import main

sys.exit(main())
