"""Triton's own client, `infer` of the Open Inference Protocol: binary tensors, its default, and JSON."""

from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton
from given import DOCUMENTS, QUERY, URL, show
from tritonclient.utils import InferenceServerException

LONGEST = 4000  # characters; this route refuses longer texts and blank ones
PLACES = [place for place, text in enumerate(DOCUMENTS) if text.strip() and len(text) <= LONGEST]


def inputs(texts, binary):
    """Return the tensors of a query and candidates."""
    found = []
    for name, values in (("query", [QUERY]), ("candidate", texts)):
        tensor = triton.InferInput(name, [len(values)], "BYTES")
        tensor.set_data_from_numpy(np.array([value.encode() for value in values], dtype=object), binary_data=binary)
        found.append(tensor)
    return found


def ranked(client, binary, **options):
    """Return the documents' places and scores, best first; check that labels and model come along."""
    answer = client.infer("qi", inputs([DOCUMENTS[place] for place in PLACES], binary), **options)
    assert answer.get_response()["model_name"].startswith("tiny-qi")
    assert set(answer.as_numpy("label").tolist()) <= {0, 1}
    return sorted(zip(PLACES, answer.as_numpy("score").tolist(), strict=True), key=lambda each: -each[1])


def refusal(client):
    """Return the message that the client shows of a refused request."""
    try:
        client.infer("qi", inputs([" "], binary=True))
    except InferenceServerException as error:
        return error.message()


client = triton.InferenceServerClient(urlsplit(URL).netloc, network_timeout=120)
json_outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in ("score", "label")]
metadata = client.get_model_metadata("qi")
show(
    "tritonclient",
    {
        "binary": ranked(client, binary=True),
        "json": ranked(client, binary=False, outputs=json_outputs),
        "by version": ranked(client, binary=True, model_version=metadata["versions"][0]),
        "compressed": ranked(client, binary=True, request_compression_algorithm="gzip"),
        "refusal": refusal(client),
        "ready": client.is_model_ready("qi"),
        "inputs": [each["name"] for each in metadata["inputs"]],
    },
)
