"""Tools that run in the runtime itself, because they call other services or tell of this process.

What looks into a stranger's bytes is in `services.runtime.toolbox` and runs in a jail.
"""
