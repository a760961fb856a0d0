"""The bodies of the tools, each execution in a jailed process of its own.

Imports no service and no wire: the standard library, the libraries that tools use, the frames and
the sandbox of the workers. What a tool may reach is a `Desk`.
"""
