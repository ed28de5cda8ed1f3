"""Fill TimescaleDB hypertables with history, while an application keeps writing to them."""

__version__ = "0.1.0"

__all__ = ["__version__"]
