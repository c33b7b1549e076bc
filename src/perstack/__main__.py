"""`python -m perstack` is the `perstack` command."""

from perstack.cli.main import main

raise SystemExit(main())
