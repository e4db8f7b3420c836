"""Where record and journal are kept: adapters of ``ports.StateStore``."""
