"""The feedback log's HTTP side: what is logged of a scored request, and the route that takes clicks and judgements.

Must not know files, or the shapes of the requests that are logged.
"""
