"""World-in-Novel-View: feed-forward novel view synthesis from ordinary video."""

__version__ = "0.1.0"
