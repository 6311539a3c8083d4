"""A checkpoint as a folder that transformers and vLLM load: a classifier of one output, with our card beside it.

Must not know how vLLM is asked (training.scoring.served), and must not import it.
"""
