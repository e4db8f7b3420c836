"""How applications find the primary: adapters of ``ports.Router``."""
