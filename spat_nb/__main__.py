"`python -m spat_nb` is the console command"

import sys

from spat_nb.app.cli import main

sys.exit(main())
