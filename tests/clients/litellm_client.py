"""LiteLLM's rerank with its providers for Cohere v1 and v2, Jina, TEI, Infinity and vLLM."""

import litellm
from given import DOCUMENTS, QUERY, URL, show

providers = {
    "cohere v2": {"model": "cohere/rerank-v3.5", "api_base": f"{URL}/v2/rerank"},
    "cohere v1": {"model": "cohere/rerank-v3.5", "api_base": f"{URL}/v1/rerank"},
    "jina": {"model": "jina_ai/qi", "api_base": URL},  # drops the path, so its model decides
    "tei": {"model": "huggingface/any", "api_base": URL},
    "infinity": {"model": "infinity/any", "api_base": f"{URL}/v1", "return_documents": False},
    "vllm": {"model": "hosted_vllm/any", "api_base": f"{URL}/v1"},
}


def ranked(provider):
    answer = litellm.rerank(query=QUERY, documents=DOCUMENTS, top_n=len(DOCUMENTS), api_key="any", **provider)
    return [[each["index"], each["relevance_score"]] for each in answer.results]


show("litellm", {name: ranked(provider) for name, provider in providers.items()})
