"""LlamaIndex's postprocessors for Cohere, TEI and Jina."""

from given import DOCUMENTS, QUERY, URL, show
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

count = len(DOCUMENTS)
rankers = {
    "cohere": CohereRerank(api_key="any", base_url=URL, top_n=count),
    "tei": TextEmbeddingInference(base_url=URL, top_n=count),
    "jina": JinaRerank(api_key="any", base_url=f"{URL}/v1", top_n=count),
}


def ranked(ranker):
    nodes = [NodeWithScore(node=TextNode(id_=str(place), text=text)) for place, text in enumerate(DOCUMENTS)]
    return [[int(each.node_id), each.score] for each in ranker.postprocess_nodes(nodes, query_str=QUERY)]


show("llama-index-core", {name: ranked(ranker) for name, ranker in rankers.items()})
