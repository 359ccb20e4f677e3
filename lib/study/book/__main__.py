"""`python -m lib.study.book`."""

import sys

from lib.study.book.binding import main

sys.exit(main())
