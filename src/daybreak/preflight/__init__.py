"""What stands in the way of a migration, found before anything is touched: ``daybreak check``."""

from daybreak.preflight.run import run_checks

__all__ = ["run_checks"]
