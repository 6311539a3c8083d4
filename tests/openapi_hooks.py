"""What schemathesis cannot know of the service: how lines of a bulk request are written, and what is served."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Write a text as it is, and as the query of a whole line behind it."""
    text = value if isinstance(value, str) else json.dumps(value)
    whole = json.dumps({"query": text or "a", "candidate": text or "b"})
    return f"{text}\n{whole}\n".encode("utf-8", "surrogatepass")


def named(values):
    """Put a served task in the place of most names, which would otherwise nearly all be unknown."""
    if isinstance(values, dict):
        for key in ("task", "model", "name"):
            if isinstance(values.get(key), str) and len(values[key]) % 4:
                values[key] = "qc"
    return values


@schemathesis.hook
def map_body(context, body):
    """Name served tasks in bodies."""
    return named(body)


@schemathesis.hook
def map_query(context, query):
    """Name served tasks in the address."""
    return named(query)


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Name served models in paths."""
    return named(path_parameters)
