"""What runs inside a worker process: zygote, jail, Lua VM and the one bridge between them.

Imports the standard library, `lupa` and `services.runtime.frames`, nothing else of ours: a process
that runs strangers' code needs no gRPC and no keys, and must hold neither.
"""
