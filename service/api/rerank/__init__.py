"""The request and answer shapes of other rerankers (Cohere, Jina, TEI), and texts out of their documents.

Must not know HTTP limits or keys; those hold for every route.
"""
