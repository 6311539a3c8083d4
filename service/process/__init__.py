"""The server process: sockets, HTTP parsing limits, TLS, signals and shutdown.

Must not know what a model is; it runs the ASGI application of `api`.
"""
