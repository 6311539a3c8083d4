"""Cohere's own client: v1, v2 and asynchronous."""

import asyncio

import cohere
from given import DOCUMENTS, QUERY, URL, show


def found(answer):
    return [[each.index, each.relevance_score] for each in answer.results]


def objects():
    return [{"title": text, "id": str(place)} for place, text in enumerate(DOCUMENTS)]


async def asynchronous():
    async with cohere.AsyncClientV2(api_key="any", base_url=URL) as client:
        return await client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)


cases = {"async": found(asyncio.run(asynchronous()))}
with cohere.ClientV2(api_key="any", base_url=URL) as client:
    cases["v2"] = found(client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=4096))
    if hasattr(cohere, "RerankRelevantSpans"):
        spans = cohere.RerankRelevantSpans(mode="disabled")
        answer = client.rerank(model="any", query=QUERY, documents=DOCUMENTS, relevant_spans=spans, priority=3)
        cases["v2 spans"] = found(answer)
with cohere.Client(api_key="any", base_url=URL) as client:
    cases["v1"] = found(client.rerank(model="any", query=QUERY, documents=DOCUMENTS, max_chunks_per_doc=10))
    answer = client.rerank(model="any", query=QUERY, documents=objects(), rank_fields=["title"], return_documents=True)
    assert [each.document.id for each in answer.results] == [str(each.index) for each in answer.results]
    cases["v1 fields"] = found(answer)
show("cohere", cases)
