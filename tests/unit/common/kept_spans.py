"""A sink that remembers spans, for the tests of tracing."""


class Kept:
    """A sink that remembers."""

    def __init__(self):
        self.spans = []

    def put(self, span):
        """Take one."""
        self.spans.append(span)

    def close(self):
        """Nothing waits."""
