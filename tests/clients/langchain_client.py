"""LangChain's document compressors for Cohere and Jina."""

from given import DOCUMENTS, QUERY, URL, show
from langchain_cohere import CohereRerank
from langchain_community.document_compressors import jina_rerank
from langchain_core.documents import Document

documents = [Document(page_content=text, metadata={"place": place}) for place, text in enumerate(DOCUMENTS)]


def found(ranked):
    return [[each.metadata["place"], each.metadata["relevance_score"]] for each in ranked]


cohere = CohereRerank(cohere_api_key="any", model="rerank-v3.5", base_url=URL, top_n=None)
jina_rerank.JINA_API_URL = f"{URL}/v1/rerank"  # it has no setting for this
jina = jina_rerank.JinaRerank(jina_api_key="any", model="jina-reranker-v2", top_n=len(documents))
plain = [[each["index"], each["relevance_score"]] for each in cohere.rerank(documents, QUERY, top_n=None)]
cases = {"cohere": plain, "jina": found(jina.compress_documents(documents, QUERY))}
show("langchain-cohere", cases)
