"""Haystack's rankers for Cohere, TEI and Jina."""

from given import DOCUMENTS, LONE_URL, QUERY, URL, show
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.jina import JinaRanker

count, key = len(DOCUMENTS), Secret.from_token("any")
rankers = {
    "cohere": CohereRanker(api_key=key, api_base_url=URL, top_k=count),
    "tei": HuggingFaceTEIRanker(url=LONE_URL, top_k=count, token=key),
    "jina": JinaRanker(api_key=key, base_url=f"{URL}/v1/rerank", top_k=count),
}


def ranked(ranker):
    documents = [Document(id=str(place), content=text) for place, text in enumerate(DOCUMENTS)]
    return [[int(each.id), each.score] for each in ranker.run(query=QUERY, documents=documents)["documents"]]


show("haystack-ai", {name: ranked(ranker) for name, ranker in rankers.items()})
