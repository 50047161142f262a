"""cellcount: counts a hematology laboratory can defend, from folders of smear images."""

__version__ = "0.1.0"

__all__ = ["__version__"]
