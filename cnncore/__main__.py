"""``python -m cnncore``."""

from cnncore.cli import main

raise SystemExit(main())
