"""The one error of this package."""


class DataError(ValueError):
    """A data set is unknown, missing, damaged, or not what its name says."""
