"""The format of a request id. The client checks it and the service accepts no other, so that their logs agree."""

import re

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
