"""KServe's own client, REST of the protocol's version 2: health only."""

import asyncio

from given import URL, show
from kserve import InferenceRESTClient, RESTConfig


async def health():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))
    try:
        return {
            "live": await client.is_server_live(URL),
            "ready": await client.is_server_ready(URL),
            "model": await client.is_model_ready(URL, "qi"),
            "other model": await client.is_model_ready(URL, "nothing"),
        }
    finally:
        await client.close()


show("kserve", asyncio.run(health()))
